"""The frontier in SQL: which URLs there are, which are due, who fetches which host, and what is still to be appended.

Every change of a page's row and the record that it causes go into one transaction; the outbox loop appends the record
to the log at least once afterwards. Two processes never fetch one host at a time: a host is leased.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import sqlalchemy as sa

from xinstruct.crawler.domain import page_id_of
from xinstruct.crawler.licences import assert_licence
from xinstruct.crawler.robots import HostRules
from xinstruct.crawler.settle import Page, Settlement, Source
from xinstruct.crawler.tables import (
    BODIES,
    CLAIMS,
    COUNTERS,
    HOSTS,
    NEVER_MS,
    OUTBOX,
    PAGES,
    SOURCES,
    SUPPRESSIONS,
)
from xinstruct.spine import topics
from xinstruct.spine.messages import FetchedPage, Payload
from xinstruct.spine.sql import chunks, insert_new, upsert
from xinstruct.urls import ROW_MARK, host_of

ACTIVE, PAUSED, REMOVED = "active", "paused", "removed"
SITEMAPS_MAX = 10_000
"""Sitemaps of a source: they are no pages of its budget, and an index of indexes can name them without end."""
_NEW_HOST = {"robots_status": 0, "robots_text": "", "tdmrep_text": "", "rules_until_ms": 0, "next_time_ms": 0,
             "lease_owner": "", "lease_until_ms": 0}
_PAGE_FIELDS = tuple(item.name for item in fields(Page))


@dataclass(frozen=True, slots=True)
class HostState:
    """What is known of a host. rules: by origin_of its pages, with the time when they are to be read again."""

    rules: Mapping[str, tuple[HostRules, int]]
    next_time_ms: int


def due_pages(connection: sa.Connection, now_ms: int, *, without: Iterable[str], pages_max: int) -> list[Page]:
    """At most `pages_max` URLs of active sources that are due and not on a host of `without`, longest due first."""
    query = (
        sa.select(*(PAGES.c[name] for name in _PAGE_FIELDS))
        .join(SOURCES, SOURCES.c.source_id == PAGES.c.source_id)
        .where(SOURCES.c.state == ACTIVE, PAGES.c.due_time_ms >= 0, PAGES.c.due_time_ms <= now_ms)
        .order_by(PAGES.c.due_time_ms, PAGES.c.url).limit(pages_max)
    )
    hosts = list(without)
    if hosts:
        query = query.where(PAGES.c.host.not_in(hosts))
    return [Page(**row) for row in connection.execute(query).mappings()]


def has_work(connection: sa.Connection, now_ms: int, *, retry_until_ms: int) -> bool:
    """Whether a URL of an active source is due now, or to be retried until then; hosts that asked for longer aside."""
    patient = connection.execute(sa.select(HOSTS.c.host).where(HOSTS.c.next_time_ms > retry_until_ms)).scalars()
    query = (
        sa.select(PAGES.c.url).join(SOURCES, SOURCES.c.source_id == PAGES.c.source_id)
        .where(SOURCES.c.state == ACTIVE, PAGES.c.due_time_ms >= 0, PAGES.c.host.not_in(list(patient)))
        .where(sa.or_(
            PAGES.c.due_time_ms <= now_ms,
            sa.and_(PAGES.c.attempts > 0, PAGES.c.due_time_ms <= retry_until_ms),
        ))
        .limit(1)
    )
    return connection.execute(query).first() is not None


@dataclass
class Tally:
    """Figures of one source over a batch of visits."""

    known: int = 0
    fetched: int = 0
    failed: int = 0
    denied: int = 0
    error: str = ""

    def add(self, settlement: Settlement, known: int) -> None:
        """Count one visit that ended, with the pages that it found."""
        self.known += known
        self.fetched += settlement.counted in ("fetched", "failed")
        self.failed += settlement.counted == "failed"
        self.denied += settlement.counted == "denied"
        self.error = settlement.error or self.error


def write(connection: sa.Connection, before: Page, settlement: Settlement, tallies: dict[str, Tally]) -> None:
    """Write a visit's settlement: page, records to append, links found; add to its source's tally.

    A page that another process settled in the meantime, or that was added as something else, is left as it is.
    """
    values = asdict(settlement.page)
    # A shorter way to the page may have been found while it was visited, or another source that asserts a licence.
    del values["depth"], values["licence"]
    now = connection.execute(
        PAGES.update().where(
            PAGES.c.url == before.url, PAGES.c.fetch_number == before.fetch_number, PAGES.c.kind == before.kind,
            PAGES.c.source_id == before.source_id,
        ).values(values).returning(PAGES.c.depth, PAGES.c.licence)
    ).one_or_none()
    if now is None:
        return
    if now.depth < before.depth and settlement.counted:
        bring_nearer(connection, [before.url], now.depth, now_ms=settlement.page.fetch_time_ms)
    if now.licence != before.licence and settlement.page.body_digest:
        again = {"due_time_ms": settlement.page.fetch_time_ms, "etag": "", "last_modified": ""}
        connection.execute(PAGES.update().where(PAGES.c.url == before.url).values(again))
    append_later(connection, settlement)
    if settlement.counted:
        tally = tallies.setdefault(before.source_id, Tally())
        tally.add(settlement, add_pages(connection, settlement, already=tally.known))


def append_later(connection: sa.Connection, settlement: Settlement) -> None:
    """Queue the settlement's record and takedown for the log, and remember its body for expiry."""
    if settlement.record is not None:
        enqueue(connection, [settlement.record])
        if settlement.record.body_digest:
            remember_body(connection, settlement.record)
    if settlement.takedown is not None:
        enqueue(connection, [settlement.takedown])


