"""Kills worker processes at chosen and at random moments, and compares what they wrote with an undisturbed run."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

from crash.pipeline import (
    CELLS,
    COMMITS,
    DIE_IN_COMMIT,
    EXPOSED,
    IN_FLIGHT,
    NAMES,
    OUTPUTS,
    SETTINGS,
    TOPICS,
    VERSION,
    Place,
    inputs,
    now_ms,
    stage,
    work,
)
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log import Log
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.runner import Runner
from xinstruct.spine.topics import DEAD_LETTERS, DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED

BACKLOG_RECORDS_MIN = 80
"""Inputs that wait for the first stage whenever somebody is killed."""

PATIENCE_S = 240.0
"""A run that takes longer has failed; on two idle cores it takes 15 s on SQLite and 50 s on Kafka."""

SOURCES = dict(zip(NAMES, (DOCUMENT_ADMITTED.name, PAIR_DRAFTED.name, PAIR_SCORED.name), strict=True))
"""Stage → name of the topic that it reads."""


@dataclass(frozen=True)
class Ledger:
    """What a run wrote, against what an undisturbed run of the same inputs wrote."""

    expected: int
    lost: int
    duplicated: int
    unexpected: int

    def clean(self) -> bool:
        """Nothing lost, nothing twice, nothing else."""
        return self.lost == self.duplicated == self.unexpected == 0


@dataclass
class Worker:
    """One place in the pipeline and the process that fills it now."""

    name: str
    instance: str
    cells: Any
    process: Any = None
    back_at_s: float = 0.0
    seeds: random.Random = field(default_factory=lambda: random.Random(0))


class Crew:
    """The worker processes of one run."""

    def __init__(self, place: Place, *, instances: Sequence[str], folder: Path, variant: str, seed: int) -> None:
        self._place = place
        self._folder = folder
        self._variant = variant
        self._context = multiprocessing.get_context("forkserver")
        preload(self._context)
        self.workers = [
            Worker(name, instance, RawArray("q", CELLS), seeds=random.Random(f"{seed} {name} {instance}"))
            for name in NAMES
            for instance in instances
        ]

    def start(self, worker: Worker) -> None:
        """Fill the place with a new process."""
        worker.cells[:] = [0] * CELLS
        worker.back_at_s = 0.0
        worker.process = self._context.Process(
            target=work, args=(self._place, worker.name, worker.instance), daemon=True,
            kwargs={"blobs": str(self._folder / "blobs"), "variant": self._variant, "cells": worker.cells,
                    "seed": worker.seeds.getrandbits(32)},
        )
        worker.process.start()

    def start_those_due(self, now_s: float) -> None:
        """Bring back whoever was dead long enough; a process that ended by itself is a failed run."""
        for worker in self.workers:
            if worker.process is None and now_s >= worker.back_at_s:
                self.start(worker)
            elif worker.process is not None and not worker.cells[DIE_IN_COMMIT]:
                assert worker.process.exitcode is None, f"{worker.name} ended with {worker.process.exitcode}"

    def busy(self) -> list[Worker]:
        """Workers that have committed since their start and have records in flight."""
        return [w for w in self.workers if w.process is not None and w.cells[COMMITS] and w.cells[IN_FLIGHT]]

    def kill_now(self, worker: Worker) -> bool:
        """SIGKILL, whatever it does at the moment; whether at a moment that shows the planted bug."""
        worker.process.kill()
        worker.process.join()
        worker.process = None
        return bool(worker.cells[EXPOSED])

    def kill_in_commit(self, worker: Worker) -> bool:
        """Have it die around its next commit; one that does not commit again is killed as it is."""
        worker.cells[DIE_IN_COMMIT] = 1
        worker.process.join(5.0)
        return self.kill_now(worker)

    def states(self) -> list[str]:
        """What each place does now, for whoever asks why nothing moves."""
        return [
            f"{w.name}/{w.instance}: "
            + (f"in flight {w.cells[IN_FLIGHT]}, commits {w.cells[COMMITS]}" if w.process is not None else "dead")
            for w in self.workers
        ]

    def end(self) -> None:
        """Kill everybody."""
        for worker in self.workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.join()
                worker.process = None


def run(
    place: Place, *, folder: Path, instances: Sequence[str], kills: int, seed: int, variant: str = "",
    away_s: float = 0, kills_max: int = 0,
) -> tuple[Ledger, Counter[str]]:
    """Kill `kills` busy workers, every other one inside a commit, then let the pipeline drain.

    With `away_s`, every sixth victim stays dead that long, so that its group rebalances. With `kills_max`, go on until
    a kill has fallen at a moment that shows the bug of `variant`, which no number of kills at random moments is
    certain to do, or until that many. Returns the ledger and the number of kills by stage.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    log = place.open("harness")
    crew = Crew(place, instances=instances, folder=folder, variant=variant, seed=seed)
    try:
        killed, fed = _kill_while_feeding(
            log, crew, kills=range(kills, max(kills, kills_max)), seed=seed, away_s=away_s, deadline_s=deadline_s
        )
        _wait(lambda: _drained(log), log, crew, deadline_s)
        crew.end()
        return compare(_written(undisturbed(fed, folder)), _written(log)), killed
    finally:
        crew.end()
        log.close()


