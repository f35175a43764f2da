"""Rules about slots and labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

SLOTS = ("a", "b")


class ScoringReason(StrEnum):
    """Why a pair got no score."""

    TOO_LONG_FOR_MODEL = "too_long_for_model"
    REFUSED_BY_SERVER = "refused_by_server"


def slot_name(slot: str) -> str:
    """Stage, group and metric label of a slot."""
    return f"scoring-{slot}"


def caught_up(committed: Mapping[int, int], target: Mapping[int, int]) -> bool:
    """Whether every partition's position has passed the end that was recorded at the slot's start."""
    return all(committed.get(partition, 0) >= offset for partition, offset in target.items())