def enqueue(connection: sa.Connection, payloads: Sequence[Payload]) -> None:
    """Put payloads into the outbox, in this order."""
    names = {"FetchedPage": topics.PAGE_FETCHED.name, "TakedownRequested": topics.TAKEDOWN_REQUESTED.name}
    rows = [
        {"topic": names[type(item).__name__], "key": item.key, "record_id": item.id, "value": item.encode()}
        for item in payloads
    ]
    if rows:
        connection.execute(OUTBOX.insert(), rows)


def remember_body(connection: sa.Connection, record: FetchedPage) -> None:
    """Note when a body was stored last."""
    row = {"body_digest": record.body_digest, "store_time_ms": record.fetch_time_ms}
    upsert(connection, BODIES, [row], key=("body_digest",), only_if_newer="store_time_ms")


def add_pages(connection: sa.Connection, settlement: Settlement, *, already: int) -> int:
    """Add the URLs that were found and are new, pages only up to the source's budget; returns how many pages.

    already: pages added to the source in this transaction that its row does not count yet.
    """
    found = settlement.found
    if not found:
        return 0
    there = known_pages(connection, [item.url for item in found])
    source_id, now_ms = settlement.page.source_id, settlement.page.fetch_time_ms
    # Pages of a removed source are free for the next that lists them.
    left = {row.url for row in there.values()
            if row.kind == "page" and row.source_id != source_id and row.state == REMOVED}
    known = {*there} - left
    source = connection.execute(
        sa.select(SOURCES.c.pages_known, SOURCES.c.pages_max, SOURCES.c.licence)
        .where(SOURCES.c.source_id == source_id)
    ).one()
    told = sorted(url for url in known if there[url].licence != source.licence)
    assert_licence(connection, told, source.licence, now_ms=now_ms)
    for depth, items in itertools.groupby(sorted(found, key=lambda item: item.depth), key=lambda item: item.depth):
        pages = [there[item.url] for item in items if item.kind == "page" and item.url in known]
        urls = [row.url for row in pages if row.source_id == source_id and row.depth > depth]
        bring_nearer(connection, urls, depth, now_ms=now_ms)
    room = {"page": source.pages_max - source.pages_known - already}
    if any(item.kind == "sitemap" for item in found):
        room["sitemap"] = SITEMAPS_MAX - _sitemaps_known(connection, source_id)
    added: Counter[str] = Counter()
    rows = []
    for item in found:
        if item.url in known or added[item.kind] >= room.get(item.kind, 1):
            continue
        known.add(item.url)
        added[item.kind] += 1
        rows.append(asdict(Page(
            url=item.url, host=host_of(item.url), source_id=source_id, kind=item.kind, depth=item.depth,
            hops=item.hops, due_time_ms=now_ms, licence=source.licence,
        )))
    # Never over a row: another process may have found the URL, and visited it, since it was looked for.
    insert_new(connection, PAGES, [row for row in rows if row["url"] not in left], key=("url",))
    for row in rows:
        if row["url"] in left:
            # What was fetched of it stays known, or the next fetch would bear the first one's id.
            new = ("source_id", "depth", "hops", "due_time_ms", "attempts", "etag", "last_modified", "licence")
            connection.execute(PAGES.update().where(PAGES.c.url == row["url"]).values({n: row[n] for n in new}))
    return added["page"]


