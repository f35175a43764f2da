"""One stage on the real SQLite log, with a clock and a port that tests own: what the runner's tests turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from builders import document, pair
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import AdmittedDocument, DraftedPair, Payload
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.stage import Emit, Outcome, Stage
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAIR_DRAFTED, Topic


class Clock:
    """Milliseconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


class AnswerPort:
    """Answers each request by a function; None leaves the future open until `answer` is called."""

    def __init__(self, respond: Callable[[str], Any]) -> None:
        self.respond = respond
        self.asked: list[str] = []
        self.open: list[tuple[str, Future[Any]]] = []

    def submit(self, request: str) -> Future[Any]:
        self.asked.append(request)
        future: Future[Any] = Future()
        answer = self.respond(request)
        if answer is None:
            self.open.append((request, future))
        elif isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def answer(self, request: str, answer: Any) -> None:
        for index, (asked, future) in enumerate(self.open):
            if asked == request:
                del self.open[index]
                future.set_result(answer)
                return
        raise AssertionError(f"{request} is not open")

    def close(self) -> None: ...


class World:
    """One log, one stage, and what came out of it."""

    def __init__(self, folder: Path, respond: Callable[[str], Any] = lambda request: f"re {request}") -> None:
        self.clock = Clock()
        self.log = SqliteLog(folder / "log.sqlite", clock=self.clock)
        self.blobs = Blobs(str(folder / "blobs"))
        self.port = AnswerPort(respond)

    def stage(self, decide: Callable[[AdmittedDocument, Sequence[Any]], Sequence[Outcome]] | None = None) -> Stage:
        def default(source: AdmittedDocument, answers: Sequence[Any]) -> Sequence[Outcome]:
            return [Emit(PAIR_DRAFTED, pair(pair_id=slot_id("backgen", "1", source.document_id, 0),
                                            instruction=answers[0], document_id=source.document_id))]

        chosen = decide or default

        def run(_record: Record, payload: Payload, answers: Sequence[Any]) -> Sequence[Outcome]:
            assert isinstance(payload, AdmittedDocument)
            return chosen(payload, answers)

        def ask(_record: Record, payload: Payload) -> Sequence[str]:
            assert isinstance(payload, AdmittedDocument)
            return [payload.title]

        return Stage("backgen", "1", "1", DOCUMENT_ADMITTED, AdmittedDocument.decode, ask, run, self.port)

    def runner(self, stage: Stage | None = None, **settings: Any) -> Runner:
        bounds = RunnerSettings(**({"commit_interval_s": 0.0} | settings))
        return Runner(stage or self.stage(), self.log, blobs=self.blobs, clock=self.clock, settings=bounds)

    def put(self, *names: str, key: str = "") -> None:
        """Documents named so, all in one partition when `key` is given."""
        for name in names:
            payload = document(document_id=name, title=name)
            record = payload.record(DOCUMENT_ADMITTED.name)
            self.log.append([Record(record.topic, key or record.key, record.id, record.value)])

    def read(self, topic: Topic) -> list[Record]:
        return list(self.log.read(topic, {}))

    def instructions(self) -> list[str]:
        return sorted(DraftedPair.decode(record.value or b"").instruction for record in self.read(PAIR_DRAFTED))

    def settle(self, runner: Runner, turns_max: int = 60) -> None:
        for _ in range(turns_max):
            runner.turn(wait_s=0.0)
            self.clock.now_ms += 50
            if runner.idle():
                return
        raise AssertionError(f"not idle after {turns_max} turns: {runner.waiting_for}")
