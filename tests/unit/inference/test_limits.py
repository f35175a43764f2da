"""The rules of pace: who slows us down, and by how much."""

from __future__ import annotations

import pytest

from xinstruct.inference.limits import BACKOFF_MAX_S, InFlightLimit, Verdict, backoff_s, retry_after_s, verdict_of


@pytest.mark.parametrize(("status", "verdict"), [
    (200, Verdict.ANSWERED), (400, Verdict.REFUSED), (413, Verdict.REFUSED), (422, Verdict.REFUSED),
    (302, Verdict.MISFIT), (404, Verdict.MISFIT), (405, Verdict.MISFIT), (402, Verdict.UNPAID),
    (401, Verdict.FORBIDDEN), (403, Verdict.FORBIDDEN), (408, Verdict.FAILED), (429, Verdict.OVERLOADED),
    (500, Verdict.FAILED), (503, Verdict.FAILED),
])
def test_each_status_has_one_verdict(status: int, verdict: Verdict) -> None:
    assert verdict_of(status) is verdict


def test_good_answers_raise_the_limit_by_one_a_round_up_to_the_ceiling() -> None:
    limit = InFlightLimit(calls_max=6)
    for _ in range(200):
        limit.answered(0.2)
    assert limit.allowed() == 6


def test_a_burst_of_refusals_halves_the_limit_once() -> None:
    limit = InFlightLimit(calls_max=64, calls=32.0)
    for _ in range(10):
        limit.overloaded()
    assert limit.allowed() == 16


def test_refusals_never_stop_the_calls_altogether() -> None:
    limit = InFlightLimit(calls_max=64)
    for _ in range(50):
        limit.overloaded()
        for _ in range(limit.allowed()):
            limit.answered(0.1)
    assert limit.allowed() >= 1


def test_answers_that_are_slower_than_a_probe_was_do_not_lower_the_limit() -> None:
    limit = InFlightLimit(8)
    limit.answered(0.02)
    limit.forget_latency()
    before = limit.calls
    for _ in range(4):
        limit.answered(1.0)
    assert limit.calls > before


def test_a_jump_in_latency_halves_the_limit() -> None:
    limit = InFlightLimit(calls_max=64, calls=20.0)
    limit.answered(0.1)
    limit.answered(5.0)
    assert limit.allowed() == 10


@pytest.mark.parametrize("attempt", [1, 2, 5, 50])
def test_a_backoff_is_the_same_for_the_same_call_and_bounded(attempt: int) -> None:
    assert backoff_s("call", attempt) == backoff_s("call", attempt)
    assert 0 < backoff_s("call", attempt) <= 1.5 * BACKOFF_MAX_S


@pytest.mark.parametrize(("header", "seconds"), [
    (None, None), ("", None), ("7", 7.0), ("-3", 0.0), ("999999", 3600.0), ("Fri, 31 Dec 1999 23:59:59 GMT", None),
])
def test_retry_after_is_seconds_within_an_hour_or_nothing(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header) == seconds
