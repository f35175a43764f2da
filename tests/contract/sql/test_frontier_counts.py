"""A source's figures grow the same on both databases."""

from __future__ import annotations

import sqlalchemy as sa

from xinstruct.crawler import frontier
from xinstruct.crawler.settle import Page, Settlement
from xinstruct.crawler.tables import SOURCES
from xinstruct.spine.sql import create_schema, transaction


def test_a_visit_counts_once_in_what_it_was(engine: sa.Engine) -> None:
    create_schema(engine)
    page, tally = Page("http://a.example/", "a.example", "source"), frontier.Tally()
    for counted in ("fetched", "failed", "denied", "fetched"):
        tally.add(Settlement(page, counted), known=2)
    with transaction(engine) as connection:
        connection.execute(sa.insert(SOURCES), [blank_source("source")])
        frontier.count(connection, {"source": tally}, now_ms=7)
        row = connection.execute(sa.select(SOURCES)).one()
    assert (row.pages_known, row.pages_fetched, row.pages_failed, row.pages_denied) == (8, 3, 1, 1)


def blank_source(source_id: str) -> dict[str, object]:
    """A row with nothing in it but its id."""
    row: dict[str, object] = {column.name: "" if isinstance(column.type, sa.Text) else 0 for column in SOURCES.columns}
    return row | {"source_id": source_id}
