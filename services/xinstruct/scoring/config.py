"""Settings of scoring."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xinstruct.spine.config import Settings


class ScoringSettings(Settings):
    """How pairs are labelled. Every field changes data, so all of them enter the stage version."""

    prompt_family: Literal["tiny", "chat"] = Field(
        "chat", description='"tiny" for the small models that the demo trains, "chat" for instruction-following models.'
    )
