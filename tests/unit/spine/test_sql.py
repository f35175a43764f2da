"""Waiting for a database that starts at the same moment."""

from __future__ import annotations

import pytest

import servers
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.sql import await_answer, open_engine


def test_a_database_that_does_not_answer_in_time_is_named_and_crashes_nothing() -> None:
    absent = open_engine(f"postgresql+psycopg://xinstruct@127.0.0.1:{servers.free_port()}/xinstruct")
    with pytest.raises(Unavailable, match=r"the database does not answer: .*refused"):
        await_answer(absent, within_s=0.0)


def test_a_database_that_answers_is_not_waited_for() -> None:
    await_answer(open_engine("sqlite://"), within_s=0.0)
