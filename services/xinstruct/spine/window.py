"""The window of a runner: records between poll and commit, in the order of each partition."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from xinstruct.spine.messages import Payload
from xinstruct.spine.record import Record


@dataclass(slots=True)
class Flight:
    """One record between poll and commit. It is finished when it has outputs, be there none."""

    record: Record
    taken_ms: int
    payload: Payload | None = None
    futures: list[Future[Any]] = field(default_factory=list)
    outputs: list[Record] | None = None
    attempts: int = 0
    retry_at_ms: int = 0
    rejected: bool = False
    counts: list[tuple[str, str]] = field(default_factory=list)


class Window:
    """Flights by partition. Only the finished ones in front of a partition's first unfinished one may be committed."""

    def __init__(self) -> None:
        self._partitions: dict[int, deque[Flight]] = {}
        self.records = 0
        self.bytes = 0
        """Of the records' values."""

    def add(self, record: Record, now_ms: int) -> Flight:
        """Behind the others of its partition."""
        flight = Flight(record, now_ms)
        self._partitions.setdefault(record.partition, deque()).append(flight)
        self.records += 1
        self.bytes += len(record.value or b"")
        return flight

    def unfinished(self) -> Iterator[Flight]:
        """Those without outputs."""
        return (flight for flights in self._partitions.values() for flight in flights if flight.outputs is None)

    def finished(self) -> dict[int, list[Flight]]:
        """Partition → what is finished in front of it; no partition of which nothing is."""
        found: dict[int, list[Flight]] = {}
        for partition, flights in sorted(self._partitions.items()):
            for flight in flights:
                if flight.outputs is None:
                    break
                found.setdefault(partition, []).append(flight)
        return found

    def holds(self, partition: int) -> int:
        """Records of that partition."""
        return len(self._partitions.get(partition, ()))

    def partitions(self) -> list[int]:
        """Those that it has seen."""
        return list(self._partitions)

    def release(self, partition: int, count: int) -> None:
        """The first `count` of the partition are committed."""
        for _ in range(count):
            self._leave(self._partitions[partition].popleft())

    def forget(self, partition: int) -> None:
        """The partition is another's now."""
        for flight in self._partitions.pop(partition, ()):
            self._leave(flight)

    def _leave(self, flight: Flight) -> None:
        self.records -= 1
        self.bytes -= len(flight.record.value or b"")