def known_pages(connection: sa.Connection, urls: Sequence[str]) -> dict[str, Any]:
    """Rows of those of `urls` that the frontier has, with their sources' states; asked in parts, for databases limit
    the values of one statement.
    """
    rows: dict[str, Any] = {}
    for part in chunks(urls):
        query = (
            sa.select(PAGES.c.url, PAGES.c.source_id, PAGES.c.kind, PAGES.c.depth, PAGES.c.licence, SOURCES.c.state)
            .outerjoin(SOURCES, SOURCES.c.source_id == PAGES.c.source_id)
            .where(PAGES.c.url.in_(part))
        )
        rows |= {row.url: row for row in connection.execute(query)}
    return rows


def _sitemaps_known(connection: sa.Connection, source_id: str) -> int:
    known = sa.select(sa.func.count()).where(PAGES.c.source_id == source_id, PAGES.c.kind == "sitemap")
    return int(connection.execute(known).scalar_one())


def bring_nearer(connection: sa.Connection, urls: Sequence[str], depth: int, *, now_ms: int) -> None:
    """A way of `depth` links leads to the pages, which were farther; those that were visited are visited again.

    So what a crawl reaches does not depend on the order of its visits: further links may be within the source's depth
    now.
    """
    for part in chunks(urls):
        # By the URL alone: with its source in the condition, SQLite looks through all pages of the source.
        pages = PAGES.c.url.in_(part)
        depth_max = sa.select(SOURCES.c.depth_max).where(SOURCES.c.source_id == PAGES.c.source_id).scalar_subquery()
        # Without a validator the page is sent whole, with its links.
        connection.execute(
            PAGES.update().where(pages, PAGES.c.fetch_number > 0, depth_max > depth)
            .values(due_time_ms=now_ms, etag="", last_modified="")
        )
        # Another process may have found a still shorter way.
        least = sa.case((PAGES.c.depth > depth, depth), else_=PAGES.c.depth)
        connection.execute(PAGES.update().where(pages).values(depth=least))


def count(connection: sa.Connection, tallies: Mapping[str, Tally], *, now_ms: int) -> None:
    """Add tallies to their sources' figures."""
    for source_id, tally in tallies.items():
        values: dict[Any, Any] = {
            "pages_known": SOURCES.c.pages_known + tally.known,
            "pages_fetched": SOURCES.c.pages_fetched + tally.fetched,
            "pages_failed": SOURCES.c.pages_failed + tally.failed,
            "pages_denied": SOURCES.c.pages_denied + tally.denied,
        }
        if tally.error:
            values["last_error"] = tally.error[:500]
        touch(connection, source_id, values, now_ms=now_ms)


def touch(connection: sa.Connection, source_id: str, values: Mapping[Any, Any], *, now_ms: int) -> None:
    """Change a source's row and give it the next change number, by which watchers find it."""
    number = connection.execute(
        COUNTERS.update().where(COUNTERS.c.name == "sources").values(value=COUNTERS.c.value + 1)
        .returning(COUNTERS.c.value)
    ).scalar_one_or_none()
    if number is None:
        upsert(connection, COUNTERS, [{"name": "sources", "value": 1}], key=("name",))
        number = 1
    connection.execute(
        SOURCES.update().where(SOURCES.c.source_id == source_id)
        .values(**values, change_time_ms=now_ms, change_number=number)
    )


def sources_of(connection: sa.Connection, source_ids: Iterable[str]) -> dict[str, Source]:
    """Sources by id."""
    rows = connection.execute(sa.select(SOURCES).where(SOURCES.c.source_id.in_(set(source_ids))))
    return {
        row.source_id: Source(row.source_id, tuple(json.loads(row.hosts)), row.depth_max, row.poll_interval_s,
                              row.declared_language)
        for row in rows
    }


# ── hosts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def lease_hosts(connection: sa.Connection, hosts: Sequence[str], owner: str, *, now_ms: int, until_ms: int) -> set[str]:
    """Those of `hosts` that `owner` may fetch from until `until_ms`: free ones, its own, those whose lease ended."""
    known = set(connection.execute(sa.select(HOSTS.c.host).where(HOSTS.c.host.in_(hosts))).scalars())
    upsert(connection, HOSTS, [{"host": host, **_NEW_HOST} for host in sorted({*hosts} - known)], key=("host",))
    connection.execute(
        HOSTS.update()
        .where(HOSTS.c.host.in_(hosts), sa.or_(HOSTS.c.lease_owner == owner, HOSTS.c.lease_until_ms <= now_ms))
        .values(lease_owner=owner, lease_until_ms=until_ms)
    )
    mine = sa.select(HOSTS.c.host).where(HOSTS.c.host.in_(hosts), HOSTS.c.lease_owner == owner)
    return set(connection.execute(mine).scalars())


