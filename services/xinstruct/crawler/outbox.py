"""Records that the frontier has settled and that are still to be appended to the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from xinstruct.crawler.tables import OUTBOX
from xinstruct.spine.record import Record
from xinstruct.spine.sql import transaction


@contextmanager
def in_hand(database: sa.Engine, records_max: int) -> Iterator[list[Record]]:
    """The oldest records still to append that no other process has in hand; forgotten when the block ends well.

    They are locked meanwhile: each of several crawlers would append them all. A SQLite database has one process, whose
    other threads would wait for the log with it: nothing is locked there.
    """
    alone = database.dialect.name == "postgresql"
    with transaction(database) as connection:
        records, sequences = oldest(connection, records_max, alone=alone)
        if alone:
            yield records
            forget(connection, sequences)
    if not alone:
        yield records
        with transaction(database) as connection:
            forget(connection, sequences)


def oldest(connection: sa.Connection, records_max: int, *, alone: bool = False) -> tuple[list[Record], list[int]]:
    """The oldest records still to append, and their sequence numbers. `alone`: locked, those of others left out."""
    query = sa.select(OUTBOX).order_by(OUTBOX.c.sequence).limit(records_max)
    rows = connection.execute(query.with_for_update(skip_locked=True) if alone else query).all()
    records = [Record(row.topic, row.key, row.record_id, bytes(row.value)) for row in rows]
    return records, [row.sequence for row in rows]


def forget(connection: sa.Connection, sequences: Sequence[int]) -> None:
    """Drop what was appended: these alone, for a smaller number may be committed after a greater one was read."""
    if sequences:
        connection.execute(OUTBOX.delete().where(OUTBOX.c.sequence.in_(sequences)))
