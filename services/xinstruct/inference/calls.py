"""Calls to one model server: how many at once, how often again, when to give up. What adapters over HTTP share.

An adapter hands over its exchange with the server as a coroutine function; bodies, routes and the reading of answers
are its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from xinstruct.inference.limits import MISFIT_RETRY_S, InFlightLimit, Tries, Verdict
from xinstruct.inference.loop_thread import LoopThread
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import UNNAMED, Request

ENDPOINT_PREFIX = "endpoint:"
"""A model that only its server holds is registered as "endpoint:<name on the server>"."""

Body = TypeVar("Body", covariant=True)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reply(Generic[Body]):
    """What became of one exchange. `wait_s`: the server's own wish for the time before another; None: none."""

    verdict: Verdict
    body: Body
    wait_s: float | None = None


class Calls:
    """Places among the calls in flight, and the tries of each call, of the server at `url`; on a thread of its own."""

    def __init__(self, url: str, *, name: str, calls_max: int, attempts_max: int) -> None:
        self._url = url
        self._limit = InFlightLimit(calls_max)
        self._attempts_max = attempts_max
        self._in_flight = 0
        self._work = LoopThread(name)
        self._work.run(self._open())

    def start(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run `work` on the thread's loop; its future raises one of the five errors, never a cancellation."""
        return self._work.start(work)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of `work` on the thread's loop: what an adapter opens there."""
        return self._work.run(work)

    def close(self, release: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Abandon what is in flight, then `release` connections and end the thread. Again: nothing."""
        self._work.close(release)

    async def ask(self, exchange: Callable[[], Awaitable[Reply[Body]]], name: str) -> Reply[Body]:
        """An answer or a refusal, after as many exchanges as it takes; Unavailable when the server stays away.

        `name` spreads the waits between them.
        """
        tries = Tries(self._url, name, self._attempts_max)
        while True:
            async with self._slot():
                started_s = self._work.loop.time()
                reply = await exchange()
                self._limit.learn(reply.verdict, self._work.loop.time() - started_s)
            if reply.verdict in (Verdict.ANSWERED, Verdict.REFUSED):
                return reply
            await asyncio.sleep(tries.pause_s(reply.verdict, reply.wait_s))

    def forget_latency(self) -> None:
        """See InFlightLimit. On the thread's loop, after a probe."""
        self._limit.forget_latency()

    async def _open(self) -> None:
        self._room = asyncio.Condition()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A place among the calls in flight; how many there are is learned."""
        async with self._room:
            await self._room.wait_for(lambda: self._in_flight < self._limit.allowed())
            self._in_flight += 1
        try:
            yield
        finally:
            async with self._room:
                self._in_flight -= 1
                self._room.notify_all()


def other_digest(url: str, served: str, request: Request) -> Unavailable | None:
    """What to raise when the server at `url` names its model by another digest than the one that is asked for."""
    asked = request.model
    if not (served.startswith("sha256:") and asked.startswith("sha256:") and served != asked):
        return None
    said = f"{url} serves {served}, not {asked}: serve that one there, or promote the one that it has"
    return Unavailable(said, MISFIT_RETRY_S)


def endpoint_name(request: Request) -> str:
    """The name at its server of a model that only its server holds; "" for any other, and where it told none."""
    named = request.model.startswith(ENDPOINT_PREFIX) and request.model != f"{ENDPOINT_PREFIX}{UNNAMED}"
    return request.model.removeprefix(ENDPOINT_PREFIX) if named else ""