def host_states(connection: sa.Connection, hosts: Iterable[str]) -> dict[str, HostState]:
    """What is known of leased hosts."""
    origins = {f"{scheme}://{host}": host for host in hosts for scheme in ("http", "https")}
    wanted = {*origins, *origins.values()}
    rows = {row.host: row for row in connection.execute(sa.select(HOSTS).where(HOSTS.c.host.in_(wanted)))}
    states = {host: HostState({}, rows[host].next_time_ms) for host in origins.values()}
    for origin, host in origins.items():
        if origin in rows:
            row = rows[origin]
            rules = HostRules(row.robots_status, row.robots_text, row.tdmrep_text)
            states[host] = replace(states[host], rules={**states[host].rules, origin: (rules, row.rules_until_ms)})
    return states


def store_rules(connection: sa.Connection, origin: str, rules: HostRules, *, until_ms: int) -> None:
    """Keep what the robots.txt and tdmrep.json of `origin` said."""
    row = {**_NEW_HOST, "host": origin, "robots_status": rules.robots_status, "robots_text": rules.robots_text,
           "tdmrep_text": rules.tdmrep_text, "rules_until_ms": until_ms}
    upsert(connection, HOSTS, [row], key=("host",))


def postpone_host(connection: sa.Connection, host: str, until_ms: int) -> None:
    """Nothing is asked of the host before `until_ms`, or later where that was said before."""
    later = sa.and_(HOSTS.c.host == host, HOSTS.c.next_time_ms < until_ms)
    connection.execute(HOSTS.update().where(later).values(next_time_ms=until_ms))


# ── claims, suppressions, bodies ────────────────────────────────────────────────────────────────────────────────────


def claim(connection: sa.Connection, wanted: Sequence[tuple[str, int, int]]) -> list[bool]:
    """For each (fetch id, partition, offset), at most IN_VALUES_MAX: whether that record is the first of its fetch.

    Repeatable: the same place gets the same answer. Two of one fetch in `wanted` are taken in their order.
    """
    query = sa.select(CLAIMS).where(CLAIMS.c.fetch_id.in_([fetch_id for fetch_id, _, _ in wanted]))
    owners = {row.fetch_id: (row.partition, row.offset) for row in connection.execute(query)}
    new = []
    for fetch_id, partition, offset in wanted:
        if fetch_id not in owners:
            owners[fetch_id] = (partition, offset)
            new.append({"fetch_id": fetch_id, "partition": partition, "offset": offset})
    if new:
        connection.execute(CLAIMS.insert(), new)
    return [owners[fetch_id] == (partition, offset) for fetch_id, partition, offset in wanted]


def suppressed(connection: sa.Connection, urls: Sequence[str]) -> set[str]:
    """Those of `urls` that a takedown covers: by URL, by host (with or without port) or by page id."""
    keys: dict[tuple[str, str], set[str]] = {}
    for url in urls:
        host = host_of(url)
        names = [("url", url), ("url", url.partition(ROW_MARK)[0]), ("document", page_id_of(url))]
        for key in (*names, ("host", host), ("host", host.partition(":")[0])):
            keys.setdefault(key, set()).add(url)
    rows = connection.execute(
        sa.select(SUPPRESSIONS.c.kind, SUPPRESSIONS.c.target)
        .where(SUPPRESSIONS.c.target.in_(sorted({target for _, target in keys})))
    )
    return {url for row in rows for url in keys.get((row.kind, row.target), ())}


def expired_bodies(connection: sa.Connection, before_ms: int, *, bodies_max: int) -> list[str]:
    """Digests of raw bodies stored last before `before_ms`, oldest first."""
    query = (
        sa.select(BODIES.c.body_digest).where(BODIES.c.store_time_ms < before_ms)
        .order_by(BODIES.c.store_time_ms, BODIES.c.body_digest).limit(bodies_max)
    )
    return list(connection.execute(query).scalars())


def forget_bodies(connection: sa.Connection, digests: Sequence[str]) -> None:
    """Drop the notes of bodies that were erased; their pages are fetched whole at the next visit."""
    connection.execute(BODIES.delete().where(BODIES.c.body_digest.in_(digests)))
    connection.execute(PAGES.update().where(PAGES.c.body_digest.in_(digests)).values(etag="", last_modified=""))


def stop_page(connection: sa.Connection, url: str) -> None:
    """Never visit the URL again."""
    connection.execute(PAGES.update().where(PAGES.c.url == url).values(due_time_ms=NEVER_MS))
