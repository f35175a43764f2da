"""Sources as people see them: a row each, with how many of its pages are due."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from xinstruct.crawler.tables import PAGES, SOURCES
from xinstruct.spine.sql import transaction


def source_row(database: sa.Engine, source_id: str, *, now_ms: int) -> Any:
    """The source's row with `pages_waiting`, None when there is none."""
    found = _rows(database, _sources(now_ms).where(SOURCES.c.source_id == source_id))
    return found[0] if found else None


def sources_after(database: sa.Engine, source_id: str, *, now_ms: int, rows_max: int) -> Sequence[Any]:
    """Rows in the order of their ids, from the one after `source_id`."""
    query = _sources(now_ms).where(SOURCES.c.source_id > source_id)
    return _rows(database, query.order_by(SOURCES.c.source_id).limit(rows_max))


def sources_changed(database: sa.Engine, change_number: int, *, now_ms: int, rows_max: int) -> Sequence[Any]:
    """Rows that changed after `change_number`, in the order of their changes."""
    query = _sources(now_ms).where(SOURCES.c.change_number > change_number)
    return _rows(database, query.order_by(SOURCES.c.change_number).limit(rows_max))


def source_id_of_names(database: sa.Engine, source_id: str, locations: Collection[str]) -> str:
    """Id of the source with that id or one of the locations, empty when there is none."""
    where = sa.or_(SOURCES.c.source_id == source_id, SOURCES.c.location.in_(locations))
    with transaction(database) as connection:
        found = connection.execute(sa.select(SOURCES.c.source_id).where(where).order_by(SOURCES.c.source_id))
        return str(found.scalars().first() or "")


def _sources(now_ms: int) -> sa.Select[Any]:
    due = (PAGES.c.due_time_ms >= 0) & (PAGES.c.due_time_ms <= now_ms)
    waiting = sa.select(sa.func.count()).where(PAGES.c.source_id == SOURCES.c.source_id, due).scalar_subquery()
    return sa.select(SOURCES, waiting.label("pages_waiting"))


def _rows(database: sa.Engine, query: sa.Select[Any]) -> Sequence[Any]:
    with transaction(database) as connection:
        return connection.execute(query).all()
