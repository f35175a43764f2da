"""The SQL database: one schema on SQLite and PostgreSQL. SQLAlchemy core only, no ORM.

Tables stand in one tables.py a service, all on METADATA below; migrations (alembic) in spine/migrations. SQLite runs in
WAL mode with secure_delete, so that an erased row leaves no bytes behind, and one writer at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, InterfaceError, InternalError, OperationalError

from xinstruct.spine.errors import Unavailable

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

BUSY_TIMEOUT_MS = 30_000
IN_VALUES_MAX = 500
AGAIN_S = 0.5
_UNIQUE_VIOLATION = "23505"
AWAY = (OperationalError, InterfaceError, InternalError)
"""What a driver raises when the database does not answer, cannot write (a standby) or gave a transaction up."""

Engine = sa.Engine
"""For signatures of modules that hand a database on and ask it nothing."""


def open_engine(url: str) -> sa.Engine:
    """An engine for "sqlite:///path" or "postgresql+psycopg://…"; connects lazily."""
    if not url.startswith("sqlite"):
        engine = sa.create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=10)
        sa.event.listen(engine, "connect", _configure_postgresql)
        return engine
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False})
    sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction, committed at the end of the block.

    Unavailable when the database does not answer, cannot write (a standby) or gave the transaction up, when no
    connection of the pool is free in time, or when another process inserted the same key at the same moment.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except AWAY as error:
        raise Unavailable(f"the database does not answer or cannot write: {error.orig}") from error
    except sa.exc.TimeoutError as error:
        raise Unavailable("no connection to the database is free: all of this process are at work") from error
    except IntegrityError as error:
        # Looked for, not found, inserted, by two at once: only PostgreSQL has two writers. The second try sees the row.
        if getattr(error.orig, "sqlstate", "") != _UNIQUE_VIOLATION:
            raise
        raise Unavailable("another process wrote the same row; it is tried again", 0.1) from error


def upsert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *,
    key: Sequence[str], only_if_newer: str | None = None,
) -> None:
    """Insert `rows`, or update those whose `key` columns exist; with `only_if_newer`, only where that column grows.

    All rows must hold the same columns, and no two of them the same key.
    """
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement: Any = dialect.insert(table)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in key}
    where = None if only_if_newer is None else statement.excluded[only_if_newer] > table.c[only_if_newer]
    if changed:
        statement = statement.on_conflict_do_update(index_elements=list(key), set_=changed, where=where)
    else:
        statement = statement.on_conflict_do_nothing(index_elements=list(key))
    connection.execute(statement, list(rows))


def insert_new(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, key: Sequence[str]
) -> None:
    """Insert those of `rows` whose `key` columns are not there yet; what is there stays as it is."""
    if rows:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        statement = dialect.insert(table).on_conflict_do_nothing(index_elements=list(key))
        connection.execute(statement, list(rows))


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """`values` without repeats, sorted, in lists short enough for one IN (…): databases limit a statement's values."""
    ordered = sorted(set(values))
    for start in range(0, len(ordered), IN_VALUES_MAX):
        yield ordered[start : start + IN_VALUES_MAX]


def await_answer(engine: sa.Engine, *, within_s: float) -> None:
    """Return when the database answers, which may be starting at this very moment. Unavailable after `within_s`."""
    end_s = time.monotonic() + within_s
    while True:
        try:
            with engine.connect():
                return
        except AWAY as error:
            if time.monotonic() >= end_s:
                raise Unavailable(f"the database does not answer: {error.orig}") from error
        time.sleep(AGAIN_S)


def create_schema(engine: sa.Engine) -> None:
    """Bring an empty or older database to the schema of this version (alembic upgrade head).

    A newer one of the same minor version stays as it is; Conflict for one of another.
    """
    from xinstruct.spine.migrations import upgrade

    upgrade(engine)


def scrub(engine: sa.Engine) -> None:
    """Rewrite the database so that erased rows leave no bytes in its files. Unavailable while a reader is in the way.

    Why secure_delete is not enough: when SQLite moves rows between pages, copies stay in the free part of the old ones.
    On PostgreSQL the space of dead rows is freed for reuse; its write-ahead log ages out by the server's own rules.
    """
    if engine.dialect.name != "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM")
        return
    pooled = engine.raw_connection()
    driver: Any = pooled.driver_connection  # past the engine's BEGIN: VACUUM runs outside transactions only
    try:
        driver.execute("VACUUM")
        ((busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except engine.dialect.loaded_dbapi.OperationalError as error:
        raise Unavailable(f"the database cannot be rewritten now: {error}", 1.0) from error
    finally:
        pooled.close()
    if busy:
        raise Unavailable("a reader holds the database's write-ahead log; it is tried again", 1.0)


def _configure_postgresql(connection: Any, _record: Any) -> None:
    """Text with a NUL, which SQLite takes and PostgreSQL does not, is stored with U+FFFD in its place.

    Such text comes from strangers (a robots.txt, a command): refused, it would be tried again for ever.
    """
    from psycopg.types.string import StrDumperUnknown

    class WithoutNul(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd"))

    connection.adapters.register_dumper(str, WithoutNul)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own transaction handling is off: BEGIN IMMEDIATE above takes the write lock at once, so two writers
    # wait for each other instead of failing with "database is locked" half-way.
    connection.isolation_level = None
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", "foreign_keys=ON")
    for pragma in (*pragmas, f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")
