"""ask and decide of scoring, and the rules of its slots."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from builders import pair as a_pair
from xinstruct.scoring.config import ScoringSettings
from xinstruct.scoring.domain import Calibration, ScoringReason, caught_up
from xinstruct.scoring.stage import stage
from xinstruct.spine.inference import Classified, Classify, Refused
from xinstruct.spine.messages import LabelReading, ScoredPair
from xinstruct.spine.prompts import LABELS
from xinstruct.spine.stage import Emit, Reject, Stage

DIGEST = "sha256:" + "e" * 64


class NoPort:
    """A stage under test is asked directly; nothing is submitted."""

    def submit(self, request: Any) -> Future[Any]:
        raise AssertionError("ask and decide submit nothing")

    def close(self) -> None: ...


def build(slot: str = "a", digest: str = DIGEST, calibration: Calibration | None = None) -> Stage:
    return stage(ScoringSettings(prompt_family="chat"), slot=slot, evaluator_digest=digest, port=NoPort(),
                 calibration=calibration)


def decide(answer: Any, slot: str = "a", digest: str = DIGEST) -> Any:
    pair = a_pair()
    (outcome,) = build(slot, digest).decide(pair.record("pair-drafted-v1"), pair, [answer])
    return outcome


def test_one_question_asks_for_the_three_labels() -> None:
    pair = a_pair()
    (request,) = build().ask(pair.record("pair-drafted-v1"), pair)
    assert isinstance(request, Classify)
    assert (request.role, request.model, request.labels) == ("evaluator", DIGEST, LABELS)
    assert pair.instruction in request.prompt and pair.response in request.prompt


def test_probabilities_keep_the_order_of_the_labels() -> None:
    outcome = decide(Classified((0.7, 0.2, 0.1)))
    assert isinstance(outcome, Emit) and isinstance(outcome.payload, ScoredPair)
    score = outcome.payload
    assert (score.p_best, score.p_reasonable, score.p_worst) == (0.7, 0.2, 0.1)
    assert (score.reading, score.evaluator_digest) == (LabelReading.LOG_PROBABILITY, DIGEST)


def test_a_vote_is_marked_as_one() -> None:
    outcome = decide(Classified((1.0, 0.0, 0.0), votes_count=8))
    assert (outcome.payload.reading, outcome.payload.votes_count) == (LabelReading.VOTE, 8)


def test_a_calibrated_evaluator_weighs_in_the_log_probability_of_the_draft_and_says_so() -> None:
    calibration = Calibration(bias=1.0, log_odds=0.5, log_probability=4.0)
    drafted = replace(a_pair(), mean_log_probability=-0.75)
    (outcome,) = build(calibration=calibration).decide(
        drafted.record("pair-drafted-v1"), drafted, [Classified((0.8, 0.15, 0.05))]
    )
    assert isinstance(outcome, Emit) and isinstance(outcome.payload, ScoredPair)
    score = outcome.payload
    odds = 1.0 + 0.5 * math.log(0.8 / 0.2) - 4.0 * 0.75
    assert score.p_best == pytest.approx(1 / (1 + math.exp(-odds)))
    assert score.p_reasonable == pytest.approx(3 * score.p_worst)
    assert score.p_best + score.p_reasonable + score.p_worst == pytest.approx(1.0)
    assert score.reading == LabelReading.CALIBRATED


@pytest.mark.parametrize(
    ("answer", "log_probability", "reading"),
    [
        (Classified((0.8, 0.15, 0.05)), math.nan, LabelReading.LOG_PROBABILITY),
        (Classified((0.75, 0.25, 0.0), votes_count=8), -0.75, LabelReading.VOTE),
    ],
)
def test_what_cannot_be_calibrated_stays_as_it_was_read(
    answer: Classified, log_probability: float, reading: LabelReading
) -> None:
    drafted = replace(a_pair(), mean_log_probability=log_probability)
    calibrated = build(calibration=Calibration(bias=1.0, log_odds=0.5, log_probability=4.0))
    (outcome,) = calibrated.decide(drafted.record("pair-drafted-v1"), drafted, [answer])
    assert isinstance(outcome, Emit) and isinstance(outcome.payload, ScoredPair)
    score = outcome.payload
    assert ((score.p_best, score.p_reasonable, score.p_worst), score.reading) == (answer.probabilities, reading)


def test_a_pair_too_long_for_the_model_is_rejected() -> None:
    assert decide(Refused("too_long", "x")) == Reject(ScoringReason.TOO_LONG_FOR_MODEL, "x")


def test_either_slot_writes_the_same_id_for_the_same_evaluator() -> None:
    answer = Classified((0.7, 0.2, 0.1))
    assert decide(answer, "a").payload.id == decide(answer, "b").payload.id


def test_another_evaluator_writes_other_ids_and_reads_from_the_beginning() -> None:
    other = "sha256:" + "f" * 64
    answer = Classified((0.7, 0.2, 0.1))
    assert decide(answer).payload.id != decide(answer, digest=other).payload.id
    assert build().position_version != build(digest=other).position_version


def test_a_slot_has_caught_up_when_every_partition_has_passed_its_end() -> None:
    assert caught_up({0: 5, 1: 7}, {0: 5, 1: 7})
    assert not caught_up({0: 5, 1: 6}, {0: 5, 1: 7})
    assert not caught_up({0: 5}, {0: 5, 1: 1})
    assert caught_up({}, {})
    assert caught_up({}, {0: 0})
