"""What the suite asks of a backend beyond the port: open it again, forget the past, and a small table of topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from xinstruct.spine.log import Log, Subscription
from xinstruct.spine.record import Record
from xinstruct.spine.topics import DAY_MS, Topic

NUMBERS = Topic("numbers-added-v1", "Number", "number", ("source",), ("adder",), 3, "compact")
SUMS = Topic("sums-made-v1", "Sum", "sum", ("adder",), ("reader",), 2, "compact")
EVENTS = Topic("events-seen-v1", "Event", "event", ("source",), ("reader",), 2, "delete", 30 * DAY_MS)
TOPICS: Mapping[str, Topic] = {topic.name: topic for topic in (NUMBERS, SUMS, EVENTS)}

PATIENCE_S = 30.0
"""Longer than any rebalance of the suite; a test that waits this long has failed."""


class Clock:
    """Milliseconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_ms = 1_790_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass(frozen=True)
class Backend:
    """One backend under test. `open(instance)` gives another client of the same log, closed by the fixture."""

    name: str
    open: Callable[[str], Log]
    forget_before: Callable[[Log, Topic, Mapping[int, int]], None]
    """Move the start of partitions of EVENTS to these offsets, as retention does."""


def number(value: int, key: str = "") -> Record:
    """An unplaced record of NUMBERS."""
    return Record(NUMBERS.name, key or f"key-{value}", f"id-{value}", b"%d" % value)


def total(value: int, key: str = "") -> Record:
    """An unplaced record of SUMS."""
    return Record(SUMS.name, key or f"key-{value}", f"id-{value}", b"%d" % value)


def event(value: int, key: str = "") -> Record:
    """An unplaced record of EVENTS."""
    return Record(EVENTS.name, key or f"key-{value}", f"id-{value}", b"%d" % value)


def raising(error: Exception) -> None:
    """Raise, where a statement cannot stand."""
    raise error


def eventually(condition: Callable[[], bool]) -> None:
    """Ask until it holds. What a commit wrote is visible when its markers have arrived: on Kafka a moment later."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"still not so after {PATIENCE_S} s"


def poll_until(
    subscription: Subscription, enough: Callable[[list[Record]], bool], records_max: int = 100
) -> list[Record]:
    """Poll until `enough` holds of everything polled."""
    records: list[Record] = []
    deadline_s = time.monotonic() + PATIENCE_S
    while not enough(records):
        assert time.monotonic() < deadline_s, f"{len(records)} records after {PATIENCE_S} s: {records[-3:]}"
        records += subscription.poll(records_max, 0.2)
    return records


def poll_all(subscription: Subscription, log: Log, topic: Topic) -> list[Record]:
    """Everything between the subscription's positions and the ends of the topic now."""
    ends = log.end_offsets(topic)
    return poll_until(subscription, lambda _: dict(subscription.positions()) == ends)


def values(records: Sequence[Record]) -> list[int]:
    """The numbers in the records, in order."""
    return [int(record.value or b"-1") for record in records]


def totals(records: Sequence[Record]) -> list[Record]:
    """What follows from these numbers."""
    return [total(value) for value in values(records)]


def next_offsets(records: Sequence[Record]) -> dict[int, int]:
    """Partition → offset after its last record here."""
    return {record.partition: record.offset + 1 for record in records}
