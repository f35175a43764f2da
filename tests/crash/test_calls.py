"""Calls at the model's entrance ≤ distinct requests + those in flight at the kills, however work moves about."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from crash.calls import HOUR_MS, Askers
from xinstruct.spine.sql import create_schema, open_engine

pytestmark = [pytest.mark.crash, pytest.mark.postgres]

KILLS = 8
QUESTIONS = 500


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """URL of a database with the schema. One that several processes share is PostgreSQL."""
    with servers.postgres_database(postgres_url) as url:
        engine = open_engine(url)
        create_schema(engine)
        engine.dispose()
        yield url


def test_processes_that_are_killed_call_again_only_for_what_was_in_flight(database: str, tmp_path: Path) -> None:
    askers, chance = Askers(database, tmp_path, questions_count=QUESTIONS, clocks_ahead_ms=[0, 0, 0]), random.Random(1)
    for place in askers.places:
        askers.start(place)
    kills = 0
    while kills < KILLS and (busy := askers.await_busy(rest_s=chance.uniform(0.0, 0.5))):
        place = chance.choice(busy)
        askers.kill(place)
        kills += 1
        if kills == KILLS // 2:
            place.process = None  # never to come back: what it had claimed lapses
        else:
            askers.start(place)
    count = askers.end()
    assert kills == KILLS
    assert count.distinct == QUESTIONS
    assert count.in_flight_at_kills > 0
    assert count.calls <= count.distinct + count.in_flight_at_kills, count


def test_the_count_finds_claims_that_are_not_kept(database: str, tmp_path: Path) -> None:
    # Planted: a process whose clock is an hour ahead takes every claim for a lapsed one.
    askers = Askers(database, tmp_path, questions_count=300, clocks_ahead_ms=[0, HOUR_MS])
    for place in askers.places:
        askers.start(place)
    count = askers.end()
    assert count.calls > count.distinct + count.in_flight_at_kills, count
