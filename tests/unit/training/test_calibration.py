"""A calibration is fitted where training ends and applied where pairs are scored: both sides here."""

from __future__ import annotations

import json
import random

import pytest

from xinstruct.scoring import domain
from xinstruct.scoring.domain import Calibration
from xinstruct.training import job_drafts
from xinstruct.training.job_drafts import fit

Judged = tuple[float, float, bool]


def judged(count: int, *, seed: int, right_ratio: float = 0.8) -> list[Judged]:
    """Drafts of which the evaluator and the log-probability each see half of what is wrong."""
    draw = random.Random(seed)
    rows: list[Judged] = []
    for _ in range(count):
        is_right = draw.random() < right_ratio
        seen = draw.random() < 0.5
        read = draw.uniform(0.05, 0.6) if not is_right and seen else draw.uniform(0.5, 0.99)
        log_probability = draw.uniform(-0.6, -0.1) if not is_right and not seen else draw.uniform(-0.15, 0.0)
        rows.append((read, log_probability, is_right))
    return rows


def fitted(rows: list[Judged]) -> Calibration:
    calibration = Calibration.parse(fit(rows))
    assert calibration is not None
    return calibration


def best(calibration: Calibration, row: Judged) -> float:
    return calibration.applied((row[0], 1 - row[0], 0.0), row[1])[0]


def wrong_of_kept(rows: list[Judged], keys: list[float], count: int) -> int:
    kept = sorted(range(len(rows)), key=lambda index: -keys[index])[:count]
    return sum(not rows[index][2] for index in kept)


@pytest.mark.parametrize("seed", range(10))
def test_both_together_keep_fewer_wrong_drafts_than_either_alone(seed: int) -> None:
    calibration, others = fitted(judged(100, seed=seed)), judged(2_000, seed=1_000 + seed)
    together = [best(calibration, row) for row in others]
    count = sum(one >= 0.5 for one in together)
    assert 0.5 < count / len(others) < 0.95
    wrong = wrong_of_kept(others, together, count)
    assert wrong < 0.7 * wrong_of_kept(others, [row[0] for row in others], count)
    assert wrong < 0.7 * wrong_of_kept(others, [row[1] for row in others], count)


def test_one_half_is_where_a_right_and_a_wrong_draft_are_as_likely_however_many_of_each_there_are() -> None:
    few, many = (fitted(judged(4_000, seed=7, right_ratio=ratio)) for ratio in (0.5, 0.95))
    row = (0.7, -0.1, True)
    assert best(few, row) == pytest.approx(best(many, row), abs=0.1)


@pytest.mark.parametrize("right_count", [0, 4, 96, 100])
def test_too_few_right_or_wrong_drafts_teach_nothing(right_count: int) -> None:
    rows = [(0.9, -0.01, True)] * right_count + [(0.1, -0.5, False)] * (100 - right_count)
    assert fit(rows) == ""
    assert Calibration.parse("") is None


def test_an_evaluator_that_prefers_wrong_drafts_is_not_turned_round() -> None:
    assert fit([(1 - read, log_probability, is_right) for read, log_probability, is_right in judged(200, seed=3)]) == ""


def test_inputs_that_never_differ_do_not_break_it() -> None:
    rows = [(0.5, -0.1, number % 2 == 0) for number in range(40)]
    calibration = Calibration.parse(fit(rows))
    assert calibration is not None
    assert best(calibration, rows[0]) == pytest.approx(0.5, abs=0.01)


def test_probabilities_stay_probabilities_at_every_extreme() -> None:
    calibration = Calibration(bias=3.0, log_odds=2.0, log_probability=200.0)
    for read in ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.2, 0.6, 0.2)):
        for log_probability in (0.0, -0.01, -30.0):
            found = calibration.applied(read, log_probability)
            assert sum(found) == pytest.approx(1.0) and min(found) >= 0.0
    assert calibration.applied((0.2, 0.6, 0.2), -0.02)[1:] == pytest.approx(
        [3 * calibration.applied((0.2, 0.6, 0.2), -0.02)[2], calibration.applied((0.2, 0.6, 0.2), -0.02)[2]]
    )


def test_the_file_is_json_in_one_spelling() -> None:
    text = fit(judged(100, seed=1))
    assert text == json.dumps(json.loads(text), sort_keys=True) + "\n"
    assert sorted(json.loads(text)) == ["bias", "log_odds", "log_probability"]


def test_both_sides_take_probabilities_equally_far_from_zero_and_one() -> None:
    assert job_drafts._PROBABILITY_MIN == domain.PROBABILITY_MIN
