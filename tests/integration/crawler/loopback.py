"""A small web site on loopback whose answers a test decides, and a crawler to point at it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from until_idle import run_until_idle
from xinstruct.crawler.app import build
from xinstruct.crawler.config import CrawlerSettings, FetchSettings
from xinstruct.crawler.domain import source_id_of
from xinstruct.spine import topics
from xinstruct.spine.app import App, Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import (
    AdmittedDocument,
    CrawlAction,
    CrawlRequested,
    DroppedRecord,
    FetchedPage,
    SourceKind,
    TakedownRequested,
)
from xinstruct.spine.runner import RunnerSettings
from xinstruct.spine.sql import METADATA, open_engine

Answer = Callable[[web.Request], Any]

TEXT = (
    "<h1>Kylän talo</h1><p>Kylän vanhin talo on rakennettu hirsistä. Sen pihalla kasvaa koivu, jonka alla lapset "
    "leikkivät kesäisin ja aikuiset istuvat iltaisin.</p><p>Talossa on kolme huonetta ja suuri tupa. Tuvan uuni "
    "lämmitetään joka aamu, ja sen vieressä nukkuu kissa. Vanhin asukas on yhdeksänkymmentä vuotta vanha.</p>"
)


@dataclass
class Site:
    """Path → what it answers: text, bytes, or a function of the request. `asked` lists the paths, in order."""

    port: int = 0
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/") -> str:
        return f"http://{self.host}{path}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers.append(dict(request.headers))
        found = self.answers.get(request.path)
        if found is None:
            return web.Response(status=404, text="none")
        if callable(found):
            found = found(request)
            if asyncio.iscoroutine(found):
                found = await found
        if isinstance(found, web.StreamResponse):
            return found
        if isinstance(found, bytes):
            return web.Response(body=found, content_type="text/html")
        return web.Response(text=found, content_type="text/html")


@contextmanager
def serving() -> Iterator[Site]:
    """A started site."""
    site, loop, started = Site(), asyncio.new_event_loop(), threading.Event()

    async def start() -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", site.handle)
        runner = web.AppRunner(application)
        await runner.setup()
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        site.port = runner.addresses[0][1]
        started.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait()
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@dataclass
class Clock:
    """A clock that a test moves."""

    now_ms: int = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Crawl:
    """A crawler with its data folder."""

    app: App
    deps: Deps
    clock: Clock
    sent: int = 0

    def add(self, kind: SourceKind, location: str, **fields: Any) -> str:
        """Command a source; returns its id."""
        return self.command(CrawlAction.ADD, kind, location, **fields)

    def command(self, action: CrawlAction, kind: SourceKind, location: str, **fields: Any) -> str:
        self.sent += 1
        source_id = source_id_of(kind, location)
        command = CrawlRequested(f"r{self.sent}", action, kind, source_id, location, **fields)
        self.deps.log.append([command.record(topics.CRAWL_REQUESTED.name)])
        return source_id

    def fetch(self) -> None:
        """Run the loops until nothing is due."""
        for loop in self.app.loops:
            while loop.pending():
                loop.step()

    def run(self) -> None:
        """Run loops and the admit stage until idle."""
        run_until_idle({"crawler": self.app}, self.deps, RunnerSettings())

    def pages(self) -> list[FetchedPage]:
        return [FetchedPage.decode(r.value or b"") for r in self.deps.log.read(topics.PAGE_FETCHED, {})]

    def outcomes(self) -> dict[str, str]:
        """Path of every page fetched → its failure, "" for a body; the last record counts."""
        return {item.url.partition("/")[2].partition("/")[2]: item.failure for item in self.pages()}

    def documents(self) -> list[AdmittedDocument]:
        return [AdmittedDocument.decode(r.value or b"") for r in self.deps.log.read(topics.DOCUMENT_ADMITTED, {})]

    def drops(self) -> list[DroppedRecord]:
        return [DroppedRecord.decode(r.value or b"") for r in self.deps.log.read(topics.RECORD_DROPPED, {})]

    def takedowns(self) -> list[TakedownRequested]:
        return [TakedownRequested.decode(r.value or b"") for r in self.deps.log.read(topics.TAKEDOWN_REQUESTED, {})]

    def row(self, table: str, **where: Any) -> Any:
        found = METADATA.tables[table]
        query = sa.select(found)
        for name, value in where.items():
            query = query.where(found.c[name] == value)
        with self.deps.database.begin() as connection:
            return connection.execute(query).one()


@contextmanager
def crawling(home: Path, *sites: Site, clock: Clock | None = None, **fetch: Any) -> Iterator[Crawl]:
    """A crawler that may fetch from the sites, without delay."""
    database = open_engine(f"sqlite:///{home}/database.sqlite")
    METADATA.create_all(database)
    clock = clock or Clock()
    log = SqliteLog(home / "log.sqlite", clock)
    deps = Deps(log, database, Blobs(str(home / "blobs")), {}, clock, home)
    settings = FetchSettings(**{
        "private_hosts_allowed": tuple(site.host for site in sites), "host_delay_ms": 0, "host_requests_max": 8,
        "timeout_s": 3.0, "retry_delay_ms": 0, "body_bytes_max": 200_000, **fetch,
    })
    app = build(CrawlerSettings(fetch=settings, extract_workers_count=1), deps)
    try:
        yield Crawl(app, deps, clock)
    finally:
        for loop in app.loops:
            loop.close()
        app.close()
        log.close()
        database.dispose()


def sitemap(site: Site, *paths: str) -> str:
    """A sitemap of those pages of the site."""
    urls = "".join(f"<url><loc>{site.url(path)}</loc></url>" for path in paths)
    return f"<urlset>{urls}</urlset>"


def page(text: str = TEXT, head: str = "") -> str:
    """An HTML page with a text that is fit to be admitted."""
    return f"<html><head>{head}</head><body><main>{text}</main></body></html>"


def response(**fields: Any) -> Answer:
    """An answer with that page, but for `fields`."""
    return lambda request: web.Response(**{"content_type": "text/html", "text": page(), **fields})


def crawl_sitemap(crawl: Crawl, site: Site, answers: dict[str, Any], **fields: Any) -> dict[str, str]:
    """Serve `answers`, list them in a sitemap, crawl once; path → failure."""
    site.answers |= answers
    site.answers["/sitemap.xml"] = sitemap(site, *answers)
    crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"), **fields)
    crawl.fetch()
    return {item.url.removeprefix(site.url("")): item.failure for item in crawl.pages()}
