"""Three stages that drop, reject and fan out, and the worker process that runs one of them with the real runner.

    document-admitted ─▶ backgen ─▶ pair-drafted ─▶ scoring-a ─▶ pair-scored ─▶ curation ─▶ pair-reviewed
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from builders import document, pair, review, score
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log import Log, Subscription
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import AdmittedDocument, DraftedPair, Payload, ScoredPair
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.stage import Drop, Emit, Outcome, Reject, Stage
from xinstruct.spine.topics import (
    DEAD_LETTERS,
    DOCUMENT_ADMITTED,
    PAIR_DRAFTED,
    PAIR_REVIEWED,
    PAIR_SCORED,
    RECORD_DROPPED,
    Topic,
)

PARTITIONS = 4
VERSION = "1"
NAMES = ("backgen", "scoring-a", "curation")
TOPICS: Mapping[str, Topic] = {
    topic.name: replace(topic, partitions=PARTITIONS)
    for topic in (
        DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED, PAIR_REVIEWED, RECORD_DROPPED, *(DEAD_LETTERS[n] for n in NAMES),
    )
}
OUTPUTS = tuple(topic for name, topic in TOPICS.items() if name != DOCUMENT_ADMITTED.name)
SETTINGS = RunnerSettings(window_records_max=64, commit_interval_s=0.05, commit_records_max=32)


class Reason(StrEnum):
    """Why the toy stages drop or reject."""

    EVERY_TENTH = "every_tenth"
    EVERY_SEVENTEENTH = "every_seventeenth"


def number_of(source: str) -> int:
    """A number that belongs to an id, the same in every run."""
    return int(slot_id("number", VERSION, source, 0)[:8], 16)


def draft(_record: Record, source: Payload, _answers: Sequence[Any]) -> Sequence[Outcome]:
    """Every tenth document is dropped, every seventeenth rejected, every fifth gives two pairs."""
    assert isinstance(source, AdmittedDocument)
    number = number_of(source.document_id)
    if number % 10 == 0:
        return [Drop(Reason.EVERY_TENTH, source.document_id)]
    if number % 17 == 0:
        return [Reject(Reason.EVERY_SEVENTEENTH)]
    count = 2 if number % 5 == 1 else 1
    ids = [slot_id("backgen", VERSION, source.document_id, ordinal) for ordinal in range(count)]
    return [Emit(PAIR_DRAFTED, pair(pair_id=item, document_id=source.document_id)) for item in ids]


def label(_record: Record, source: Payload, _answers: Sequence[Any]) -> Sequence[Outcome]:
    """One score a pair."""
    assert isinstance(source, DraftedPair)
    score_id = slot_id("scoring-a", VERSION, source.pair_id, 0)
    return [Emit(PAIR_SCORED, score(score_id=score_id, pair_id=source.pair_id, document_id=source.document_id))]


def judge(_record: Record, source: Payload, _answers: Sequence[Any]) -> Sequence[Outcome]:
    """Every tenth score is dropped."""
    assert isinstance(source, ScoredPair)
    if number_of(source.score_id) % 10 == 0:
        return [Drop(Reason.EVERY_TENTH, source.score_id)]
    review_id = slot_id("curation", VERSION, source.score_id, 0)
    return [Emit(PAIR_REVIEWED, review(review_id=review_id, pair_id=source.pair_id))]


class SlowPort:
    """Answers after a while that differs from request to request, so that records finish out of order."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(8)

    def submit(self, request: str) -> Future[Any]:
        """The request, 1 to 16 ms later."""
        return self._pool.submit(self._answer, request)

    def close(self) -> None:
        """Abandon what is in flight."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _answer(request: str) -> str:
        threading.Event().wait((1 + number_of(request) % 16) / 1000)
        return request


def stage(name: str) -> Stage:
    """The stage of that name."""
    source, payload, decide = {
        "backgen": (DOCUMENT_ADMITTED, AdmittedDocument.decode, draft),
        "scoring-a": (PAIR_DRAFTED, DraftedPair.decode, label),
        "curation": (PAIR_SCORED, ScoredPair.decode, judge),
    }[name]
    decode: Callable[[bytes], Payload] = payload
    return Stage(name, VERSION, VERSION, TOPICS[source.name], decode, lambda record, _: [record.id], decide, SlowPort())


def inputs(first: int, count: int) -> list[Record]:
    """Documents number `first` and following, to be appended."""
    return [document(document_id=f"{i:032x}").record(DOCUMENT_ADMITTED.name) for i in range(first, first + count)]


# ── one worker process ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Place:
    """Where the log is: a file, or a namespace on a broker."""

    sqlite_path: str = ""
    kafka: KafkaSettings | None = None

    def open(self, instance: str) -> Log:
        """A client of the log."""
        if self.kafka is not None:
            return KafkaLog(self.kafka, instance=instance, topics=TOPICS)
        return SqliteLog(self.sqlite_path, now_ms, topics=TOPICS)


def now_ms() -> int:
    """Unix milliseconds."""
    return int(time.time() * 1000)


IN_FLIGHT, COMMITS, DIE_IN_COMMIT, EXPOSED, CELLS = 0, 1, 2, 3, 4
"""What a worker and the harness tell each other, as cells of one shared array a worker. EXPOSED is set while a
death would show the planted bug."""


def work(place: Place, name: str, instance: str, *, blobs: str, variant: str, cells: Any, seed: int) -> None:
    """Run stage `name` until killed. Entry point of a worker process."""
    log = Tampered(place.open(instance), variant, cells=cells, chance=random.Random(seed))
    runner = Runner(stage(name), log, blobs=Blobs(blobs), clock=now_ms, settings=SETTINGS)

    def tell() -> None:
        while not threading.Event().wait(0.005):
            cells[IN_FLIGHT] = runner.in_flight()

    threading.Thread(target=tell, daemon=True).start()
    runner.run()


class Tampered:
    """A log whose members count their commits, die in one when told to, and commit as `variant` says."""

    def __init__(self, log: Log, variant: str, *, cells: Any, chance: random.Random) -> None:
        self._log = log
        self._variant = variant
        self._cells = cells
        self._chance = chance

    def subscribe(self, group: str, topic: Topic, version: str) -> Subscription:
        member = self._log.subscribe(group, topic, version)
        return TamperedSubscription(member, self._log, self._variant, cells=self._cells, chance=self._chance)

    def append(self, records: Sequence[Record]) -> None:
        self._log.append(records)

    def read(self, topic: Topic, from_offsets: Mapping[int, int]) -> Iterator[Record]:
        return self._log.read(topic, from_offsets)

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        return self._log.end_offsets(topic)

    def lag(self, group: str, topic: Topic, version: str) -> int:
        return self._log.lag(group, topic, version)

    def committed(self, group: str, topic: Topic, version: str) -> dict[int, int]:
        return self._log.committed(group, topic, version)

    def compact(self, topic: Topic, now_ms: int) -> int:
        return self._log.compact(topic, now_ms)

    def close(self) -> None:
        self._log.close()


class TamperedSubscription:
    """See Tampered. Variant "" commits as the log does; the others are the bugs that the harness has to find."""

    def __init__(
        self, member: Subscription, log: Log, variant: str, *, cells: Any, chance: random.Random
    ) -> None:
        self._member = member
        self._log = log
        self._commit = {
            "": member.commit, "at-least-once": self._outputs_first, "at-most-once": self._position_first,
            "wrong-offset": self._one_too_far,
        }[variant]
        self._cells = cells
        self._chance = chance
        self._commit_s = 0.01

    def commit(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        if self._cells[DIE_IN_COMMIT] and outputs:
            delay_s = self._chance.uniform(0.0, 1.2 * self._commit_s)
            threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
        start_s = time.monotonic()
        self._commit(next_offsets, outputs)
        if outputs:
            self._commit_s = time.monotonic() - start_s
            self._cells[COMMITS] += 1

    def _outputs_first(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        self._log.append(outputs)
        self._cells[EXPOSED] = bool(outputs)
        self._member.commit(next_offsets, [])
        self._cells[EXPOSED] = False

    def _position_first(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        self._member.commit(next_offsets, [])
        self._cells[EXPOSED] = bool(outputs)
        self._log.append(outputs)
        self._cells[EXPOSED] = False

    def _one_too_far(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        positions = self._member.positions()
        too_far = {p: min(offset + 1, positions[p]) for p, offset in next_offsets.items()}
        self._member.commit(too_far, outputs)
        self._cells[EXPOSED] = too_far != dict(next_offsets)

    def poll(self, records_max: int, wait_s: float) -> list[Record]:
        return self._member.poll(records_max, wait_s)

    def lost(self) -> set[int]:
        return self._member.lost()

    def positions(self) -> Mapping[int, int]:
        return self._member.positions()

    def rewind(self, partitions: Collection[int]) -> None:
        self._member.rewind(partitions)

    def lag(self) -> int:
        return self._member.lag()

    def close(self) -> None:
        self._member.close()
