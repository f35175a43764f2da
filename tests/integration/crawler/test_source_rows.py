"""Sources as people ask for them, over real SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from xinstruct.crawler.source_rows import source_id_of_names, source_row, sources_after, sources_changed
from xinstruct.crawler.tables import PAGES, SOURCES
from xinstruct.spine.sql import METADATA, open_engine, transaction

NOW_MS = 1_000


@pytest.fixture
def database(tmp_path: Path) -> sa.Engine:
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite'}")
    METADATA.create_all(engine, [SOURCES, PAGES])
    with transaction(engine) as connection:
        connection.execute(SOURCES.insert(), [
            blank(SOURCES, source_id="a", location="http://a.example/", change_number=3),
            blank(SOURCES, source_id="b", location="http://b.example/", change_number=1),
        ])
        connection.execute(PAGES.insert(), [
            blank(PAGES, url="http://a.example/now", source_id="a", due_time_ms=NOW_MS),
            blank(PAGES, url="http://a.example/later", source_id="a", due_time_ms=NOW_MS + 1),
            blank(PAGES, url="http://a.example/never", source_id="a", due_time_ms=-1),
        ])
    return engine


def blank(table: sa.Table, **values: Any) -> dict[str, Any]:
    """A row with nothing in it but `values`."""
    return {
        column.name: values.get(column.name, "" if isinstance(column.type, sa.Text) else 0) for column in table.columns
    }


def test_a_source_counts_the_pages_that_are_due_now(database: sa.Engine) -> None:
    assert source_row(database, "a", now_ms=NOW_MS).pages_waiting == 1
    assert source_row(database, "b", now_ms=NOW_MS).pages_waiting == 0


def test_a_source_that_is_not_there_is_nothing_and_not_an_error(database: sa.Engine) -> None:
    assert source_row(database, "c", now_ms=NOW_MS) is None


def test_a_page_of_sources_begins_after_the_id_before(database: sa.Engine) -> None:
    assert [row.source_id for row in sources_after(database, "", now_ms=NOW_MS, rows_max=5)] == ["a", "b"]
    assert [row.source_id for row in sources_after(database, "a", now_ms=NOW_MS, rows_max=5)] == ["b"]


def test_changes_come_in_their_order_and_only_those_after_the_last_seen(database: sa.Engine) -> None:
    assert [row.source_id for row in sources_changed(database, -1, now_ms=NOW_MS, rows_max=5)] == ["b", "a"]
    assert [row.source_id for row in sources_changed(database, 1, now_ms=NOW_MS, rows_max=5)] == ["a"]


def test_a_source_is_found_by_its_id_or_by_one_of_its_locations(database: sa.Engine) -> None:
    assert source_id_of_names(database, "a", []) == "a"
    assert source_id_of_names(database, "?", ["http://b.example/", "http://x.example/"]) == "b"
    assert source_id_of_names(database, "?", ["http://x.example/"]) == ""
