"""The frontier's loops: commands in, pages fetched, text files read, records out, old bodies erased.

Not ask/decide stages (the frontier is SQL). Each step is one bounded piece; a kill between or within steps loses
nothing: what was in flight is still due in SQL, what was settled is in the outbox.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from xinstruct.crawler import frontier, outbox
from xinstruct.crawler.circles import close_circle, free_namers
from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.robots import HostRules, crawl_delay_s
from xinstruct.crawler.settle import Page, Visit, settle
from xinstruct.crawler.visit import Tools, read_rules, refusal, visit
from xinstruct.spine.app import Clock
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.log import Log
from xinstruct.spine.sql import transaction
from xinstruct.urls import origin_of

WAIT_S = 0.2
RETRY_PENDING_MS = 60_000
"""A retry that is due within this time still counts as work to wait for."""
OUTBOX_RECORDS_MAX = 500
DAY_MS = 24 * 3600 * 1000
EXPIRY_INTERVAL_MS = 3600 * 1000


class FetchLoop:
    """Visits due pages: within each host's delay and concurrency, robots.txt first, results settled in batches."""

    name = "fetch"

    def __init__(self, database: sa.Engine, tools: Tools, settings: FetchSettings, *, owner: str) -> None:
        self._database = database
        self._tools = tools
        self._settings = settings
        self._owner = owner
        self._executor = ThreadPoolExecutor(settings.requests_max, thread_name_prefix="visit")
        self._visits: dict[Future[Visit], Page] = {}
        self._readings: dict[Future[HostRules], Page] = {}
        self._hosts: dict[str, frontier.HostState] = {}
        self._leased_until_ms: dict[str, int] = {}
        self._refused_until_ms: dict[str, int] = {}
        self._next_start_s: dict[str, float] = {}
        self._closing = threading.Event()
        self._suppressions = sa.inspect(database).has_table("suppressions")

    def step(self) -> bool:
        """Settle what has ended, start what may start, wait a moment for the rest."""
        started = self._start()
        if not self._visits and not self._readings:
            if not started and self.pending():
                self._closing.wait(WAIT_S / 4)  # a host's delay, or a retry that is due soon
            return started
        running: list[Future[Any]] = [*self._visits, *self._readings]
        wait(running, timeout=WAIT_S, return_when=FIRST_COMPLETED)
        return self._settle() or started

    def pending(self) -> bool:
        """Whether a page is being visited, is due, or is to be retried within a minute."""
        if self._visits or self._readings:
            return True
        now_ms = self._tools.clock()
        with transaction(self._database) as connection:
            return frontier.has_work(connection, now_ms, retry_until_ms=now_ms + RETRY_PENDING_MS)

    def close(self) -> None:
        """Abandon the visits in flight; they are still due."""
        self._closing.set()
        self._executor.shutdown(wait=False, cancel_futures=True)

    # ── start ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> bool:
        # Readings too: of ten thousand new hosts each would take a lease and wait for a thread until it has lapsed.
        room = self._settings.requests_max - len(self._visits) - len(self._readings)
        if room <= 0:
            return False
        now_ms = self._tools.clock()
        self._forget_hosts(now_ms)
        in_flight = {page.url for page in self._visits.values()}
        with transaction(self._database) as connection:
            pages = frontier.due_pages(
                connection, now_ms, without=self._busy_hosts(now_ms), pages_max=room + len(in_flight)
            )
            pages = [page for page in pages if page.url not in in_flight][:room]
            if not pages:
                return False
            pages = self._without_suppressed(connection, pages)
            self._take_hosts(connection, sorted({page.host for page in pages}), now_ms)
        return any([self._start_page(page, now_ms) for page in pages])

    def _busy_hosts(self, now_ms: int) -> set[str]:
        """Hosts that nothing new is asked of now."""
        running = Counter(page.host for future, page in self._visits.items() if not future.done())
        moment_s = time.monotonic()
        busy = {host for host, count in running.items() if count >= self._settings.host_requests_max}
        busy |= {page.host for page in self._readings.values()}
        busy |= {host for host, until_s in self._next_start_s.items() if until_s > moment_s}
        busy |= {host for host, until_ms in self._refused_until_ms.items() if until_ms > now_ms}
        return busy | {host for host, state in self._hosts.items() if state.next_time_ms > now_ms}

    def _forget_hosts(self, now_ms: int) -> None:
        """Drop what is known of hosts whose lease has ended: the database has it, and a robots.txt may be long."""
        in_use = {page.host for page in (*self._visits.values(), *self._readings.values())}
        for host, state in list(self._hosts.items()):
            over = self._leased_until_ms.get(host, 0) <= now_ms and state.next_time_ms <= now_ms
            if over and host not in in_use:
                del self._hosts[host]
                self._leased_until_ms.pop(host, None)
        moment_s = time.monotonic()
        self._next_start_s = {host: until_s for host, until_s in self._next_start_s.items() if until_s > moment_s}
        self._refused_until_ms = {host: ms for host, ms in self._refused_until_ms.items() if ms > now_ms}

    def _without_suppressed(self, connection: sa.Connection, pages: list[Page]) -> list[Page]:
        if not self._suppressions:
            return pages
        gone = frontier.suppressed(connection, [page.url for page in pages])
        for url in gone:
            frontier.stop_page(connection, url)
        return [page for page in pages if page.url not in gone]

    def _take_hosts(self, connection: sa.Connection, hosts: list[str], now_ms: int) -> None:
        """Renew or win the leases of hosts, and read what is known of them."""
        lease_ms = self._settings.lease_s * 1000
        ends = {host: self._leased_until_ms.get(host, 0) for host in hosts}
        # Rules that could not be read are looked up each time: a command may have said to read them again.
        wanted = [host for host in hosts if ends[host] < now_ms + lease_ms // 2 or self._is_closed(host)]
        if not wanted:
            return
        until_ms = now_ms + lease_ms
        mine = frontier.lease_hosts(connection, wanted, self._owner, now_ms=now_ms, until_ms=until_ms)
        self._leased_until_ms.update(dict.fromkeys(mine, until_ms))
        for host in set(wanted) - mine:
            self._leased_until_ms.pop(host, None)
            self._refused_until_ms[host] = now_ms + lease_ms // 4
        self._hosts.update(frontier.host_states(connection, mine))

    def _is_closed(self, host: str) -> bool:
        known = self._hosts.get(host)
        return known is not None and any(not rules.reachable for rules, _ in known.rules.values())

    def _start_page(self, page: Page, now_ms: int) -> bool:
        """Start a visit, or the reading of its host's rules; False when the host may not be asked now."""
        if page.host not in self._leased_until_ms:
            return False
        origin = origin_of(page.url)
        rules, until_ms = self._hosts[page.host].rules.get(origin, (None, 0))
        if rules is not None and until_ms > now_ms:
            return self._start_visit(page, rules, now_ms)
        if page.host in self._busy_hosts(now_ms):
            return False
        self._readings[self._executor.submit(read_rules, origin, self._tools)] = page
        return True

    def _start_visit(self, page: Page, rules: HostRules, now_ms: int) -> bool:
        refused = refusal(page, rules, self._tools.speaker, now_ms=now_ms)
        if refused is not None:
            # Nothing is asked of the host, so no delay is due.
            ended: Future[Visit] = Future()
            ended.set_result(refused)
            self._visits[ended] = page
            return True
        if page.host in self._busy_hosts(now_ms):
            return False
        self._delay_host(page.host, rules)
        self._visits[self._executor.submit(visit, page, rules, self._tools)] = page
        return True

    def _delay_host(self, host: str, rules: HostRules) -> None:
        """Nothing new is asked of the host before its delay has passed."""
        delay_s = max(self._settings.host_delay_ms / 1000, crawl_delay_s(rules, self._tools.speaker))
        if delay_s:
            self._next_start_s[host] = time.monotonic() + delay_s

    # ── settle ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(self) -> bool:
        ended = [future for future in self._visits if future.done()]
        read = [future for future in self._readings if future.done()]
        if not ended and not read:
            return False
        failed = self._unavailable(ended)
        now_ms = self._tools.clock()
        seen = [(self._visits[future], future.result()) for future in ended if future not in failed]
        seen += [
            (self._readings[future], Visit(failure=future.result().failure, end_time_ms=now_ms))
            for future in read if future.result().failure
        ]
        with transaction(self._database) as connection:
            self._keep_rules(connection, read, now_ms)
            sources = frontier.sources_of(connection, {page.source_id for page, _ in seen})
            tallies: dict[str, frontier.Tally] = {}
            for page, result in seen:
                # One after the other: the second of two pages that redirect to each other sees the first.
                result = close_circle(connection, page, result, now_ms=now_ms)
                settlement = settle(page, sources[page.source_id], result, self._settings)
                frontier.write(connection, page, settlement, tallies)
                if settlement.counted:
                    free_namers(connection, settlement.page, now_ms=now_ms)
                self._postpone_host(connection, page.host, settlement.host_until_ms)
            frontier.count(connection, tallies, now_ms=now_ms)
        for future in ended:
            self._visits.pop(future)
        for reading in read:
            self._readings.pop(reading)
        for error in failed.values():
            raise error
        return True

    def _unavailable(self, ended: list[Future[Visit]]) -> dict[Future[Visit], Unavailable]:
        """Visits that ended because our own side does not work; their pages stay due."""
        errors = ((future, future.exception()) for future in ended)
        return {future: error for future, error in errors if isinstance(error, Unavailable)}

    def _keep_rules(self, connection: sa.Connection, read: list[Future[HostRules]], now_ms: int) -> None:
        for future in read:
            page, rules = self._readings[future], future.result()
            if rules.failure:
                continue
            kept_s: float = self._settings.robots_cache_s
            if not rules.reachable:
                asked_s = min(rules.retry_after_s, self._settings.retry_after_s_max)
                kept_s = max(self._settings.robots_retry_s, asked_s)
            until_ms = now_ms + int(max(kept_s, 1) * 1000)
            origin, state = origin_of(page.url), self._hosts[page.host]
            frontier.store_rules(connection, origin, rules, until_ms=until_ms)
            self._delay_host(page.host, rules)
            self._hosts[page.host] = replace(state, rules={**state.rules, origin: (rules, until_ms)})

    def _postpone_host(self, connection: sa.Connection, host: str, until_ms: int) -> None:
        """A Retry-After concerns the whole host, not only the page that was told so; the longest one holds."""
        state = self._hosts[host]
        if until_ms > state.next_time_ms:
            frontier.postpone_host(connection, host, until_ms)
            self._hosts[host] = replace(state, next_time_ms=until_ms)


class OutboxLoop:
    """Appends what the frontier has settled to the log: at least once, in order."""

    name = "outbox"

    def __init__(self, database: sa.Engine, log: Log) -> None:
        self._database = database
        self._log = log

    def step(self) -> bool:
        """Append one batch, then forget it: a kill between the two appends it again, with the same ids."""
        with outbox.in_hand(self._database, OUTBOX_RECORDS_MAX) as records:
            if records:
                self._log.append(records)
        return bool(records)

    def pending(self) -> bool:
        """Whether records are still to append."""
        with transaction(self._database) as connection:
            return bool(outbox.oldest(connection, 1)[0])

    def close(self) -> None:
        """Nothing to leave."""


class ExpiryLoop:
    """Erases raw bodies that are older than the policy keeps them. Looks once an hour."""

    name = "expiry"

    def __init__(self, database: sa.Engine, blobs: Blobs, clock: Clock, *, retention_days: int) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._retention_ms = retention_days * DAY_MS
        self._next_ms = 0

    def step(self) -> bool:
        """Erase at most 100 bodies."""
        now_ms = self._clock()
        if now_ms < self._next_ms:
            return False
        with transaction(self._database) as connection:
            digests = frontier.expired_bodies(connection, now_ms - self._retention_ms, bodies_max=100)
        for digest in digests:
            self._blobs.delete(digest)
        with transaction(self._database) as connection:
            frontier.forget_bodies(connection, digests)
        if not digests:
            self._next_ms = now_ms + EXPIRY_INTERVAL_MS
        return bool(digests)

    def pending(self) -> bool:
        """Never: expiry is no part of a crawl."""
        return False

    def close(self) -> None:
        """Nothing to leave."""
