"""CrawlerService: decode, call, encode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from xinstruct.crawler.commands import TEXT_KINDS, commands_waiting, hosts_of
from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.domain import host_and_port, private_advice, source_id_of
from xinstruct.crawler.frontier import ACTIVE, REMOVED
from xinstruct.crawler.guard import names_private
from xinstruct.crawler.locations import check_location
from xinstruct.crawler.source_rows import source_id_of_names, source_row, sources_after, sources_changed
from xinstruct.spine.app import Clock
from xinstruct.spine.errors import Conflict, Invalid, NotFound, require
from xinstruct.spine.languages import known_language
from xinstruct.spine.log import Log
from xinstruct.spine.messages import CrawlAction, CrawlRequested, SourceKind
from xinstruct.spine.rpc import page_token, page_values
from xinstruct.spine.sql import Engine
from xinstruct.spine.topics import CRAWL_REQUESTED
from xinstruct.urls import canonical_url
from xinstruct.v1 import crawler_service_pb2 as pb
from xinstruct.v1 import crawler_service_pb2_grpc

PAGE_SIZE = 100
PAGE_SIZE_MAX = 1000
WATCH_INTERVAL_S = 0.5


class CrawlerServicer(crawler_service_pb2_grpc.CrawlerServiceServicer):
    """Appends commands to the log and reads sources from SQL. `rest` waits between two looks of a watch."""

    def __init__(
        self, database: Engine, log: Log, clock: Clock, *, settings: FetchSettings, rest: Callable[[float], Any]
    ) -> None:
        self._database = database
        self._log = log
        self._clock = clock
        self._settings = settings
        self._rest = rest

    def SubmitCrawl(self, message: pb.SubmitCrawlRequest, context: Any) -> pb.SubmitCrawlResponse:
        """See crawler_service.proto."""
        command = self._command(message)
        self._log.append([command.record(CRAWL_REQUESTED.name)])
        return pb.SubmitCrawlResponse(source_id=command.source_id)

    def GetSource(self, message: pb.GetSourceRequest, context: Any) -> pb.Source:
        """See crawler_service.proto."""
        row = source_row(self._database, message.source_id, now_ms=self._clock())
        if row is None:
            raise NotFound(f"no source {message.source_id!r}; `xinstruct crawl status` lists them")
        return _source(row)

    def ListSources(self, message: pb.ListSourcesRequest, context: Any) -> pb.ListSourcesResponse:
        """See crawler_service.proto."""
        size = message.page_size or PAGE_SIZE
        require(size <= PAGE_SIZE_MAX, f"page_size is 1–{PAGE_SIZE_MAX}, not {size}")
        (after,) = page_values(message.page_token, "")
        rows = sources_after(self._database, after, now_ms=self._clock(), rows_max=size + 1)
        token = page_token(rows[size - 1].source_id) if len(rows) > size else ""
        return pb.ListSourcesResponse(
            sources=[_source(row) for row in rows[:size]], next_page_token=token,
            commands_waiting=commands_waiting(self._database, self._log),
        )

    def WatchSources(self, message: pb.WatchSourcesRequest, context: Any) -> Iterator[pb.SourceEvent]:
        """See crawler_service.proto."""
        (seen,) = page_values(message.page_token, -1)
        while context.is_active():
            for row in sources_changed(self._database, seen, now_ms=self._clock(), rows_max=PAGE_SIZE_MAX):
                seen = row.change_number
                yield pb.SourceEvent(source=_source(row), page_token=page_token(seen))
            self._rest(WATCH_INTERVAL_S)

    def _command(self, message: pb.SubmitCrawlRequest) -> CrawlRequested:
        require(0 < len(message.request_id) <= 100, "request_id has 1–100 characters")
        action = _member(CrawlAction, message.action, "action")
        if action is not CrawlAction.ADD:
            source_id = self._known(message.location)
            row = source_row(self._database, source_id, now_ms=self._clock())
            if row.state == REMOVED and action is not CrawlAction.REMOVE:
                raise Conflict(f"{row.location} is removed; `xinstruct crawl add` adds it again")
            return CrawlRequested(message.request_id, action, SourceKind.UNSPECIFIED, source_id, message.location,
                                  request_time_ms=self._clock())
        kind = _member(SourceKind, message.kind, "kind")
        location = message.location.strip() if kind in TEXT_KINDS else canonical_url(message.location)
        require(bool(location), "location is the URL or path of the source")
        if kind in TEXT_KINDS:
            check_location(location)
        declared = message.declared_language
        require(not declared or known_language(declared) is not None, f"declared_language: {declared!r} is not known")
        command = CrawlRequested(
            message.request_id, action, kind, source_id_of(kind, location), location, tuple(message.hosts),
            message.pages_max, message.depth_max, message.text_field, message.url_field, message.licence, declared,
            message.poll_interval_s, self._clock(),
        )
        hosts_of(command)
        if kind not in TEXT_KINDS:
            self._require_contact(location)
        return command

    def _require_contact(self, url: str) -> None:
        """Public hosts are asked only by a crawler that says who runs it, private ones only where they are listed."""
        host, port = host_and_port(url)
        listed = f"{host}:{port}" in self._settings.private_hosts_allowed
        require(listed or not names_private(host), f"{host} is a private address: {private_advice(url)}")
        known = bool(self._settings.contact_url) or listed
        require(known, "set crawler.fetch.contact_url, a page or mailto: address for site owners, before crawling; "
                       f"or list {host}:{port} in crawler.fetch.private_hosts_allowed if it is your own")

    def _known(self, location: str) -> str:
        """Id of the source with that id or location; NotFound."""
        names = {location, location.strip()}
        with suppress(Invalid):  # an id, or the location of a file
            names.add(canonical_url(location))
        found = source_id_of_names(self._database, location, names)
        if not found:
            raise NotFound(f"no source {location!r}; `xinstruct crawl status` lists them")
        return found


def _source(row: Any) -> pb.Source:
    over = row.state == ACTIVE and not row.poll_interval_s and not row.pages_waiting and row.due_time_ms < 0
    return pb.Source(
        source_id=row.source_id, kind=row.kind,
        location=row.location, state="done" if over else row.state, pages_known=row.pages_known,
        pages_fetched=row.pages_fetched, pages_failed=row.pages_failed, pages_denied=row.pages_denied,
        pages_waiting=row.pages_waiting, last_error=row.last_error, change_time_ms=row.change_time_ms,
    )


def _member(kind: Any, value: int, name: str) -> Any:
    known = {int(item): item for item in kind if item}
    require(value in known, f"{name} is one of {', '.join(item.name for item in known.values())}")
    return known[value]
