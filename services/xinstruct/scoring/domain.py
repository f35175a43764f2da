"""Rules about slots and labels. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PROBABILITY_MIN = 1e-6
"""Probabilities are taken this far from 0 and 1: their log-odds stay finite."""
ODDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What an evaluator's P(best) and the generator's own log-probability of a draft say together.

    log-odds of P(best) = bias + log_odds · log-odds of what was read + log_probability · mean log-probability a token
    """

    bias: float
    log_odds: float
    log_probability: float

    @classmethod
    def parse(cls, text: str) -> Calibration | None:
        """From the JSON object of a model folder; None when it is empty. Raises what json and the call raise."""
        return cls(**json.loads(text)) if text else None

    def applied(self, probabilities: tuple[float, ...], mean_log_probability: float) -> tuple[float, ...]:
        """(best, reasonable, worst), calibrated: their sum stays 1, the last two keep their ratio."""
        best, *others = probabilities
        odds = self.bias + self.log_odds * log_odds(best) + self.log_probability * mean_log_probability
        calibrated = 1.0 / (1.0 + math.exp(-min(max(odds, -ODDS_MAX), ODDS_MAX)))
        rest = sum(others)
        shares = [other / rest for other in others] if rest > 0 else [0.5, 0.5]
        return (calibrated, *((1.0 - calibrated) * share for share in shares))


def log_odds(probability: float) -> float:
    """Of a probability in [0, 1], in nats."""
    inside = min(max(probability, PROBABILITY_MIN), 1.0 - PROBABILITY_MIN)
    return math.log(inside / (1.0 - inside))


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
