"""The crawler's outbox and frontier with several writers, on both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa

from xinstruct.crawler import frontier, outbox
from xinstruct.crawler.settle import Found, Page, Settlement
from xinstruct.crawler.tables import OUTBOX, PAGES, SOURCES
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.sql import create_schema, transaction


def test_a_record_committed_late_under_a_small_number_is_not_forgotten_with_its_elders(engine: sa.Engine) -> None:
    create_schema(engine)
    put(engine, 11)
    with transaction(engine) as connection:
        _, sequences = outbox.oldest(connection, 10)
    put(engine, 10)  # begun before 11 was written, committed after 11 was read
    with transaction(engine) as connection:
        outbox.forget(connection, sequences)
        assert [record.id for record in outbox.oldest(connection, 10)[0]] == ["record-10"]


def test_records_that_one_process_appends_are_not_appended_by_another(engine: sa.Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("a SQLite database has one process")
    create_schema(engine)
    put(engine, 1)
    with outbox.in_hand(engine, 10) as first:
        put(engine, 2)
        with outbox.in_hand(engine, 10) as second, outbox.in_hand(engine, 10) as third:
            assert [[record.id for record in records] for records in (first, second, third)] == [
                ["record-1"], ["record-2"], [],
            ]
        with transaction(engine) as connection:  # what is in hand is still to be done
            assert [record.id for record in outbox.oldest(connection, 10)[0]] == ["record-1"]
    with transaction(engine) as connection:
        assert outbox.oldest(connection, 10)[0] == []


def test_records_whose_appending_failed_are_appended_later(engine: sa.Engine) -> None:
    create_schema(engine)
    put(engine, 1)
    with pytest.raises(Unavailable), outbox.in_hand(engine, 10):
        raise Unavailable("the log is away")
    with outbox.in_hand(engine, 10) as records:
        assert [record.id for record in records] == ["record-1"]


def test_a_page_that_was_found_and_visited_meanwhile_is_not_begun_anew(engine: sa.Engine, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    create_schema(engine)
    page = Page("http://a.example/", "a.example", "source")
    visited = Page("http://a.example/1", "a.example", "source", fetch_number=3, body_digest="sha256:1")
    settlement = Settlement(replace(page, fetch_number=1), "fetched", found=(Found(visited.url, "page", 1, 0),))
    with transaction(engine) as connection:
        blank = {column.name: "" if isinstance(column.type, sa.Text) else 0 for column in SOURCES.columns}
        connection.execute(sa.insert(SOURCES), [blank | {"source_id": "source", "hosts": "[]", "pages_max": 9}])
        connection.execute(sa.insert(PAGES), [vars_of(page), vars_of(visited)])
        monkeypatch.setattr(frontier, "known_pages", lambda *_: {})  # looked before the other process committed
        frontier.add_pages(connection, settlement, already=0)
        row = connection.execute(sa.select(PAGES).where(PAGES.c.url == visited.url)).one()
    assert (row.fetch_number, row.body_digest) == (3, "sha256:1")


def put(engine: sa.Engine, sequence: int) -> None:
    row = {"sequence": sequence, "topic": "page-fetched-v1", "key": "k", "record_id": f"record-{sequence}"}
    with transaction(engine) as connection:
        connection.execute(sa.insert(OUTBOX), [row | {"value": b""}])


def vars_of(page: Page) -> dict[str, object]:
    return {name: getattr(page, name) for name in Page.__dataclass_fields__}
