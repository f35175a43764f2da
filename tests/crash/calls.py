"""Processes that ask the same questions through journals on one database, are killed, and come back."""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from crash.harness import preload
from xinstruct.inference.scripted import ScriptedInference, scripted_answer
from xinstruct.spine.inference import Answer, Decoding, Features, Generate, Inference, Request, request_digest
from xinstruct.spine.journal import ANSWERS, Journaled
from xinstruct.spine.sql import open_engine, transaction

OUTSTANDING_MAX = 64
"""Questions that a process has open at once; more than its model takes at once."""
PATIENCE_S = 120.0
HOUR_MS = 3_600_000


class Entrance(Inference):
    """A model that writes each question to a file as it comes in, which a kill -9 cannot take back; slow."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._pool = ThreadPoolExecutor(8)

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        os.write(self._file, f"{request_digest(request)}\n".encode())
        return self._pool.submit(self._answer, request)

    def probe(self) -> Features:
        """See Inference."""
        return ScriptedInference().probe()

    def close(self) -> None:
        """See Inference."""
        self._pool.shutdown()

    @staticmethod
    def _answer(request: Request) -> Answer:
        number = int(request_digest(request)[-4:], 16)
        threading.Event().wait((50 + number % 200) / 1000)
        return scripted_answer(request)


def questions(count: int) -> list[Generate]:
    """What every process asks."""
    return [Generate("generator", "sha256:0", f"Text {n}", Decoding(8), subject=str(n)) for n in range(count)]


def ask_all(url: str, owner: str, entrance: Path, *, count: int, seed: str, clock_ahead_ms: int) -> None:
    """Ask everything in an order of one's own. Entry point of a process."""
    def clock() -> int:
        return int(time.time() * 1000) + clock_ahead_ms

    journal = Journaled(Entrance(entrance), open_engine(url), owner=owner, clock=clock)
    asked = questions(count)
    random.Random(seed).shuffle(asked)
    waiting: deque[Future[Answer]] = deque()
    for question in asked:
        waiting.append(journal.submit(question))
        if len(waiting) == OUTSTANDING_MAX:
            waiting.popleft().result(PATIENCE_S)
    for future in waiting:
        future.result(PATIENCE_S)
    journal.close()


@dataclass
class Asker:
    """One place among the processes, and who fills it now."""

    owner: str
    clock_ahead_ms: int = 0
    process: Any = None
    entrances: list[Path] = field(default_factory=list)
    """A file for each process that filled the place."""


@dataclass(frozen=True)
class Count:
    """Calls at the models' entrance, over the whole run."""

    calls: int
    distinct: int
    in_flight_at_kills: int


class Askers:
    """The processes of one run."""

    def __init__(self, url: str, folder: Path, *, questions_count: int, clocks_ahead_ms: list[int]) -> None:
        self._url = url
        self._folder = folder
        self._questions_count = questions_count
        self._engine = open_engine(url)
        self._context = multiprocessing.get_context("forkserver")
        preload(self._context)
        self._in_flight = 0
        self.places = [Asker(f"process/{n}", ahead_ms) for n, ahead_ms in enumerate(clocks_ahead_ms)]

    def start(self, place: Asker) -> None:
        """Fill the place with a new process, of the same name as the last."""
        started = len(place.entrances)
        entrance = self._folder / f"{place.owner.replace('/', '-')}.{started}"
        place.entrances.append(entrance)
        place.process = self._context.Process(
            target=ask_all, args=(self._url, place.owner, entrance), daemon=True,
            kwargs={
                "count": self._questions_count, "seed": f"{place.owner} {started}",
                "clock_ahead_ms": place.clock_ahead_ms,
            },
        )
        place.process.start()

    def kill(self, place: Asker) -> int:
        """SIGKILL; returns how many of its calls were in flight: entered, and without a stored answer."""
        place.process.kill()
        place.process.join()
        with transaction(self._engine) as connection:
            stored = set(connection.execute(sa.select(ANSWERS.c.request_digest)).scalars())
        in_flight = len([digest for digest in _entered(place.entrances[-1]) if digest not in stored])
        self._in_flight += in_flight
        return in_flight

    def await_busy(self, *, rest_s: float) -> list[Asker]:
        """Rest, then wait for processes that have called since they started; none when everybody is done."""
        threading.Event().wait(rest_s)
        end_s = time.monotonic() + PATIENCE_S
        while alive := [place for place in self.places if place.process and place.process.exitcode is None]:
            if busy := [place for place in alive if _entered(place.entrances[-1])]:
                return busy
            assert time.monotonic() < end_s, "nobody calls"
            time.sleep(0.005)
        return []

    def end(self) -> Count:
        """Wait until everybody has every answer, and count."""
        for place in self.places:
            if place.process is not None:
                place.process.join(PATIENCE_S)
                assert place.process.exitcode == 0, f"{place.owner} ended with {place.process.exitcode}"
        self._engine.dispose()
        calls = [digest for place in self.places for entrance in place.entrances for digest in _entered(entrance)]
        return Count(len(calls), len(set(calls)), self._in_flight)


def _entered(entrance: Path) -> list[str]:
    return entrance.read_text().split() if entrance.exists() else []
