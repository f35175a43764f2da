"""A database that starts at the same moment, and one whose connections are all taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

import servers
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.sql import await_answer, open_engine, transaction


def test_a_database_that_does_not_answer_in_time_is_named_and_crashes_nothing() -> None:
    absent = open_engine(f"postgresql+psycopg://xinstruct@127.0.0.1:{servers.free_port()}/xinstruct")
    with pytest.raises(Unavailable, match=r"the database does not answer: .*refused"):
        await_answer(absent, within_s=0.0)


def test_a_database_that_answers_is_not_waited_for() -> None:
    await_answer(open_engine("sqlite://"), within_s=0.0)


def test_a_process_whose_connections_are_all_taken_is_told_to_try_again(tmp_path: Path) -> None:
    one = sa.create_engine(f"sqlite:///{tmp_path / 'database.sqlite'}", pool_size=1, max_overflow=0, pool_timeout=0.05)
    waits = pytest.raises(Unavailable, match="no connection to the database is free")
    with one.connect(), waits, transaction(one):
        raise AssertionError("the one connection was given twice")
    with transaction(one):
        pass
    one.dispose()
