"""Crawl commands from the log into the frontier, each applied once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.domain import CLOSED
from xinstruct.crawler.frontier import ACTIVE, PAUSED, REMOVED, touch
from xinstruct.crawler.licences import assert_licence, change_licence
from xinstruct.crawler.settle import Page
from xinstruct.crawler.tables import HOSTS, NEVER_MS, PAGES, POSITIONS, REQUESTS, SOURCES
from xinstruct.spine.app import Clock
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, require
from xinstruct.spine.log import Log
from xinstruct.spine.messages import CrawlAction, CrawlRequested, DeadLetter, SourceKind
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.sql import chunks, transaction, upsert
from xinstruct.spine.topics import CRAWL_REQUESTED, DEAD_LETTERS
from xinstruct.urls import canonical_url, host_of, normal_host, origin_of

COMMANDS_MAX = 200
TEXT_KINDS = (SourceKind.JSONL, SourceKind.PARQUET)
_PAGE_KINDS = {SourceKind.URL: "page", SourceKind.SITEMAP: "sitemap", SourceKind.FEED: "feed"}


class CommandLoop:
    """Reads crawl-requested-v1. Its position is in SQL, in the transaction of what it changed there."""

    name = "commands"

    def __init__(
        self, database: sa.Engine, log: Log, *, blobs: Blobs, clock: Clock, settings: FetchSettings
    ) -> None:
        self._database = database
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._settings = settings

    def step(self) -> bool:
        """Apply what was appended since the last step."""
        ends = self._log.end_offsets(CRAWL_REQUESTED)
        positions = positions_of(self._database)
        if not _waiting(positions, ends):
            return False
        records = [record for record in self._log.read(CRAWL_REQUESTED, positions) if record.value is not None]
        with transaction(self._database) as connection:
            for record in records:
                self._take(connection, record)
            # Past transaction markers too: "last record + 1" would never reach the end.
            reached = {record.partition: record.offset + 1 for record in records}
            rows = [
                {"partition": partition, "next_offset": max(end, reached.get(partition, 0))}
                for partition, end in ends.items()
            ]
            upsert(connection, POSITIONS, rows, key=("partition",), only_if_newer="next_offset")
        return True

    def pending(self) -> bool:
        """Whether commands were appended that are not applied."""
        return _waiting(positions_of(self._database), self._log.end_offsets(CRAWL_REQUESTED))

    def close(self) -> None:
        """Nothing to leave."""

    def _take(self, connection: sa.Connection, record: Record) -> None:
        try:
            apply(connection, CrawlRequested.decode(record.value or b""), self._settings, now_ms=self._clock())
        except Invalid as error:
            self._bury(record, error.message)

    def _bury(self, record: Record, detail: str) -> None:
        """A command that nobody can carry out: a dead letter. Repeated with the same id when the step is repeated."""
        letter = DeadLetter(
            slot_id("fetch/dead", "1", record.id, 0), "fetch", "1", record.topic, record.id, record.key, "invalid",
            detail[:500], 1, self._blobs.put(record.value or b""), record.partition, record.offset,
        )
        self._log.append([letter.record(DEAD_LETTERS["fetch"].name)])


def commands_waiting(database: sa.Engine, log: Log) -> int:
    """Commands on the log that are not applied yet."""
    positions = positions_of(database)
    if not _waiting(positions, log.end_offsets(CRAWL_REQUESTED)):
        return 0  # nearly always, and then nothing is read
    return sum(record.value is not None for record in log.read(CRAWL_REQUESTED, positions))


def _waiting(positions: Mapping[int, int], ends: Mapping[int, int]) -> bool:
    return any(positions.get(partition, 0) < end for partition, end in ends.items())


def positions_of(database: sa.Engine) -> dict[int, int]:
    """Partition of crawl-requested-v1 → offset of the first command that is not applied."""
    with transaction(database) as connection:
        rows = connection.execute(sa.select(POSITIONS)).all()
    return {row.partition: row.next_offset for row in rows}


def apply(connection: sa.Connection, command: CrawlRequested, settings: FetchSettings, *, now_ms: int) -> None:
    """Carry the command out, unless its request_id was seen. Invalid when it makes no sense."""
    known = sa.select(REQUESTS.c.request_id).where(REQUESTS.c.request_id == command.request_id)
    if connection.execute(known).first() is not None:
        return
    if command.action is CrawlAction.ADD:
        _add(connection, command, settings, now_ms=now_ms)
    elif command.action is CrawlAction.PAUSE:
        _steer(connection, command.source_id, ACTIVE, PAUSED, now_ms=now_ms)
    elif command.action is CrawlAction.RESUME:
        _steer(connection, command.source_id, PAUSED, ACTIVE, now_ms=now_ms)
        _ask_closed_again(connection, command.source_id, settings, now_ms=now_ms)
    else:
        require(command.action is CrawlAction.REMOVE, "a crawl command without an action")
        _remove(connection, command.source_id, now_ms=now_ms)
    connection.execute(REQUESTS.insert().values(request_id=command.request_id))


def _add(connection: sa.Connection, command: CrawlRequested, settings: FetchSettings, *, now_ms: int) -> None:
    require(command.kind is not SourceKind.UNSPECIFIED, "a source without a kind")
    text = command.kind in TEXT_KINDS
    location = command.location if text else canonical_url(command.location)
    poll_s = command.poll_interval_s or (settings.feed_poll_interval_s if command.kind is SourceKind.FEED else 0)
    values = {
        "kind": int(command.kind), "location": location, "hosts": json.dumps(hosts_of(command)), "state": ACTIVE,
        "pages_max": command.pages_max or settings.pages_max, "depth_max": command.depth_max,
        "text_field": command.text_field or "text", "url_field": command.url_field or "url",
        "licence": command.licence, "declared_language": command.declared_language, "poll_interval_s": poll_s,
        "due_time_ms": now_ms if text else NEVER_MS,
    }
    fresh = {
        "pages_known": 0, "pages_fetched": 0, "pages_failed": 0, "pages_denied": 0, "rows_done": 0, "position": 0,
        "last_error": "", "change_time_ms": now_ms, "change_number": 0,
    }
    known = connection.execute(sa.select(SOURCES).where(SOURCES.c.source_id == command.source_id)).first()
    if known is None:
        connection.execute(SOURCES.insert().values(source_id=command.source_id, **values, **fresh))
    elif known.licence != command.licence:
        change_licence(connection, command.source_id, known.licence, command.licence)
    if known is not None and known.state == REMOVED:
        _revive(connection, command.source_id, now_ms=now_ms)
    elif known is not None:
        _look_again(connection, known, values, now_ms=now_ms)
    _ask_closed_again(connection, command.source_id, settings, now_ms=now_ms)
    seeded = 0 if text else _seed(connection, command, location, now_ms=now_ms)
    touch(connection, command.source_id, {**values, "pages_known": SOURCES.c.pages_known + seeded}, now_ms=now_ms)


def _revive(connection: sa.Connection, source_id: str, *, now_ms: int) -> None:
    """What a removed source had fetched is due again, whole; what it had only found was forgotten at its removal."""
    own = sa.and_(PAGES.c.source_id == source_id, PAGES.c.kind != "row")
    connection.execute(
        PAGES.update().where(own).values(due_time_ms=now_ms, attempts=0, etag="", last_modified="")
    )
    known = sa.select(sa.func.count()).where(PAGES.c.source_id == source_id, PAGES.c.kind == "page")
    touch(connection, source_id, {"pages_known": known.scalar_subquery()}, now_ms=now_ms)


def _look_again(connection: sa.Connection, known: sa.Row[Any], new: Mapping[str, Any], *, now_ms: int) -> None:
    """What the source has visited is due again: edits and removals are noticed, and a poll interval holds for all."""
    visited = sa.and_(PAGES.c.source_id == known.source_id, PAGES.c.kind != "row", PAGES.c.fetch_number > 0)
    again: dict[str, Any] = {"due_time_ms": now_ms, "attempts": 0}
    if any(new[name] != known._mapping[name] for name in ("hosts", "pages_max", "depth_max")):
        # Without a validator they are sent whole, with the links that may be within reach now.
        again |= {"etag": "", "last_modified": ""}
    connection.execute(PAGES.update().where(visited).values(again))


def _ask_closed_again(connection: sa.Connection, source_id: str, settings: FetchSettings, *, now_ms: int) -> None:
    """Pages whose host was closed are due now, and so are its rules, but where a Retry-After is in force."""
    closed = sa.or_(*(PAGES.c.outcome.startswith(f"{failure}:", autoescape=True) for failure in CLOSED))
    own = sa.and_(PAGES.c.source_id == source_id, PAGES.c.due_time_ms >= 0, closed)
    urls = connection.execute(PAGES.update().where(own).values(due_time_ms=now_ms).returning(PAGES.c.url)).scalars()
    # What is kept for longer is what the host itself asked for.
    soon = HOSTS.c.rules_until_ms <= now_ms + settings.robots_retry_s * 1000
    for part in chunks(origin_of(url) for url in urls):
        connection.execute(HOSTS.update().where(HOSTS.c.host.in_(part), soon).values(rules_until_ms=now_ms))


def _seed(connection: sa.Connection, command: CrawlRequested, url: str, *, now_ms: int) -> int:
    """Make the location due now, as what it was added as; returns 1 when it is a page that the source did not have."""
    kind = _PAGE_KINDS[command.kind]
    known = connection.execute(sa.select(PAGES.c.kind, PAGES.c.source_id).where(PAGES.c.url == url)).first()
    if known is None:
        page = Page(url, host_of(url), command.source_id, kind, due_time_ms=now_ms, licence=command.licence)
        row = asdict(page)
        connection.execute(PAGES.insert().values(**row))
    else:
        # It may have been a link, a row of a file, or another source's until now. Without a validator it is sent whole,
        # with its links: they may be within the new depth.
        connection.execute(PAGES.update().where(PAGES.c.url == url).values(
            kind=kind, source_id=command.source_id, depth=0, hops=0, due_time_ms=now_ms, attempts=0, etag="",
            last_modified="",
        ))
        assert_licence(connection, [url], command.licence, now_ms=now_ms)
    return int(kind == "page" and known != (kind, command.source_id))


def hosts_of(command: CrawlRequested) -> Sequence[str]:
    """Hosts whose pages the source may fetch, in the form of domain.host_of; Invalid when one is no host."""
    if command.hosts:
        return [normal_host(host) for host in command.hosts]
    return [] if command.kind in TEXT_KINDS else [host_of(canonical_url(command.location))]


def _steer(connection: sa.Connection, source_id: str, before: str, after: str, *, now_ms: int) -> None:
    state = connection.execute(sa.select(SOURCES.c.state).where(SOURCES.c.source_id == source_id)).scalar_one_or_none()
    if state == before:
        touch(connection, source_id, {"state": after}, now_ms=now_ms)


def _remove(connection: sa.Connection, source_id: str, *, now_ms: int) -> None:
    connection.execute(PAGES.update().where(PAGES.c.source_id == source_id).values(due_time_ms=NEVER_MS))
    connection.execute(PAGES.delete().where(PAGES.c.source_id == source_id, PAGES.c.fetch_number == 0))
    touch(connection, source_id, {"state": REMOVED, "due_time_ms": NEVER_MS}, now_ms=now_ms)
