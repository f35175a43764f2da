"""Scoring over a server that gives no log-probabilities: it waits until it is told that a vote will do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builders import NOW_MS, pair
from contract.inference.openai_stub import Behaviour, openai_stub
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.scoring.app import build
from xinstruct.scoring.config import ScoringSettings
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log import Log
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import LabelReading, ScoredPair
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.sql import METADATA, open_engine
from xinstruct.spine.topics import DEAD_LETTERS, PAIR_DRAFTED, PAIR_SCORED, Topic
from xinstruct.training.promotion import promote

MODEL = "endpoint:stub"


def values(log: Log, topic: Topic) -> list[bytes]:
    return [record.value for record in log.read(topic, {}) if record.value is not None]


@contextmanager
def scoring(home: Path, url: str, *, votes_count: int) -> Iterator[tuple[Deps, Runner]]:
    """The runner of the slot whose evaluator is at the server, over the log in `home`."""
    engine = open_engine(f"sqlite:///{home / 'db.sqlite'}")
    METADATA.create_all(engine)
    log = SqliteLog(home / "log.sqlite", clock=lambda: NOW_MS)
    endpoint = OpenAIInference(url, votes_count=votes_count)
    deps = Deps(log, engine, Blobs(str(home / "blobs")), {"evaluator": endpoint}, lambda: NOW_MS, home)
    registry.register(engine, registry.Model(MODEL, "evaluator", MODEL))
    promote(deps, "evaluator", MODEL, "chat")
    (stage,) = build(ScoringSettings(), deps).stages()
    runner = Runner(stage, log, blobs=deps.blobs, clock=deps.clock, settings=RunnerSettings())
    yield deps, runner
    runner.close()
    endpoint.close()
    log.close()
    engine.dispose()


def test_pairs_wait_for_a_configuration_that_can_label_them(tmp_path: Path) -> None:
    with openai_stub(Behaviour(log_probabilities=False)) as url:
        with scoring(tmp_path, url, votes_count=0) as (deps, runner):
            deps.log.append([pair(pair_id=str(n)).record(PAIR_DRAFTED.name) for n in range(9)])
            while not runner.waiting_for and not values(deps.log, DEAD_LETTERS["scoring-a"]):
                runner.turn(wait_s=0.05)
            assert "set inference.evaluator.votes_count to 5 or more" in runner.waiting_for
            assert not values(deps.log, DEAD_LETTERS["scoring-a"])
        with scoring(tmp_path, url, votes_count=6) as (deps, runner):
            while not runner.idle():
                runner.turn(wait_s=0.05)
            scored = [ScoredPair.decode(value) for value in values(deps.log, PAIR_SCORED)]
    assert {item.pair_id for item in scored} == {str(n) for n in range(9)}
    assert {item.reading for item in scored} == {LabelReading.VOTE}
