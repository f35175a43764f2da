"""What runner, log and serialisation take of the extraction stage's CPU, on pages of 20 KB.

All CPU of the process while a topic of pages is worked through, less what the stage itself spends on measuring and
deciding: the rest is polling, decoding, encoding, committing and the client's threads.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import servers
from benchmarks.figure import ROUNDS, Figure, worst
from benchmarks.pages import PAGE_BYTES, InProcessPort, admit_stage, folder_blobs, store
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.log import Log
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.record import Record
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.stage import Stage

PAGES = 120
WINDOW = 16
"""Pages in flight: about as many as the stage works through between two commits. The first window is not measured."""


def figures(folder: Path) -> Iterator[Figure]:
    """Share of the CPU, over SQLite and over Kafka."""
    _share(SqliteLog(folder / "warm.sqlite", _now_ms), folder)  # detectors load their models once a process
    shares = [_share(SqliteLog(folder / f"log-{number}.sqlite", _now_ms), folder) for number in range(ROUNDS)]
    yield worst("overhead_share_sqlite", shares, "<=", 0.05, pages=PAGES, page_bytes=PAGE_BYTES)
    with servers.kafka(folder / "kafka") as bootstrap:
        shares = [_share(_kafka(bootstrap), folder) for _ in range(ROUNDS)]
    yield worst("overhead_share_kafka", shares, "<=", 0.10, pages=PAGES, page_bytes=PAGE_BYTES)


def _kafka(bootstrap: str) -> Log:
    return KafkaLog(
        KafkaSettings(bootstrap_servers=bootstrap, prefix=f"bench-{uuid.uuid4().hex[:8]}-"), instance="bench"
    )


def _share(log: Log, folder: Path) -> float:
    blobs = folder_blobs(folder)
    _append(log, list(store(blobs, PAGES)))
    clock = _StageClock(InProcessPort(blobs))
    settings = RunnerSettings(window_records_max=WINDOW)
    runner = Runner(clock.stage(), log, blobs=blobs, clock=_now_ms, settings=settings)
    while not runner.turn(wait_s=0.2):
        pass  # joining the group is no part of the work
    clock.spent_s = 0.0
    begin_s = time.process_time()
    while not runner.idle():
        runner.turn(wait_s=0.2)
    total_s = time.process_time() - begin_s
    runner.close()
    log.close()
    return (total_s - clock.spent_s) / total_s


def _append(log: Log, records: list[Record]) -> None:
    while True:
        try:
            log.append(records)
            return
        except Unavailable:
            time.sleep(1.0)  # a broker that has just made the topic does not lead it yet


class _StageClock:
    """The admit stage, with the CPU that its own code takes."""

    def __init__(self, port: InProcessPort) -> None:
        self._port = port
        self.spent_s = 0.0

    def stage(self) -> Stage:
        """The stage, measured."""
        made = admit_stage(self)
        return replace(made, ask=self._timed(made.ask), decide=self._timed(made.decide))

    def submit(self, request: Any) -> Future[Any]:
        """As the port."""
        answer: Future[Any] = self._timed(self._port.submit)(request)
        return answer

    def close(self) -> None:
        """As the port."""
        self._port.close()

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            begin_s = time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.spent_s += time.thread_time() - begin_s

        return timed


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
