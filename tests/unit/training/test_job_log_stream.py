"""The stream of a job's log: all of it and no more, what the job waits for, and its end behind its last words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.sql import METADATA, open_engine
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import TrainingSettings
from xinstruct.training.tables import JOBS
from xinstruct.v1.training_service_pb2 import JobLogEvent, WatchJobLogRequest

NAME = "generator-r0-0123456789ab"


class Call:
    """A call between whose looks something `happens`, each at once; the caller goes away after the last."""

    def __init__(self, *happens: Callable[[], None]) -> None:
        self.left = list(happens)

    def is_active(self) -> bool:
        if self.left:
            self.left.pop(0)()
            return True
        return False

    def add_callback(self, gone: Callable[[], None]) -> None:
        gone()  # so that nothing rests


@pytest.fixture
def deps(tmp_path: Path) -> Iterator[Deps]:
    """One job that is queued."""
    engine = open_engine(f"sqlite:///{tmp_path / 'db.sqlite'}")
    METADATA.create_all(engine)
    log = SqliteLog(tmp_path / "log.sqlite", clock=lambda: 1)
    with engine.begin() as connection:
        connection.execute(sa.insert(JOBS).values(
            job_name=NAME, request_id="1", role="generator", round=0, state="queued", command=b"", snapshot_digest="",
            steps_done=0, steps_count=0, model_digest="", failure="", metrics="", attempts_count=0,
            promotion_open=False, owner="", owned_until_ms=0, change_time_ms=1, change_number=1,
        ))
    yield Deps(log, engine, Blobs(str(tmp_path / "blobs")), {}, lambda: 1, tmp_path)
    log.close()
    engine.dispose()


def changed(deps: Deps, **values: Any) -> Callable[[], None]:
    """What the job's keeper does: a change of its row."""
    def happens() -> None:
        with deps.database.begin() as connection:
            connection.execute(sa.update(JOBS).values(change_number=JOBS.c.change_number + 1, **values))
    return happens


def told(deps: Deps, text: str) -> Callable[[], None]:
    """What the job does: it says something."""
    def happens() -> None:
        file = deps.home / "jobs" / NAME / "job.log"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as log:
            log.write(text)
    return happens


def nothing() -> None:
    """Nothing happens."""


def events(deps: Deps, call: Call, **request: Any) -> list[JobLogEvent]:
    servicer = TrainingServicer(TrainingSettings(), deps, {})
    return list(servicer.WatchJobLog(WatchJobLogRequest(**{"job_name": NAME} | request), call))


def text_of(found: list[JobLogEvent]) -> str:
    return "".join(event.text for event in found)


def jobs_of(found: list[JobLogEvent]) -> list[tuple[str, str]]:
    """(state, what it waits for) of each change that was told."""
    return [(event.job.state, event.job.waiting_for) for event in found if event.HasField("job")]


def test_a_followed_job_tells_why_it_waits_then_what_it_says_and_its_end_behind_its_last_words(deps: Deps) -> None:
    call = Call(
        nothing, nothing, changed(deps, waiting_for="Unschedulable: no node has a GPU"), nothing,
        changed(deps, state="running", waiting_for=""), told(deps, "step 1\nst"), nothing, told(deps, "ep 2\n"),
        changed(deps, state="done"), nothing, told(deps, "saved\n"), *[nothing] * 20,
    )
    found = events(deps, call, follow=True)
    assert text_of(found) == "step 1\nstep 2\nsaved\n"
    assert jobs_of(found) == [
        ("queued", ""), ("queued", "Unschedulable: no node has a GPU"), ("running", ""), ("done", "")
    ]
    assert found[-1].job.state == "done" and not found[-1].text
    assert [event.offset for event in found[1:]] == [event.next_offset for event in found[:-1]]
    assert call.left  # the service ended the call, not the caller


def test_a_call_that_does_not_follow_gets_what_is_there_and_the_job_as_it_is(deps: Deps) -> None:
    told(deps, "step 1\n")()
    changed(deps, state="running", waiting_for="ImagePullBackOff: no-such-image")()
    call = Call(*[nothing] * 5)
    found = events(deps, call)
    assert (text_of(found), jobs_of(found)) == ("step 1\n", [("running", "ImagePullBackOff: no-such-image")])
    assert call.left


def test_a_job_that_never_said_anything_tells_what_it_waits_for(deps: Deps) -> None:
    changed(deps, waiting_for="Unschedulable")()
    found = events(deps, Call(*[nothing] * 5))
    assert (text_of(found), jobs_of(found)) == ("", [("queued", "Unschedulable")])


@pytest.mark.parametrize("follow", [False, True])
def test_whoever_comes_back_with_the_last_place_gets_the_rest_and_nothing_twice(deps: Deps, follow: bool) -> None:
    said = "".join(f"hatua ya {number} — ziwa\n" for number in range(20_000))
    told(deps, said)()
    changed(deps, state="done")()
    first = events(deps, Call(nothing, nothing), follow=follow)  # the caller goes away after two pieces
    rest = events(deps, Call(*[nothing] * 50), follow=follow, offset=first[-1].next_offset)
    assert len(first) == 2 and jobs_of(first) == []
    assert text_of(first) + text_of(rest) == said
    assert jobs_of(rest) == [("done", "")]


def test_last_lines_alone_are_sent_and_what_comes_behind_them(deps: Deps) -> None:
    told(deps, "one\ntwo\nthree\n")()
    call = Call(nothing, nothing, told(deps, "four\n"), changed(deps, state="failed"), *[nothing] * 20)
    assert text_of(events(deps, call, follow=True, tail_lines=2)) == "two\nthree\nfour\n"
    assert text_of(events(deps, Call(*[nothing] * 5), tail_lines=0)) == ""


def test_a_log_that_is_not_there_any_more_is_not_found_and_the_jobs_end_is_told(deps: Deps) -> None:
    told(deps, "one\n")()
    changed(deps, state="failed", failure="the disk is full")()
    shutil.rmtree(deps.home / "jobs" / NAME)
    stream = TrainingServicer(TrainingSettings(), deps, {}).WatchJobLog(
        WatchJobLogRequest(job_name=NAME, follow=True), Call(*[nothing] * 5)
    )
    assert next(stream).job.failure == "the disk is full"
    with pytest.raises(NotFound, match=rf"{NAME} left no log: it never started, or .*{NAME} was removed"):
        next(stream)


def test_a_job_that_nobody_knows_has_no_log(deps: Deps) -> None:
    for name in ("", "../../etc", "generator-r0-000000000000"):
        with pytest.raises(NotFound, match=r"no job .*models jobs"):
            events(deps, Call(nothing), job_name=name)


def test_a_caller_says_in_one_way_where_to_begin(deps: Deps) -> None:
    with pytest.raises(Invalid, match="offset and tail_lines"):
        events(deps, Call(nothing), offset=5, tail_lines=0)
