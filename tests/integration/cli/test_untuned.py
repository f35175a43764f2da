"""The untuned base drafts beside the demo, and never outlives it."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from xinstruct.cli.demo.untuned import drafting
from xinstruct.spine.errors import Conflict, Unavailable

BASE = Path(__file__).parents[3] / "models" / "tiny-base"
TEXTS = [("Ziwa ni kubwa.", "sw"), ("J\u00e4rvi on suuri.", "fi")]


def test_every_text_gets_a_draft() -> None:
    with drafting(BASE, TEXTS) as drafted:
        assert [type(draft) for draft in drafted()] == [str, str]


def test_a_block_that_fails_ends_the_process_at_once() -> None:
    before = set(psutil.Process().children())
    with pytest.raises(Conflict, match="elsewhere"), drafting(BASE, TEXTS * 10_000):
        (running,) = set(psutil.Process().children()) - before
        assert running.is_running()
        raise Conflict("elsewhere")
    assert not running.is_running()


def test_a_process_that_fails_is_told_in_its_own_words() -> None:
    with drafting(BASE, [("text", "xx")]) as drafted, pytest.raises(Unavailable, match=r"(?s)wrote nothing: .*'xx'"):
        drafted()
