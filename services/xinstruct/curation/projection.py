"""Topics into tables: the catalog is a projection of the log, and can be deleted and read again.

A batch of one topic goes into one SQL transaction together with the offset behind it, and only if the offset in SQL
still is the one that the batch was read from: two processes that project at once do each batch once. A round goes up
to ends that were taken against the flow, so what a record refers to is always there when it is read.

Not covered: of topics that age out (pages, dead letters) a new projection knows only what the log still holds; that
is why SQL is backed up. A page that returns to an old body within the projection's lag may lose its documents until
it changes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Any

from xinstruct.curation import erasure
from xinstruct.curation.tables import (
    PAGES,
    PROJECTION_OFFSETS,
    PROJECTIONS,
    TOMBSTONES,
    TRAINED_MODELS,
    Connection,
    Engine,
    Projection,
    row_of,
)  # fmt: skip
from xinstruct.spine.app import Clock
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, Unavailable
from xinstruct.spine.log import Log
from xinstruct.spine.messages import PAYLOADS, DeadLetter, Payload, TakedownRequested
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.sql import chunks, transaction, upsert
from xinstruct.spine.topics import DEAD_LETTERS, TAKEDOWN_REQUESTED, Topic

STAGE = "curation"
STAGE_VERSION = "curation-1"
TOMBSTONES_PER_APPEND_MAX = 500
STEP_MS_MAX = 500
"""A step begins no further transaction after this time; a reader of a log is dear to open, so one serves several."""
REST_MS = 1_000
"""Between the starts of two rounds: on Kafka a look at the ends is a request a topic, and a reader a connection."""

TOPICS: tuple[Topic, ...] = (TAKEDOWN_REQUESTED, *(item.topic for item in PROJECTIONS))
"""Everything that is projected, in the order of reading: suppressions first, then along the flow."""

_TABLES: Mapping[str, Projection] = {item.topic.name: item for item in PROJECTIONS}


class CatalogProjection:
    """Reads the log into the catalog. Safe to call from several threads."""

    def __init__(self, log: Log, database: Engine, blobs: Blobs, *, clock: Clock, records_max: int) -> None:
        self._log = log
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._records_max = records_max
        self._lock = Lock()
        self._ends: dict[str, dict[int, int]] = {}
        self._rest_until_ms = 0

    def step(self) -> bool:
        """Append queued tombstones, or project what one reader gives; False when nothing waited at the last look."""
        with self._lock:
            return self._append_tombstones() or self._project_next()

    def wake(self) -> None:
        """Let the next step look at the log at once."""
        self._rest_until_ms = 0

    def pending(self) -> bool:
        """Whether records or tombstones wait; if so, the next step does something."""
        with transaction(self._database) as connection:
            if connection.execute(TOMBSTONES.select().limit(1)).first() is not None:
                return True
        waits = self._any_behind(self._look())
        if waits:
            self.wake()
        return waits

    def catch_up(self, *, within_s: float) -> None:
        """Project all that the log holds now. Unavailable when that takes longer than `within_s`."""
        deadline_ms = self._clock() + within_s * 1000
        ends = self._look()
        while self._any_behind(ends):
            if self._clock() > deadline_ms:
                raise Unavailable(f"the catalog is still behind the log after {within_s:g} s; try again", 5.0)
            self.wake()
            self.step()

    def _look(self) -> dict[str, dict[int, int]]:
        """Ends of all topics, taken against the flow: what a record below them refers to is below them too."""
        return {topic.name: self._log.end_offsets(topic) for topic in reversed(TOPICS)}

    def _any_behind(self, ends: Mapping[str, Mapping[int, int]]) -> bool:
        with transaction(self._database) as connection:
            return _first_behind(offsets(connection), ends) is not None

    # ── one batch ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _project_next(self) -> bool:
        with transaction(self._database) as connection:
            known = offsets(connection)
        topic = _first_behind(known, self._ends)
        if topic is None and self._clock() >= self._rest_until_ms:
            self._rest_until_ms = self._clock() + REST_MS
            self._ends = self._look()
            topic = _first_behind(known, self._ends)
        if topic is None:
            return False
        self._project(topic, known.get(topic.name, {}))
        return True

    def _project(self, topic: Topic, begin: Mapping[int, int]) -> None:
        """Project `topic` from `begin` to the end of the round, or for as long as a step may last."""
        ends = self._ends[topic.name]
        wanted = (r for r in self._log.read(topic, begin) if r.offset < ends.get(r.partition, 0))
        deadline_ms = self._clock() + STEP_MS_MAX
        position = dict(begin)
        while True:
            records = list(islice(wanted, self._records_max))
            after = position | {record.partition: record.offset + 1 for record in records}
            whole = len(records) < self._records_max
            if whole:  # transaction markers stand behind the last record: go past them, or the end is never reached
                after = {p: max(after.get(p, 0), ends.get(p, 0)) for p in after.keys() | ends.keys()}
            if not self._store(topic, records, position, after) or whole or self._clock() > deadline_ms:
                return
            position = after

    def _store(
        self, topic: Topic, records: Sequence[Record], begin: Mapping[int, int], after: Mapping[int, int]
    ) -> bool:
        """Write one batch and the offsets behind it; False when another process has done so already."""
        payloads = self._decoded(topic, records)
        with transaction(self._database) as connection:
            if not _claim(connection, topic, begin, after):
                return False
            if topic is TAKEDOWN_REQUESTED:
                for payload in payloads.values():
                    if isinstance(payload, TakedownRequested):
                        erasure.suppress(connection, payload, now_ms=self._clock())
            else:
                _write(connection, _TABLES[topic.name], records, payloads)
            _advance(connection, topic, after)
        return True

    def _decoded(self, topic: Topic, records: Sequence[Record]) -> dict[tuple[int, int], Payload]:
        """Payload by (partition, offset); tombstones have none, and what is no payload goes to the dead letters."""
        payloads: dict[tuple[int, int], Payload] = {}
        letters: list[Record] = []
        for record in records:
            if record.value is None:
                continue
            try:
                payloads[record.partition, record.offset] = PAYLOADS[topic.payload].decode(record.value)
            except Invalid as error:
                letters.append(self._dead_letter(record, record.value, str(error)[:500]))
        if letters:
            self._log.append(letters)
        return payloads

    def _dead_letter(self, record: Record, value: bytes, detail: str) -> Record:
        letter = DeadLetter(
            slot_id(STAGE, STAGE_VERSION, record.id, 0), STAGE, STAGE_VERSION, record.topic, record.id, record.key,
            "invalid", detail, 1, self._blobs.put(value), record.partition, record.offset,
        )  # fmt: skip
        return letter.record(DEAD_LETTERS[STAGE].name)

    def _append_tombstones(self) -> bool:
        with transaction(self._database) as connection:
            order = (TOMBSTONES.c.topic, TOMBSTONES.c.key)
            queued = connection.execute(TOMBSTONES.select().order_by(*order).limit(TOMBSTONES_PER_APPEND_MAX)).all()
        if not queued:
            return False
        self._log.append([Record(row.topic, row.key, row.key, None) for row in queued])
        with transaction(self._database) as connection:
            for row in queued:
                where = (TOMBSTONES.c.topic == row.topic, TOMBSTONES.c.key == row.key)
                connection.execute(TOMBSTONES.delete().where(*where))
        return True


def offsets(connection: Connection) -> dict[str, dict[int, int]]:
    """Topic → partition → where the projection reads next."""
    known: dict[str, dict[int, int]] = {}
    for row in connection.execute(PROJECTION_OFFSETS.select()):
        known.setdefault(row.topic, {})[row.partition] = row.next_offset
    return known


def _first_behind(known: Mapping[str, Mapping[int, int]], ends: Mapping[str, Mapping[int, int]]) -> Topic | None:
    """First topic, in the order of reading, that is not read up to its end."""
    return next((t for t in TOPICS if _behind(known.get(t.name, {}), ends.get(t.name, {}))), None)


def _behind(known: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    return any(known.get(partition, 0) < end for partition, end in ends.items())


def _claim(connection: Connection, topic: Topic, begin: Mapping[int, int], after: Mapping[int, int]) -> bool:
    """Lock the topic's offsets; False when another process has moved them since they were read."""
    first = [{"topic": topic.name, "partition": partition, "next_offset": 0} for partition in sorted(after)]
    upsert(connection, PROJECTION_OFFSETS, first, key=("topic", "partition"), only_if_newer="next_offset")
    table = PROJECTION_OFFSETS
    locked = connection.execute(table.select().where(table.c.topic == topic.name).with_for_update())
    return _moved({row.partition: row.next_offset for row in locked}) == _moved(begin)


