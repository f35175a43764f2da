"""The log in one SQLite file: for a laptop, for tests, never nicer than Kafka.

As in Kafka, a commit leaves one offset unused in every partition that it wrote to (there it is the transaction marker):
"last record + 1" is not the end. Threads and processes may share a file; a Subscription belongs to one thread.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xinstruct.spine.errors import Conflict, Fenced, Invalid, require
from xinstruct.spine.log import sqlite_file
from xinstruct.spine.log.sqlite_file import Bounds, LogFile, Row, snapshot, translated
from xinstruct.spine.log.wire import wire
from xinstruct.spine.record import Record, partition_of
from xinstruct.spine.topics import TOPICS, Topic

POLL_BYTES_MAX = 8 * 1024 * 1024
"""A poll stops after the record that passes this many bytes of values."""

_READ_RECORDS_MAX = 500
_FOREIGN_WRITE_CHECK_S = 0.05  # how soon a waiting poll sees what another process wrote; own threads wake it at once


class SqliteLog:
    """The log in the file at `path`. `clock` gives Unix milliseconds for records; `prefix` names a log within the file.

    `topics` is the table that written records are checked against. Unavailable when the disk is full or the file
    cannot be written; Conflict when the file has another format or a topic with another number of partitions.
    """

    def __init__(
        self, path: Path | str, clock: Callable[[], int], prefix: str = "", *, topics: Mapping[str, Topic] = TOPICS
    ) -> None:
        self._file = LogFile(str(path))
        self._places = _Places(self._file, clock, prefix=prefix, topics=topics)

    def subscribe(self, group: str, topic: Topic, version: str) -> SqliteSubscription:
        """See the port. The newer member fences the older at once."""
        return SqliteSubscription(self._file, self._places, group=group, topic=topic, version=version)

    def append(self, records: Sequence[Record]) -> None:
        """See the port. Invalid for a record that no log can hold, or of a topic that is not in the table."""
        rows_of = self._places.rows_of(records)
        if rows_of:
            with self._file.transaction() as connection:
                for number, rows in rows_of.items():
                    sqlite_file.insert(connection, number, rows, marker_offsets=0)

    def read(self, topic: Topic, from_offsets: Mapping[int, int]) -> Iterator[Record]:
        """See the port; partition by partition. NotFound for an offset above 0 that is not kept, or not yet written."""
        spans = []
        for partition, bounds in self._places.bounds_of(topic).items():
            first = from_offsets.get(partition, 0) or bounds.start_offset
            sqlite_file.require_kept(topic, partition, bounds=bounds, offset=first)
            spans.append((partition, first, bounds))
        return self._read_spans(topic, spans)

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        """See the port."""
        return {p: bounds.next_offset for p, bounds in self._places.bounds_of(topic).items()}

    def lag(self, group: str, topic: Topic, version: str) -> int:
        """See the port."""
        committed = self.committed(group, topic, version)
        bounds = self._places.bounds_of(topic)
        return sum(b.next_offset - max(committed.get(p, 0), b.start_offset) for p, b in bounds.items())

    def committed(self, group: str, topic: Topic, version: str) -> dict[int, int]:
        """See the port."""
        numbers = self._places.numbers_of(topic)
        with self._file.reading() as connection:
            return sqlite_file.committed_of(connection, self._places.prefix + group, numbers, version=version)

    def compact(self, topic: Topic, now_ms: int) -> int:
        """See the port. What was removed leaves no bytes in the file or its write-ahead log.

        Compact topics: values with a newer record of their key, and tombstones older than 7 days. Delete topics:
        everything older than the retention. Unavailable when a reader holds the write-ahead log for too long; what
        was removed stays removed, ask again.
        """
        removed = 0
        for number in self._places.numbers_of(topic):
            with self._file.transaction() as connection:
                removed += sqlite_file.compact_partition(connection, number, topic, now_ms)
        self._file.truncate_wal()
        return removed

    def close(self) -> None:
        """See the port. Subscriptions are closed by who opened them."""
        self._file.close()

    def _read_spans(self, topic: Topic, spans: Sequence[tuple[int, int, Bounds]]) -> Iterator[Record]:
        connection = self._file.connect()
        try:
            for partition, first, bounds in spans:
                while records := self._chunk(connection, topic, partition, first=first, end=bounds.next_offset):
                    yield from records
                    first = records[-1].offset + 1
        finally:
            connection.close()

    def _chunk(
        self, connection: sqlite3.Connection, topic: Topic, partition: int, *, first: int, end: int
    ) -> list[Record]:
        with snapshot(connection):
            # Looked up each time: retention may have passed us since the last chunk, and a gap must not go unseen.
            bounds = sqlite_file.bounds_of(connection, self._places.prefix + topic.name)[partition]
            return sqlite_file.select(
                connection, topic, partition, bounds=replace(bounds, next_offset=end), first=first,
                limit=_READ_RECORDS_MAX, bytes_max=POLL_BYTES_MAX,
            )


class SqliteSubscription:
    """The one live member of a (group, topic). See the port; `lost` is always empty, a fenced member owns nothing."""

    def __init__(self, file: LogFile, places: _Places, *, group: str, topic: Topic, version: str) -> None:
        self._file = file
        self._places = places
        self._topic = topic
        self._version = version
        self._numbers = places.numbers_of(topic)
        self._member = (places.prefix + group, places.prefix + topic.name)
        self._first_partition = 0
        with file.transaction() as connection:
            self._epoch = sqlite_file.new_epoch(connection, self._member)
            self._committed = sqlite_file.committed_of(connection, self._member[0], self._numbers, version=version)
        self._connection = file.connect()
        self._positions = {p: self._restart_at(p, b) for p, b in self._bounds().items()}

    def poll(self, records_max: int, wait_s: float) -> list[Record]:
        """See the port. Fenced, for good, once a newer member joined. NotFound when a position is not kept any more."""
        deadline_s = time.monotonic() + wait_s
        while True:
            writes, changes = self._file.writes_seen(), self._changes_seen()
            records = self._read_new(records_max)
            if records or not self._wait_for_change(writes, changes, deadline_s=deadline_s):
                return records

    def lost(self) -> set[int]:
        """See the port."""
        return set()

    def positions(self) -> Mapping[int, int]:
        """See the port."""
        return dict(self._positions)

    def commit(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        """See the port. Invalid for an offset beyond what was polled."""
        for partition, offset in next_offsets.items():
            position = self._positions.get(partition, -1)
            require(0 <= offset <= position, f"commit of offset {offset}, partition {partition} was read to {position}")
        rows_of = self._places.rows_of(outputs)
        with self._file.transaction() as connection:
            self._require_live(connection)
            for number, rows in rows_of.items():
                sqlite_file.insert(connection, number, rows, marker_offsets=1)
            sqlite_file.store_committed(
                connection, self._member[0], self._numbers, version=self._version, offsets=next_offsets
            )
        self._committed.update(next_offsets)

    def rewind(self, partitions: Collection[int]) -> None:
        """See the port."""
        bounds = self._bounds()
        for partition in partitions:
            self._positions[partition] = self._restart_at(partition, bounds[partition])

    def lag(self) -> int:
        """See the port."""
        return sum(b.next_offset - self._restart_at(p, b) for p, b in self._bounds().items())

    def close(self) -> None:
        """See the port."""
        self._connection.close()

    def _bounds(self) -> dict[int, Bounds]:
        with snapshot(self._connection) as connection:
            return sqlite_file.bounds_of(connection, self._member[1])

    def _restart_at(self, partition: int, bounds: Bounds) -> int:
        return self._committed.get(partition, bounds.start_offset)

    def _read_new(self, records_max: int) -> list[Record]:
        """New records, beginning with another partition each time, so that none starves."""
        records: list[Record] = []
        room_bytes = POLL_BYTES_MAX
        positions = dict(self._positions)
        self._first_partition = (self._first_partition + 1) % len(positions)
        with snapshot(self._connection) as connection:
            self._require_live(connection)
            bounds_of = sqlite_file.bounds_of(connection, self._member[1])
            for partition in sorted(positions, key=lambda p: (p - self._first_partition) % len(positions)):
                bounds, limit = bounds_of[partition], records_max - len(records)
                if limit <= 0 or room_bytes <= 0 or positions[partition] == bounds.next_offset:
                    continue
                found = sqlite_file.select(
                    connection, self._topic, partition, bounds=bounds, first=positions[partition],
                    limit=limit, bytes_max=room_bytes,
                )
                room_bytes -= sum(len(record.value or b"") for record in found)
                to_the_end = len(found) < limit and room_bytes > 0
                positions[partition] = bounds.next_offset if to_the_end else found[-1].offset + 1
                records += found
        self._positions = positions
        return records

    def _require_live(self, connection: sqlite3.Connection) -> None:
        if sqlite_file.epoch_of(connection, self._member) != self._epoch:
            raise Fenced(f"a newer member of {self._member[0]} reads {self._member[1]}", frozenset(self._positions))

    def _wait_for_change(self, writes: int, changes: int, *, deadline_s: float) -> bool:
        """Wait until somebody wrote to the file after `writes` and `changes` were seen; False when the time is over."""
        while (left_s := deadline_s - time.monotonic()) > 0:
            self._file.await_write(writes, min(left_s, _FOREIGN_WRITE_CHECK_S))
            writes = self._file.writes_seen()
            if self._changes_seen() != changes:
                return True
        return False

    def _changes_seen(self) -> int:
        """A number that differs after any other connection, of this process or another, committed."""
        with translated():
            ((version,),) = self._connection.execute("PRAGMA data_version").fetchall()
        return int(version)


class _Places:
    """Where records stand: the partitions of every topic, and records as rows of them."""

    def __init__(
        self, file: LogFile, clock: Callable[[], int], *, prefix: str, topics: Mapping[str, Topic]
    ) -> None:
        self.prefix = prefix
        self._file = file
        self._clock = clock
        self._topics = topics
        self._numbers: dict[str, tuple[int, ...]] = {}

    def numbers_of(self, topic: Topic) -> tuple[int, ...]:
        """The topic's partition numbers by partition; its first use creates the topic."""
        known = self._numbers.get(topic.name)
        if known is None:
            with self._file.transaction() as connection:
                known = sqlite_file.create_topic(connection, self.prefix + topic.name, topic.partitions)
            self._numbers[topic.name] = known
        if len(known) != topic.partitions:
            raise Conflict(f"{topic.name} has {len(known)} partitions in {self._file.path}, not {topic.partitions}")
        return known

    def bounds_of(self, topic: Topic) -> dict[int, Bounds]:
        """Partition → its bounds now."""
        self.numbers_of(topic)
        with self._file.reading() as connection:
            return sqlite_file.bounds_of(connection, self.prefix + topic.name)

    def rows_of(self, records: Sequence[Record]) -> dict[int, list[Row]]:
        """Partition number → rows, in the order given. Invalid for what no log can hold."""
        rows: dict[int, list[Row]] = {}
        time_ms = self._clock()
        for record in records:
            row = sqlite_file.row_of(wire(record), time_ms)
            numbers = self._numbers.get(record.topic) or self._numbers_of_name(record.topic)
            rows.setdefault(numbers[partition_of(record.key, len(numbers))], []).append(row)
        return rows

    def _numbers_of_name(self, name: str) -> tuple[int, ...]:
        if name not in self._topics:
            raise Invalid(f"no topic {name!r}; spine/topics.py lists them")
        return self.numbers_of(self._topics[name])
