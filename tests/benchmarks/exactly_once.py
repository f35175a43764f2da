"""Kafka: the runner with transactions against the same runner with at-least-once commits, on one broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import servers
from benchmarks.figure import Figure, interleaved, worst
from builders import document, pair
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
from xinstruct.spine.log.kafka_clients import send_all
from xinstruct.spine.log.kafka_subscription import KafkaSubscription
from xinstruct.spine.messages import AdmittedDocument, Payload
from xinstruct.spine.record import Record
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.stage import Emit, Outcome, Stage
from xinstruct.spine.topics import DEAD_LETTERS, DOCUMENT_ADMITTED, PAIR_DRAFTED, RECORD_DROPPED, Topic

RECORDS = 2_000
WARM_RECORDS = 200
WORK_S = 0.0005
VALUE_BYTES = 1_500
COMMIT_S = 0.1
WINDOW = int(COMMIT_S / WORK_S)
"""Records between two commits: what the work of one commit interval handles."""
TOPICS: Mapping[str, Topic] = {
    topic.name: replace(topic, partitions=4)
    for topic in (DOCUMENT_ADMITTED, PAIR_DRAFTED, RECORD_DROPPED, DEAD_LETTERS["backgen"])
}


def figures(folder: Path) -> Iterator[Figure]:
    """Rates of a stage that spends WORK_S of CPU on each record."""
    with servers.kafka(folder / "kafka") as bootstrap:
        rates = interleaved({
            "exactly_once": lambda number: _rate(KafkaLog, bootstrap, folder),
            "at_least_once": lambda number: _rate(_AtLeastOnceLog, bootstrap, folder),
        })
    ratios = [once / least for once, least in zip(rates["exactly_once"], rates["at_least_once"], strict=True)]
    yield worst(
        "kafka_exactly_once_over_at_least_once", ratios, ">=", 0.85, records=RECORDS, value_bytes=VALUE_BYTES,
        work_ms=WORK_S * 1000, commit_ms=COMMIT_S * 1000,
        exactly_once_records_per_s=round(max(rates["exactly_once"])),
        at_least_once_records_per_s=round(max(rates["at_least_once"])),
    )


def _rate(kind: type[KafkaLog], bootstrap: str, folder: Path) -> float:
    prefix = f"bench-{uuid.uuid4().hex[:8]}-"
    log = kind(KafkaSettings(bootstrap_servers=bootstrap, prefix=prefix), instance="bench", topics=TOPICS)
    text = "x" * (VALUE_BYTES - 1_100)
    for first in range(0, RECORDS + WARM_RECORDS, 500):
        made = (document(document_id=f"{number:032x}", text=text) for number in range(first, first + 500))
        log.append([payload.record(DOCUMENT_ADMITTED.name) for payload in made])
    settings = RunnerSettings(window_records_max=WINDOW, commit_interval_s=COMMIT_S, commit_records_max=WINDOW)
    work = _Work()
    runner = Runner(work.stage(), log, blobs=Blobs(str(folder / "blobs")), clock=_now_ms, settings=settings)
    _run_until(runner, work, records=WARM_RECORDS)  # joining the group is no part of a stage's rate
    begin, warm = time.perf_counter(), work.records_done
    _run_until(runner, work, records=WARM_RECORDS + RECORDS)
    rate = (work.records_done - warm) / (time.perf_counter() - begin)
    runner.close()
    log.close()
    return rate


def _run_until(runner: Runner, work: _Work, *, records: int) -> None:
    """Turn until so many records are decided and committed."""
    while work.records_done < records or runner.in_flight():
        runner.turn(wait_s=0.2)


class _Work:
    """Spends WORK_S of CPU on each record and passes it on."""

    def __init__(self) -> None:
        self.records_done = 0

    def stage(self) -> Stage:
        """The stage that does it."""
        source = TOPICS[DOCUMENT_ADMITTED.name]
        return Stage("backgen", "1", "1", source, AdmittedDocument.decode, lambda _r, _p: [], self.decide, _NoPort())

    def decide(self, _record: Record, payload: Payload, _answers: Sequence[Any]) -> Sequence[Outcome]:
        """One pair of the record's size."""
        assert isinstance(payload, AdmittedDocument)
        end = time.thread_time() + WORK_S
        while time.thread_time() < end:
            pass
        self.records_done += 1
        return [Emit(PAIR_DRAFTED, pair(pair_id=payload.document_id, response="x" * (VALUE_BYTES - 600)))]


class _NoPort:
    def submit(self, request: Any) -> Any:
        raise AssertionError(f"nobody asks {request!r}")

    def close(self) -> None:
        """Nothing is open."""


class _AtLeastOnceLog(KafkaLog):
    """The same log but for its commits: outputs are flushed, then the position is committed."""

    def subscribe(self, group: str, topic: Topic, version: str) -> KafkaSubscription:
        return _AtLeastOnce(self._clients, group=group, topic=topic, version=version, topics=self._topics)


class _AtLeastOnce(KafkaSubscription):
    def _new_producer(self) -> Any:
        return self._clients.producer()

    def _transact(self, member: Any, stored: Mapping[Any, Any], outputs: Collection[Record]) -> None:
        sent = send_all(self._producer, self._clients.settings.prefix, outputs, self._topics)
        self._producer.flush()
        for future in sent:
            future.get(timeout=0)
        self._consumer.commit(stored, timeout_ms=5_000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
