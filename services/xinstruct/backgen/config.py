"""Settings of back-generation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xinstruct.spine.config import Settings
from xinstruct.spine.inference import Decoding


class BackgenSettings(Settings):
    """How instructions are drafted. Every field changes data, so all of them enter the stage version."""

    prompt_family: Literal["tiny", "chat"] = Field(
        "chat", description='"tiny" for the small models that the demo trains, "chat" for instruction-following models.'
    )
    instruction_tokens_max: int = Field(128, ge=8, le=1024, description="Tokens of an instruction at most.")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="Sampling temperature; 0 is greedy.")
    seed: int = Field(0, ge=0, description="Sampling seed, sent to the endpoint.")
    instruction_chars_min: int = Field(10, ge=1, description="Shorter drafts are dropped as empty.")
    instruction_chars_max: int = Field(1000, ge=20, description="Longer drafts are dropped as cut_off.")
    copied_ratio_max: float = Field(
        0.5, ge=0.0, le=1.0,
        description="Largest share of an instruction's words that may stand in the response in one row."
    )

    def decoding(self) -> Decoding:
        """What the endpoint is asked for."""
        stop = ("\n",) if self.prompt_family == "tiny" else ()
        return Decoding(self.instruction_tokens_max, temperature=self.temperature, seed=self.seed, stop=stop)
