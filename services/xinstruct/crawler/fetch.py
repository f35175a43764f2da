"""One HTTP request, bounded in time, bytes and addresses. The crawler's only module that opens connections.

The address that was checked is the address that is connected to: the check sits in the connector's resolver. Redirects
are not followed here; the frontier fetches their targets as pages of their own, so every hop passes every check.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from threading import Lock, Thread
from typing import Any

import aiohttp
import brotli
from aiohttp.abc import AbstractResolver, ResolveResult

from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.domain import FetchFailure, host_and_port
from xinstruct.crawler.guard import address_refused, names_private

HEADERS_KEPT = (
    "content-type", "content-language", "etag", "last-modified", "location", "retry-after", "link",
    "x-robots-tag", "tdm-reservation", "content-signal", "content-usage",
)
HEADER_CHARS_MAX = 2_000
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One GET. etag, last_modified: of the body that is already known, "" when none is."""

    url: str
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. status: 0 when no answer was read. failure: a FetchFailure, "" when `body` is whole.

    headers: lower-case name → values, those of HEADERS_KEPT only. An answer with any status has no failure here.
    """

    url: str
    status: int = 0
    failure: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str:
        """First value of a header, "" when it was not sent."""
        return self.headers.get(name, ("",))[0]

    def retry_after_s(self, now_ms: int) -> float | None:
        """Seconds that Retry-After asks for, from 0; None when it was not sent or means nothing."""
        value = self.header("retry-after").strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            return max(parsedate_to_datetime(value).timestamp() - now_ms / 1000, 0.0)
        except (ValueError, OverflowError):
            return None


class Fetcher:
    """Fetches from a thread of its own that runs the event loop. `get` may be called by any thread."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self._closed = False
        self._lock = Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="fetch", daemon=True)
        self._thread.start()
        self._session: aiohttp.ClientSession = self._run(_open_session(settings))

    def submit(self, request: Request) -> Future[Answer]:
        """Start the request; the future holds an Answer, whatever the world does. Cancelled when we are closed."""
        with self._lock:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(_get(self._session, self._settings, request), self._loop)
        refused: Future[Answer] = Future()
        refused.cancel()
        return refused

    def get(self, request: Request) -> Answer:
        """The answer to `request`; takes at most timeout_s."""
        return self.submit(request).result()

    def close(self) -> None:
        """Abandon what is in flight: whoever waits for it is told, or its thread would outlive the process's end."""
        with self._lock:
            self._closed = True
        if self._loop.is_running():
            self._run(_abandon(self._session))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=5)
            self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)


async def _abandon(session: aiohttp.ClientSession) -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await session.close()


async def _get(session: aiohttp.ClientSession, settings: FetchSettings, request: Request) -> Answer:
    refusal = _refusal(request.url, settings)
    if refusal:
        return Answer(request.url, failure=refusal)
    headers = {"If-None-Match": request.etag} if request.etag else {}
    if request.last_modified:
        headers["If-Modified-Since"] = request.last_modified
    try:
        async with session.get(request.url, headers=headers, allow_redirects=False) as response:
            return await _read(request.url, response, settings.body_bytes_max)
    except aiohttp.ClientConnectorDNSError as error:
        private = isinstance(error.os_error, _PrivateAddress)
        return Answer(request.url, failure=FetchFailure.PRIVATE_ADDRESS if private else FetchFailure.NAME_NOT_RESOLVED)
    except TimeoutError:
        return Answer(request.url, failure=FetchFailure.TIMEOUT)
    except aiohttp.ClientResponseError:
        return Answer(request.url, failure=FetchFailure.MALFORMED_ANSWER)
    except (aiohttp.ClientError, OSError):
        return Answer(request.url, failure=FetchFailure.CONNECTION_FAILED)
    except ValueError:
        # aiohttp raises plain ValueError for header values and URLs that it cannot represent.
        return Answer(request.url, failure=FetchFailure.MALFORMED_ANSWER)


