"""The log port: what every stage may ask of SQLite or Kafka, whole.

tests/contract/log holds every backend to one text. The SQLite backend is never nicer than Kafka: order only within a
partition, repeats on `append` allowed, compaction only when asked, bytes on the wire.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from xinstruct.spine.record import Record
from xinstruct.spine.topics import Topic


class Subscription(Protocol):
    """One live member of a (group, topic). Used by one thread."""

    def poll(self, records_max: int, wait_s: float) -> list[Record]:
        """At most `records_max` new records of owned partitions, in order within each; [] after `wait_s` seconds.

        records_max=0 pauses all partitions and keeps membership alive.
        """

    def lost(self) -> set[int]:
        """Partitions owned before the last poll and not after it."""

    def positions(self) -> Mapping[int, int]:
        """Owned partition → where the next poll reads, past transaction markers."""

    def commit(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        """Append `outputs`, in the order given, and advance the group to `next_offsets`: both or neither.

        Raises Fenced for a partition that is not owned now, or was reassigned since its records were polled.
        Not covered: power loss with fsync off, a lost broker disk with replication 1.
        """

    def rewind(self, partitions: Collection[int]) -> None:
        """Forget what was read of `partitions` after the last commit: the next poll reads from there."""

    def lag(self) -> int:
        """Offsets between the committed positions and the ends of all partitions; 0 when drained, markers included."""

    def close(self) -> None:
        """Leave the group; nothing is committed."""


class Log(Protocol):
    """A set of partitioned topics."""

    def subscribe(self, group: str, topic: Topic, version: str) -> Subscription:
        """Join `group` on `topic`. `version` is stored with every commit; another version's position counts as none."""

    def append(self, records: Sequence[Record]) -> None:
        """Ingress only, at least once: a repeat is visible by its id. Durable when it returns."""

    def read(self, topic: Topic, from_offsets: Mapping[int, int]) -> Iterator[Record]:
        """Committed records from the given offsets (0 where absent) up to the ends at the call; no group, no commit."""

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        """Partition → offset after the last record, transaction markers included."""

    def lag(self, group: str, topic: Topic, version: str) -> int:
        """As Subscription.lag, without joining; all of the topic when the group has no position of `version`."""

    def committed(self, group: str, topic: Topic, version: str) -> dict[int, int]:
        """Partition → committed position of `group`, only those stored by `version`; no group is joined."""

    def compact(self, topic: Topic, now_ms: int) -> int:
        """Erase superseded values of `topic` now where the backend can be told to; returns records removed.

        SQLite removes at once, and tombstones older than the topic's tombstone retention. Kafka compacts on its own
        schedule (bounded by max.compaction.lag.ms, set from the topics table): it returns 0.
        """

    def close(self) -> None:
        """Release files and connections."""