def _kill_while_feeding(
    log: Log, crew: Crew, *, kills: range, seed: int, away_s: float, deadline_s: float
) -> tuple[Counter[str], int]:
    """Kills by stage, and how many inputs there were."""
    chance = random.Random(seed)
    killed: Counter[str] = Counter()
    fed = shown = 0
    while killed.total() < kills.start or (killed.total() < kills.stop and not shown):
        crew.start_those_due(time.monotonic())
        fed += _feed(log, fed)
        _wait(lambda: bool(crew.busy()), log, crew, deadline_s)
        time.sleep(chance.uniform(0.0, 0.1))  # the random moment
        busy = crew.busy()
        if busy:
            victim = chance.choice(busy)
            kill = crew.kill_in_commit if killed.total() % 2 == 0 else crew.kill_now
            shown += kill(victim)
            victim.back_at_s = time.monotonic() + (away_s if killed.total() % 6 == 5 else 0.0)
            killed[victim.name] += 1
    return killed, fed


def undisturbed(count: int, folder: Path) -> Log:
    """The log after one process has run the three stages over the same inputs, one after the other."""
    log = SqliteLog(folder / "undisturbed.sqlite", now_ms, topics=TOPICS)
    log.append(inputs(0, count))
    for name in NAMES:
        runner = Runner(stage(name), log, blobs=Blobs(str(folder / "blobs")), clock=now_ms, settings=SETTINGS)
        while not runner.idle():
            runner.turn(wait_s=0.05)
        runner.close()
    return log


def compare(expected: Counter[tuple[str, ...]], got: Counter[tuple[str, ...]]) -> Ledger:
    """What is missing, what is there more than once, and what nobody expected."""
    return Ledger(
        expected.total(), lost=len(set(expected) - set(got)), duplicated=sum(n - 1 for n in got.values()),
        unexpected=len(set(got) - set(expected)),
    )


def _written(log: Log) -> Counter[tuple[str, ...]]:
    """Every record of every output topic: topic, key, id and value; dead letters name offsets, which differ by run."""
    letters = {topic.name for topic in DEAD_LETTERS.values()}
    return Counter(
        (record.topic, record.key, record.id, "" if topic.name in letters else repr(record.value))
        for topic in OUTPUTS
        for record in log.read(topic, {})
    )


def _feed(log: Log, fed: int) -> int:
    """Append inputs until enough of them wait; how many that was."""
    missing = BACKLOG_RECORDS_MIN - log.lag(NAMES[0], TOPICS[DOCUMENT_ADMITTED.name], VERSION)
    if missing > 0:
        log.append(inputs(fed, missing))
    return max(missing, 0)


def _drained(log: Log) -> bool:
    return not any(_lags(log).values())


def _lags(log: Log) -> dict[str, int]:
    return {name: log.lag(name, TOPICS[source], VERSION) for name, source in SOURCES.items()}


def _wait(condition: Callable[[], bool], log: Log, crew: Crew, deadline_s: float) -> None:
    while not condition():
        now_s = time.monotonic()
        assert now_s < deadline_s, f"the pipeline stands still: lags {_lags(log)}, {crew.states()}"
        crew.start_those_due(now_s)
        time.sleep(0.02)


def preload(context: Any) -> None:
    """Have the imports done once, in the process that all workers are forked from: a restart takes milliseconds."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = ":".join(path for path in sys.path if path)
    context.set_forkserver_preload(["crash.pipeline"])
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