def _moved(known: Mapping[int, int]) -> dict[int, int]:
    return {partition: offset for partition, offset in known.items() if offset}


def _advance(connection: Connection, topic: Topic, after: Mapping[int, int]) -> None:
    rows = [{"topic": topic.name, "partition": p, "next_offset": offset} for p, offset in sorted(after.items())]
    upsert(connection, PROJECTION_OFFSETS, rows, key=("topic", "partition"), only_if_newer="next_offset")


def _write(
    connection: Connection, projection: Projection, records: Sequence[Record],
    payloads: Mapping[tuple[int, int], Payload],
) -> None:
    """Upsert what is new, delete what a tombstone names, turn away what comes too late."""
    rows, gone = _folded(projection, records, payloads)
    table, topic = projection.table, projection.topic
    for part in chunks(gone):
        connection.execute(table.delete().where(table.c[projection.key_column].in_(part)))
    late = erasure.late(connection, topic, rows)
    id_column = table.primary_key.columns[0].name
    erasure.turn_away(connection, topic, [row for row in rows if row[id_column] in late], late)
    fresh = [row for row in rows if row[id_column] not in late]
    upsert(connection, table, fresh, key=(id_column,), only_if_newer="log_offset")
    if table is PAGES:
        erasure.supersede(connection, fresh)
    if table is TRAINED_MODELS:
        erasure.name_trained(connection, fresh)


def _folded(
    projection: Projection, records: Sequence[Record], payloads: Mapping[tuple[int, int], Payload]
) -> tuple[list[dict[str, Any]], set[str]]:
    """The rows that are left of `records` (the last of each id), and the keys whose older rows must go."""
    rows: dict[str, dict[str, Any]] = {}
    gone: set[str] = set()
    for record in records:
        payload = payloads.get((record.partition, record.offset))
        if payload is not None:
            rows[payload.id] = row_of(payload, record)
        elif record.value is None:
            gone.add(record.key)
            rows = {name: row for name, row in rows.items() if row[projection.key_column] != record.key}
    return list(rows.values()), gone