def _refusal(url: str, settings: FetchSettings) -> str:
    """Why the URL is not fetched at all: a literal private address never passes the resolver, so it is checked here."""
    host, port = host_and_port(url)
    if f"{host}:{port}" in settings.private_hosts_allowed:
        return ""
    if names_private(host):
        return FetchFailure.PRIVATE_ADDRESS
    # Without a contact no public host is asked for anything; said to the person when a source is submitted.
    return "" if settings.contact_url else FetchFailure.HOST_NOT_LISTED


async def _read(url: str, response: aiohttp.ClientResponse, bytes_max: int) -> Answer:
    headers = {
        name: tuple(_clean(value)[:HEADER_CHARS_MAX] for value in response.headers.getall(name))
        for name in HEADERS_KEPT if name in response.headers
    }
    body = _Body(response.headers.get("Content-Encoding", ""), bytes_max)
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        failure = body.take(chunk)
        if failure:
            start = bytes(body.content) if failure == FetchFailure.TOO_LARGE else b""
            return Answer(url, response.status, failure, headers, start)
    return Answer(url, response.status, body.end(), headers, bytes(body.content))


def _clean(header: str) -> str:
    """Bytes that are no UTF-8 arrive as lone surrogates, which neither SQL nor a message can hold."""
    return header.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\0", "")


class _Body:
    """A body being read and decompressed, at most bytes_max long after decompression."""

    def __init__(self, encoding: str, bytes_max: int) -> None:
        self.content = bytearray()
        self._bytes_max = bytes_max
        self._received = False
        self._encoding = encoding.strip().lower()
        zipped = self._encoding in ("gzip", "x-gzip", "deflate")
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 32) if zipped else None
        self._brotli = brotli.Decompressor() if self._encoding == "br" else None

    def take(self, chunk: bytes) -> str:
        """Add a chunk; a FetchFailure, "" when all is well."""
        room = self._bytes_max - len(self.content) + 1
        self._received = True
        try:
            if self._gzip is not None:
                self.content += self._gzip.decompress(chunk, room)
            elif self._brotli is not None:
                self._take_brotli(chunk, room)
            elif self._encoding in ("", "identity"):
                self.content += chunk
            else:
                return FetchFailure.ENCODING_BROKEN
        except (zlib.error, brotli.error):
            return FetchFailure.ENCODING_BROKEN
        if len(self.content) > self._bytes_max:
            plain = self._encoding in ("", "identity")
            return FetchFailure.TOO_LARGE if plain else FetchFailure.DECOMPRESSION_BOMB
        return ""

    def end(self) -> str:
        """A failure when the compressed stream is not whole."""
        whole = (self._gzip is None or self._gzip.eof) and (self._brotli is None or self._brotli.is_finished())
        return "" if whole or not self._received else FetchFailure.ENCODING_BROKEN

    def _take_brotli(self, chunk: bytes, room: int) -> None:
        # Bounded output: 1 KB of brotli can stand for 1 GB.
        assert self._brotli is not None
        self.content += self._brotli.process(chunk, output_buffer_limit=room)
        while not self._brotli.can_accept_more_data() and len(self.content) <= self._bytes_max:
            self.content += self._brotli.process(b"", output_buffer_limit=room)


class _PrivateAddress(OSError):
    """A name that leads to an address which the guard refuses."""


class _GuardedResolver(AbstractResolver):
    """Resolves names and passes on only addresses that the guard lets through, or those of allowed host:port pairs."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if f"{host}:{port}" not in self._allowed and any(address_refused(item["host"]) for item in found):
            # One private address among public ones is enough: the name is not to be trusted.
            raise _PrivateAddress(f"{host} leads to a private address")
        return found

    async def close(self) -> None:
        await self._inner.close()


async def _open_session(settings: FetchSettings) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=settings.requests_max, limit_per_host=settings.host_requests_max,
        resolver=_GuardedResolver(frozenset(settings.private_hosts_allowed)), ttl_dns_cache=60,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s, connect=settings.connect_timeout_s),
        headers={"User-Agent": settings.user_agent, "Accept-Encoding": "gzip, br",
                 "Accept": "text/html,application/xhtml+xml,text/plain,application/xml;q=0.9,*/*;q=0.5"},
        # No cookies, no proxy from the environment, no automatic decompression without a bound.
        cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
    )
