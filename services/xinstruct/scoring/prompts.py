"""Which template scoring shows to the evaluator. The wording stands in spine/prompts.py: training teaches the same."""

from __future__ import annotations

from xinstruct.spine.prompts import EVALUATOR_PROMPT_VERSIONS, LABELS, Family, evaluator_prompt

__all__ = ["EVALUATOR_PROMPT_VERSIONS", "LABELS", "Family", "evaluator_prompt"]
