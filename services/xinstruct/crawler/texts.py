"""Text files (JSONL, Parquet) into the frontier: every row is a page that needs no fetching."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from xinstruct.crawler import frontier
from xinstruct.crawler.domain import POLICY_VERSION, FetchFailure, fetch_id_of, page_id_of
from xinstruct.crawler.locations import check_location
from xinstruct.crawler.settle import Page
from xinstruct.crawler.sources import TextRow, TextRows, read_jsonl, read_parquet
from xinstruct.crawler.tables import NEVER_MS, PAGES, SOURCES
from xinstruct.spine.app import Clock
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, NotFound, Unavailable
from xinstruct.spine.messages import FetchedPage, SourceKind
from xinstruct.spine.sql import transaction, upsert
from xinstruct.urls import ROW_MARK, canonical_url, host_of

ROWS_MAX = 200
ROWS_TOLD_MAX = 1_000
"""Rows without a text that a file gets a record each for; further ones are only counted, or a file of nothing but bad
rows would fill log and catalog with reasons that nobody reads."""
DETAIL_CHARS_MAX = 500
LOCATION_RETRY_MS = 60_000


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the file as a page: its record and the row of the pages table."""

    record: FetchedPage
    page: Page


class TextLoop:
    """Reads one batch of one source a step; where it is stands in SQL, so a kill repeats at most a batch."""

    name = "texts"

    def __init__(self, database: sa.Engine, blobs: Blobs, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def step(self) -> bool:
        """Read rows of the source that is longest due; its trouble is its own and stands in last_error."""
        now_ms = self._clock()
        source = self._due(now_ms)
        if source is None:
            return False
        try:
            check_location(source.location)
            rows = _read(source)
        except (Invalid, NotFound) as error:
            self._fail(source, error.message, due_time_ms=_next_ms(source, now_ms), now_ms=now_ms)
        except Unavailable as error:
            self._fail(source, error.message, due_time_ms=now_ms + LOCATION_RETRY_MS, now_ms=now_ms)
        else:
            self._store(source, rows, now_ms)
        return True

    def pending(self) -> bool:
        """Whether a source has rows to read now."""
        return self._due(self._clock()) is not None

    def close(self) -> None:
        """Nothing to leave."""

    def _due(self, now_ms: int) -> Any:
        query = (
            sa.select(SOURCES)
            .where(SOURCES.c.state == frontier.ACTIVE, SOURCES.c.due_time_ms >= 0, SOURCES.c.due_time_ms <= now_ms)
            .order_by(SOURCES.c.due_time_ms, SOURCES.c.source_id).limit(1)
        )
        with transaction(self._database) as connection:
            return connection.execute(query).first()

    def _store(self, source: Any, rows: TextRows, now_ms: int) -> None:
        good = [row for row in rows.rows if not row.error][:max(source.pages_max - source.pages_known, 0)]
        stored = {row.number: self._blobs.put(row.text.encode()) for row in good}
        bad = [row for row in rows.rows if row.error]
        failed = source.pages_failed + len(bad)
        ended = rows.ended or source.pages_known + len(good) >= source.pages_max
        with transaction(self._database) as connection:
            made = list(_page_rows(connection, source, [(row, stored[row.number]) for row in good], now_ms=now_ms))
            frontier.enqueue(connection, [item.record for item in made])
            frontier.enqueue(connection, list(_bad_records(source, bad, now_ms=now_ms)))
            upsert(connection, PAGES, [asdict(item.page) for item in made], key=("url",))
            for item in made:
                frontier.remember_body(connection, item.record)
            values: dict[str, Any] = {
                "position": rows.position, "rows_done": source.rows_done + len(rows.rows),
                "pages_known": source.pages_known + len(made), "pages_fetched": source.pages_fetched + len(rows.rows),
                "pages_failed": failed,
                "due_time_ms": _next_ms(source, now_ms) if ended else now_ms,
            }
            if bad:
                values["last_error"] = f"row {bad[-1].number}: {bad[-1].error}"[:DETAIL_CHARS_MAX]
            frontier.touch(connection, source.source_id, values, now_ms=now_ms)

    def _fail(self, source: Any, message: str, *, due_time_ms: int, now_ms: int) -> None:
        """Note why the file gives nothing, in the source and as a record, so that the catalog knows too."""
        number, said = source.pages_failed + 1, message[:DETAIL_CHARS_MAX]
        with transaction(self._database) as connection:
            if source.last_error != said:
                frontier.enqueue(connection, [_file_record(source, said, number, now_ms=now_ms)])
            values = {"last_error": said, "pages_failed": number, "due_time_ms": due_time_ms}
            frontier.touch(connection, source.source_id, values, now_ms=now_ms)


def _read(source: Any) -> TextRows:
    if source.kind == SourceKind.JSONL:
        return read_jsonl(source.location, source.position, first_number=source.rows_done, rows_max=ROWS_MAX,
                          text_field=source.text_field, url_field=source.url_field)
    return read_parquet(source.location, source.position, rows_max=ROWS_MAX, text_field=source.text_field,
                        url_field=source.url_field)


def _page_rows(
    connection: sa.Connection, source: Any, rows: Sequence[tuple[TextRow, str]], *, now_ms: int
) -> Iterator[_Row]:
    urls = [_url_of(source, row) for row, _ in rows]
    taken = {*frontier.known_pages(connection, urls)}
    for (row, digest), url in zip(rows, urls, strict=True):
        # Several rows may come from one page: each is a page of its own here, or their ids would collide.
        own = f"{url}{ROW_MARK}{row.number}" if url in taken else url
        taken.add(own)
        yield _page_row(source, row, own, digest, now_ms=now_ms)


def _page_row(source: Any, row: TextRow, url: str, digest: str, *, now_ms: int) -> _Row:
    host = host_of(url) or "file"
    record = FetchedPage(
        fetch_id=fetch_id_of(url, 1), page_id=page_id_of(url), url=url, host=host, source_id=source.source_id,
        fetch_number=1, status=200, body_digest=digest, body_bytes=len(row.text.encode()), fetch_time_ms=now_ms,
        policy_version=POLICY_VERSION, declared_language=source.declared_language, licence=source.licence,
        content_encoding_text="plain",
    )
    page = Page(url, host, source.source_id, "row", due_time_ms=NEVER_MS, fetch_number=1, fetch_time_ms=now_ms,
                licence=source.licence)
    return _Row(record, replace(page, body_digest=digest, body_bytes=record.body_bytes))


def _bad_records(source: Any, bad: Sequence[TextRow], *, now_ms: int) -> Iterator[FetchedPage]:
    """One record a row without a text, up to the source's ROWS_TOLD_MAX; then one of the file, which says so."""
    room = max(ROWS_TOLD_MAX - source.pages_failed, 0)
    for row in bad[:room]:
        url = f"{source.location}{ROW_MARK}{row.number}"
        yield _failed(source, url, FetchFailure.MALFORMED_ROW, row.error, now_ms=now_ms)
    if len(bad) > room and source.pages_failed <= ROWS_TOLD_MAX:
        said = f"more than {ROWS_TOLD_MAX} rows without a text; from row {bad[room].number} on they are only counted"
        yield _file_record(source, said, source.pages_failed + len(bad), now_ms=now_ms)


def _file_record(source: Any, said: str, number: int, *, now_ms: int) -> FetchedPage:
    return _failed(source, source.location, FetchFailure.MALFORMED_LISTING, said, number=number, now_ms=now_ms)


def _failed(
    source: Any, url: str, failure: FetchFailure, said: str, *, now_ms: int, number: int = 1
) -> FetchedPage:
    return FetchedPage(
        fetch_id=fetch_id_of(url, number), page_id=page_id_of(url), url=url, source_id=source.source_id,
        host=source.location.partition("://")[2].partition("/")[0] or "file", fetch_number=number, status=0,
        failure=failure.value, fetch_time_ms=now_ms, policy_version=POLICY_VERSION, detail=said[:DETAIL_CHARS_MAX],
    )


def _url_of(source: Any, row: TextRow) -> str:
    try:
        return canonical_url(row.url)
    except Invalid:
        return f"{source.location}{ROW_MARK}{row.number}"


def _next_ms(source: Any, now_ms: int) -> int:
    return now_ms + source.poll_interval_s * 1000 if source.poll_interval_s else NEVER_MS
