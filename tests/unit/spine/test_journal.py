"""The journal keeps what was paid for, and forgets what a takedown names."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from xinstruct.inference.scripted import ScriptedInference, scripted_answer
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Answer, Decoding, Generate, Generated, Refused, Request, request_digest
from xinstruct.spine.journal import ANSWERS, Journaled, erase
from xinstruct.spine.sql import METADATA, open_engine

WAIT_S = 30


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/database.sqlite")
    METADATA.create_all(engine)
    yield engine
    engine.dispose()


def asked(prompt: str = "A text.", subject: str = "document-1") -> Generate:
    return Generate("generator", "sha256:0", prompt, Decoding(8), subject=subject)


def opened(backend: ScriptedInference, database: sa.Engine) -> Journaled:
    return Journaled(backend, database, owner="0", clock=lambda: 0)


def kept(database: sa.Engine) -> int:
    with database.begin() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(ANSWERS)).scalar_one())


def test_an_equal_request_is_answered_from_the_journal_after_a_restart(database: sa.Engine) -> None:
    first, second = ScriptedInference(), ScriptedInference()
    journal = opened(first, database)
    answer = journal.submit(asked()).result(WAIT_S)
    journal.close()
    again = opened(second, database)
    assert again.submit(asked()).result(WAIT_S) == answer
    again.close()
    assert (len(first.requests), len(second.requests)) == (1, 0)


def test_equal_requests_in_flight_are_one_call(database: sa.Engine) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> Answer:
        entered.set()
        go_on.wait(WAIT_S)
        return scripted_answer(request)

    backend = ScriptedInference(slow)
    journal = opened(backend, database)
    first = journal.submit(asked())
    entered.wait(WAIT_S)
    second = journal.submit(asked(subject="document-2"))
    go_on.set()
    assert first.result(WAIT_S) == second.result(WAIT_S)
    assert len(backend.requests) == 1
    journal.close()


def test_an_answer_is_in_the_database_before_anybody_sees_it(database: sa.Engine) -> None:
    journal = opened(ScriptedInference(), database)
    counts: list[int] = []
    seen = threading.Event()
    future = journal.submit(asked())
    future.add_done_callback(lambda _: (counts.append(kept(database)), seen.set()))
    assert seen.wait(WAIT_S)
    assert counts == [1]
    journal.close()


def test_a_refusal_is_asked_again(database: sa.Engine) -> None:
    backend = ScriptedInference(lambda _: Refused("too_long"))
    journal = opened(backend, database)
    assert [journal.submit(asked()).result(WAIT_S) for _ in range(2)] == [Refused("too_long")] * 2
    assert len(backend.requests) == 2
    assert kept(database) == 0
    journal.close()


def test_an_endpoint_that_is_down_is_asked_again_later(database: sa.Engine) -> None:
    answers: list[Answer | None] = [None, Generated("Fine.", "stop", -0.1, 2, 1)]

    def answer(_: Request) -> Answer:
        found = answers.pop(0)
        if found is None:
            raise Unavailable("down")
        return found

    journal = opened(ScriptedInference(answer), database)
    with pytest.raises(Unavailable):
        journal.submit(asked()).result(WAIT_S)
    assert journal.submit(asked()).result(WAIT_S) == Generated("Fine.", "stop", -0.1, 2, 1)
    journal.close()


def test_erasing_a_subject_forgets_its_answers_and_no_others(database: sa.Engine) -> None:
    journal = opened(ScriptedInference(), database)
    for number in range(3):
        journal.submit(asked(f"Text {number}", f"document-{number}")).result(WAIT_S)
    journal.close()
    with database.begin() as connection:
        assert erase(connection, {"document-1", "document-9"}) == 1
        left = connection.execute(sa.select(ANSWERS.c.subject).order_by(ANSWERS.c.subject)).scalars().all()
    assert left == ["document-0", "document-2"]


def test_a_failing_database_is_unavailable_and_nothing_is_asked(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/empty.sqlite")
    backend = ScriptedInference()
    journal = opened(backend, engine)
    with pytest.raises(Unavailable):
        journal.submit(asked()).result(WAIT_S)
    assert backend.requests == []
    journal.close()


def test_the_subject_is_no_part_of_the_question() -> None:
    assert request_digest(asked(subject="a")) == request_digest(asked(subject="b"))
    assert request_digest(asked()) != request_digest(replace(asked(), model="sha256:1"))
