"""Exactly once under kill -9, on both logs; and the same harness finds each of three planted bugs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from crash.harness import run
from crash.pipeline import NAMES, Place
from xinstruct.spine.log.kafka import KafkaSettings

pytestmark = pytest.mark.crash

KILLS = 40
KILLS_OF_PLANTED_BUGS = 16
"""As many as a planted bug gets at least; KILLS_MAX is what it takes for the harness to have missed it."""
KILLS_MAX = 96
SESSION_MS = 3_000
VARIANTS = ["at-least-once", "at-most-once", "wrong-offset"]


@pytest.fixture
def kafka_place(kafka_bootstrap: str) -> Iterator[Place]:
    """A namespace of its own on the shared broker."""
    with servers.kafka_prefix(kafka_bootstrap) as prefix:
        yield Place(kafka=KafkaSettings(
            bootstrap_servers=kafka_bootstrap, prefix=prefix, session_timeout_ms=SESSION_MS,
            transaction_timeout_ms=SESSION_MS,
        ))


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return Place(sqlite_path=str(tmp_path / "log.sqlite"))


def test_forty_kills_on_the_sqlite_log_lose_and_repeat_nothing(sqlite_place: Place, tmp_path: Path) -> None:
    ledger, killed = run(sqlite_place, folder=tmp_path, instances=["0"], kills=KILLS, seed=1)
    assert ledger.clean(), ledger
    assert set(killed) == set(NAMES)


@pytest.mark.kafka
def test_forty_kills_with_rebalances_on_kafka_lose_and_repeat_nothing(kafka_place: Place, tmp_path: Path) -> None:
    away_s = SESSION_MS / 1000 + 1.0
    ledger, killed = run(kafka_place, folder=tmp_path, instances=["0", "1"], kills=KILLS, seed=1, away_s=away_s)
    assert ledger.clean(), ledger
    assert set(killed) == set(NAMES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_harness_finds_a_planted_bug_on_the_sqlite_log(sqlite_place: Place, tmp_path: Path, variant: str) -> None:
    ledger, _ = run(
        sqlite_place, folder=tmp_path, instances=["0"], kills=KILLS_OF_PLANTED_BUGS, kills_max=KILLS_MAX,
        seed=2, variant=variant,
    )
    assert (ledger.lost > 0, ledger.duplicated > 0) == (variant != "at-least-once", variant == "at-least-once"), ledger


@pytest.mark.kafka
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_harness_finds_a_planted_bug_on_kafka(kafka_place: Place, tmp_path: Path, variant: str) -> None:
    ledger, _ = run(
        kafka_place, folder=tmp_path, instances=["0", "1"], kills=KILLS_OF_PLANTED_BUGS, kills_max=KILLS_MAX,
        seed=2, variant=variant,
    )
    assert (ledger.lost > 0, ledger.duplicated > 0) == (variant != "at-least-once", variant == "at-least-once"), ledger
