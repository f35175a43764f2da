"""The server of the microworld's sites: what a LiveSite holds, over HTTP on loopback, with an access log.

It answers what an ordinary server answers: conditional requests, compression, redirects, errors, robots.txt, sitemaps,
feeds; and, where it was started with a token, control calls under /_control/ (header X-Control-Token).
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, TextIO

import brotli
from aiohttp import web

from xinstruct.microworld import site_files
from xinstruct.microworld.live_site import LiveSite
from xinstruct.microworld.page import Page
from xinstruct.microworld.pages import error_html, listing_html, listing_path, page_html
from xinstruct.microworld.site import Host, SiteConfig

PORT = 8780
ADDRESS = "127.0.0.1"
_STOP_S = 10.0
_CHUNK_BYTES = 65_536
# Python's name of a charset where it differs from the web's.
_CODECS = {"windows-874": "cp874"}


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """A site and how it is served."""

    site: SiteConfig
    port: int = PORT
    """0 for any free port."""
    host: str = ADDRESS
    """Name of the server in URLs, which pages give to readers."""
    listen: str = ADDRESS
    """Address to listen on; beyond loopback whoever reaches it can read the site, and with the token change it."""
    access_log: Path | None = None
    """JSONL, a line a request: time, path, status, user_agent. None for no log."""
    control_token: str = ""
    """Secret of the control calls, "" to have none."""


class Handle:
    """A server that runs in a thread of this process."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="microworld", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._server.error is not None:
            raise self._server.error

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self._server.origin

    @property
    def live(self) -> LiveSite:
        """The site, to be changed while it is served."""
        return self._server.live

    def truth(self) -> list[dict[str, Any]]:
        """Return the truth of the site as it is now."""
        return list(self.live.truth(self.origin))

    def stop(self) -> None:
        """Stop serving and wait until the thread has ended; harmless when repeated."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._server.start())
        except OSError as error:
            self._server.error = error
        self._started.set()
        if self._server.error is None:
            self._loop.run_forever()
            self._loop.run_until_complete(self._server.stop())
        self._loop.close()


def serve(config: ServerConfig, started: Callable[[], None]) -> None:
    """Serve until the process is interrupted or terminated; `started` is called once, when it listens."""
    server = _Server(config)
    web.run_app(
        server.application(), host=config.listen, port=config.port, print=lambda _text: started(), access_log=None
    )


def start_in_thread(config: ServerConfig) -> Handle:
    """Return a handle once the server listens; OSError when the port is taken."""
    return Handle(_Server(config))


def truth_lines(config: SiteConfig, port: int = PORT, host: str = ADDRESS) -> Iterator[str]:
    """Yield the truth of the site as it is before any change, one JSON line a page."""
    for line in LiveSite(config).truth(f"http://{host}:{port}"):
        yield json.dumps(line, ensure_ascii=False)


class _Server:
    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.live = LiveSite(config.site)
        self.port = config.port
        self.error: OSError | None = None
        self._runner: web.AppRunner | None = None
        self._log: TextIO | None = config.access_log.open("a", encoding="utf-8") if config.access_log else None
        self._asked: set[str] = set()

    @property
    def origin(self) -> str:
        return f"http://{self.config.host}:{self.port}"

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._logged])
        application.on_cleanup.append(self._close_log)
        application.router.add_post("/_control/{action}", self._control)
        application.router.add_get("/_control/truth", self._control)
        application.router.add_get("/{path:.*}", self._answer)
        return application

    async def start(self) -> None:
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.config.listen, self.config.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _close_log(self, application: web.Application) -> None:
        if self._log is not None:
            self._log.close()

    @web.middleware
    async def _logged(self, request: web.Request, handler: Any) -> web.StreamResponse:
        status = 500
        try:
            response: web.StreamResponse = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            if self._log is not None:
                line = {
                    "time": time.time(),
                    "path": request.path_qs,
                    "status": status,
                    "user_agent": request.headers.get("User-Agent", ""),
                }
                self._log.write(json.dumps(line) + "\n")
                self._log.flush()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        page = self.live.page(path)
        if page is not None:
            return await self._page(request, page)
        return self._file(request, path)

    async def _page(self, request: web.Request, page: Page) -> web.StreamResponse:
        delivery, host = page.delivery, self.live.host_of(page.path)
        if delivery.slow:
            await asyncio.sleep(self.config.site.slow_s)
        status = delivery.status
        if delivery.status_first and page.path not in self._asked:
            self._asked.add(page.path)
            status = delivery.status_first
        if status != 200 or host is None:
            headers = {"Location": delivery.location} if delivery.location else dict(delivery.headers)
            return web.Response(status=status, text=error_html(host, status), content_type="text/html", headers=headers)
        text = page_html(page, host, self.live.neighbours_of(host), self.origin)
        body = text.encode(_CODECS.get(delivery.charset, delivery.charset), errors="xmlcharrefreplace")
        charset = f"; charset={delivery.charset_header}" if delivery.charset_header else ""
        headers = {"Content-Type": f"text/html{charset}", **dict(delivery.headers)}
        headers.pop("Retry-After", None)
        if delivery.padded:
            return await self._padded(request, body, headers)
        return _conditional(request, body, headers, self.live.changed_s(page.path), delivery.compression)

    async def _padded(self, request: web.Request, body: bytes, headers: dict[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(body)
        filler = b"<!--" + b" " * (_CHUNK_BYTES - 7) + b"-->"
        try:
            for _ in range(self.config.site.padding_bytes // _CHUNK_BYTES):
                await response.write(filler)
        except ConnectionError:
            return response  # The client had enough, as it should.
        return response

    def _file(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer with one of the files about the site or a listing page, else 404."""
        hosts, origin = self.live.hosts, self.origin
        if path == site_files.ROBOTS_PATH:
            return _text(request, site_files.robots_txt(hosts, origin), "text/plain")
        if path == site_files.TDMREP_PATH:
            return _text(request, site_files.tdmrep_json(hosts), "application/json")
        if path == site_files.SITEMAP_INDEX_PATH:
            return _text(request, site_files.sitemap_index(hosts, origin), "application/xml")
        host = self.live.host_of(path)
        if host is None:
            return web.Response(status=404, text=error_html(None, 404), content_type="text/html")
        return self._host_file(request, host, path)

    def _host_file(self, request: web.Request, host: Host, path: str) -> web.StreamResponse:
        pages = self.live.pages_of(host)
        if path == site_files.sitemap_path(host):
            body = site_files.sitemap(host, pages, self.origin)
            return _conditional(request, body, {"Content-Type": "application/gzip"}, None, "")
        if path == site_files.feed_path(host):
            return _text(request, site_files.feed(host, pages, self.origin), "application/rss+xml")
        name = path.removeprefix(host.prefix)
        number = 1 if not name else int(name[5:]) if name.startswith("list/") and name[5:].isdecimal() else 0
        if number and path == listing_path(host, number):
            return _text(request, listing_html(host, pages, number, self.origin), "text/html")
        return web.Response(status=404, text=error_html(host, 404), content_type="text/html")

    async def _control(self, request: web.Request) -> web.StreamResponse:
        """Change the site: POST add {language}, edit, remove or opt_out {path}; GET truth. Answers with the truth."""
        token = self.config.control_token
        if not token or request.headers.get("X-Control-Token") != token:
            return web.json_response({"error": "no such page"}, status=404)
        if request.method == "GET":
            return web.json_response(list(self.live.truth(self.origin)))
        changes = {"edit": self.live.edit, "remove": self.live.remove, "opt_out": self.live.opt_out}
        action, asked = request.match_info["action"], await request.json()
        try:
            page = self.live.add(asked["language"]) if action == "add" else changes[action](asked["path"])
        except (KeyError, IndexError, ValueError) as error:
            return web.json_response({"error": f"{action}: {error}"}, status=400)
        return web.json_response(page.truth(self.origin))


def _text(request: web.Request, text: str, content_type: str) -> web.StreamResponse:
    return _conditional(request, text.encode(), {"Content-Type": f"{content_type}; charset=utf-8"}, None, "")


def _conditional(
    request: web.Request, body: bytes, headers: dict[str, str], changed_s: float | None, compression: str
) -> web.StreamResponse:
    """Return the body, compressed where the client accepts it; 304 when the client has it already."""
    headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    if changed_s is not None:
        headers["Last-Modified"] = formatdate(changed_s, usegmt=True)
    known = request.headers.get("If-None-Match")
    since = request.if_modified_since
    unchanged = headers["ETag"] in known if known else bool(since and changed_s and changed_s < since.timestamp() + 1)
    if unchanged:
        return web.Response(status=304, headers=headers)
    if compression and compression in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = compression
        body = gzip.compress(body, mtime=0) if compression == "gzip" else brotli.compress(body, quality=4)
    return web.Response(body=body, headers=headers)
