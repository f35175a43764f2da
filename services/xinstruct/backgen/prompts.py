"""Which template backgen shows to the generator. The wording stands in spine/prompts.py: training teaches the same."""

from __future__ import annotations

from xinstruct.spine.prompts import GENERATOR_PROMPT_VERSIONS, Family, generator_prompt

__all__ = ["GENERATOR_PROMPT_VERSIONS", "Family", "generator_prompt"]
