"""What adapters over a network share: one asyncio loop on a thread of its own, connections, and one HTTP exchange."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import aiohttp

from xinstruct.inference.limits import retry_after_s
from xinstruct.inference.whole_text import parsed
from xinstruct.spine.errors import Unavailable, XinstructError

CONNECT_S = 10.0
CONNECTION_S = 30.0
"""Life of a connection, however busy it is: within it pods that came later get their share of the calls."""
BODY_BYTES_MAX = 16 * 1024 * 1024

T = TypeVar("T")
C = TypeVar("C")


class LoopThread:
    """The loop, and the work on it. Opens at once; closed once, for good."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns or raises; blocks."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run `work` on the loop's thread; its future raises one of the five errors, or a bug; never a cancellation."""
        future: Future[Any] = Future()

        async def run() -> None:
            try:
                settle(future, await work, None)
            except XinstructError as error:
                settle(future, None, error)
            except asyncio.CancelledError:
                settle(future, None, Unavailable("the endpoint was closed before it answered"))

        def crash(ended: Future[None]) -> None:
            # Anything else is our bug: it has to reach the caller, who would wait for ever.
            if not ended.cancelled() and (bug := ended.exception()) is not None:
                settle(future, None, bug)

        with self._lock:
            if self._closed:
                work.close()
                future.set_exception(Unavailable("the endpoint is closed"))
            else:
                asyncio.run_coroutine_threadsafe(run(), self.loop).add_done_callback(crash)
        return future

    def soon(self, future: Future[Any], act: Callable[[], None]) -> None:
        """Have the loop's thread do `act`, which sees to `future`; Unavailable in it when the loop is closed."""
        with self._lock:
            if self._closed:
                future.set_exception(Unavailable("the endpoint is closed"))
            else:
                self.loop.call_soon_threadsafe(act)

    def close(self, release: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancel all work, run `release`, end the thread. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self.run(self._abandon(release))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    async def _abandon(self, release: Callable[[], Coroutine[Any, Any, None]]) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await release()


@dataclass(slots=True)
class _Lent(Generic[C]):
    connections: C
    since_s: float
    users: int = 0


class Renewed(Generic[C]):
    """Connections that others take the place of once they are `life_s` seconds old. Used on one loop.

    A Service of Kubernetes spreads connections, not calls: a client that is never idle would ask the pods of its first
    day for ever.
    """

    def __init__(self, opened: Callable[[], C], closed: Callable[[C], Awaitable[None]], *, life_s: float) -> None:
        self._opened, self._closed, self._life_s = opened, closed, life_s
        self._newest: _Lent[C] | None = None

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[C]:
        """The newest. They are not closed before the block ends, however old they get in it."""
        now_s, before = asyncio.get_running_loop().time(), self._newest
        if before is None or now_s - before.since_s >= self._life_s:
            self._newest = _Lent(self._opened(), now_s)
        lent = self._newest
        assert lent is not None
        lent.users += 1
        try:
            if before is not None:
                await self._close_unused(before)
            yield lent.connections
        finally:
            lent.users -= 1
            await self._close_unused(lent)

    async def close(self) -> None:
        """Close the newest; older ones were closed by their last block."""
        if self._newest is not None:
            await self._closed(self._newest.connections)

    async def _close_unused(self, lent: _Lent[C]) -> None:
        if lent is not self._newest and not lent.users:
            await self._closed(lent.connections)


Sessions = Renewed[aiohttp.ClientSession]


def open_sessions(*, silence_s: float, api_key: str, life_s: float) -> Sessions:
    """Sessions that call a server failed after `silence_s` seconds without a byte."""
    # No total time: an answer may take long in the server's queue, and that is no failure. Silence is.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=silence_s)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def opened() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(timeout=timeout, headers=headers, connector=aiohttp.TCPConnector(limit=0))

    return Renewed(opened, aiohttp.ClientSession.close, life_s=life_s)


async def exchange(
    sessions: Sessions, method: str, url: str, body: Any
) -> tuple[int, dict[str, Any], float | None]:
    """One HTTP exchange: status, JSON object ({} when there is none), seconds of Retry-After. Status 0: no answer."""
    try:
        async with sessions.lent() as session, session.request(method, url, json=body) as response:
            answer = await _object(response)
            return response.status, answer, retry_after_s(response.headers.get("Retry-After"))
    except (aiohttp.ClientError, TimeoutError, OSError):
        return 0, {}, None


def settle(future: Future[Any], answer: Any, error: BaseException | None) -> None:
    """Give `future` its answer or its error, unless its caller has cancelled it."""
    try:
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)
    except InvalidStateError:
        return


async def _object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    raw = b""
    async for chunk in response.content.iter_chunked(64 * 1024):
        raw += chunk
        if len(raw) > BODY_BYTES_MAX:
            raise aiohttp.ClientPayloadError(f"an answer of more than {BODY_BYTES_MAX} bytes")
    try:
        answer = parsed(raw or b"{}")
    except ValueError as error:
        if response.status < 300:
            raise aiohttp.ClientPayloadError("an answer that is no JSON") from error
        return {}
    return answer if isinstance(answer, dict) else {}
