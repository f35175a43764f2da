"""The server of tgi_server.py on a thread of the tests, with the bad days that one of them chooses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from contract.inference.tgi_server import TgiServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class BadDays:
    """What stands before the server. `answers` are given first, one a generation; `asked` is what came."""

    key: str = ""
    answers: list[web.Response | type[ConnectionError]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    in_flight_max: int = 0

    async def before(self, asked: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware."""
        self.headers.append(dict(asked.headers))
        if self.key and asked.headers.get("Authorization") != f"Bearer {self.key}":
            return web.Response(status=401)
        if asked.method == "GET":
            return await handler(asked)
        body = await asked.json()
        self.asked.append((asked.path, body["parameters"]))
        if self.answers and body["parameters"]["max_new_tokens"] > 1:
            answer = self.answers.pop(0)
            if isinstance(answer, web.Response):
                return answer
            assert asked.transport is not None
            asked.transport.abort()
        return await self._counted(asked, handler)

    async def _counted(self, asked: web.Request, handler: Handler) -> web.StreamResponse:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await handler(asked)
        finally:
            self.in_flight -= 1


@contextmanager
def tgi_thread(server: TgiServer, bad_days: BadDays | None = None) -> Iterator[str]:
    """URL of the running server."""
    before = bad_days or BadDays()

    @web.middleware
    async def middleware(asked: web.Request, handler: Handler) -> web.StreamResponse:
        return await before.before(asked, handler)

    loop = asyncio.new_event_loop()
    runner = web.AppRunner(server.app(middleware), handler_cancellation=True, shutdown_timeout=0.0)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> str:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
