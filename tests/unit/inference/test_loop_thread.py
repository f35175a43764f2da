"""The loop that adapters over a network share: whatever ends the work on it reaches whoever waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from xinstruct.inference.loop_thread import LoopThread
from xinstruct.spine.errors import Unavailable, XinstructError

WAIT_S = 10


@pytest.fixture
def work() -> Iterator[LoopThread]:
    made = LoopThread("try")
    yield made
    made.close(nothing)


async def nothing() -> None:
    """Releases nothing."""


async def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [Unavailable("away"), KeyError("a bug of ours")])
def test_what_work_raises_is_raised_to_its_caller_even_when_it_is_a_bug(work: LoopThread, error: Exception) -> None:
    with pytest.raises(type(error)):
        work.start(failing(error)).result(WAIT_S)


def test_work_that_is_abandoned_or_comes_too_late_is_unavailable(work: LoopThread) -> None:
    waiting = work.start(asyncio.Event().wait())
    work.close(nothing)
    late = work.start(nothing())
    for future in (waiting, late):
        assert isinstance(future.exception(WAIT_S), XinstructError)
