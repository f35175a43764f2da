"""Lines out of the pieces of a log, and what is said of a job."""

from __future__ import annotations

import pytest

from xinstruct.cli.jobs import LINE_CHARS_MAX, job_line, lines_of
from xinstruct.v1.training_service_pb2 import Job


@pytest.mark.parametrize(("pieces", "lines", "rest"), [
    (["one\ntw", "o\n", "three"], ["one", "two"], "three"),
    (["one\n\ntwo\n"], ["one", "", "two"], ""),
    (["one\r", "\ntwo\r\n"], ["one", "two"], ""),
    (["one\r", "two\n"], ["one", "two"], ""),
    (["\r 0%", "\r 50", "%\r100%", "\nsaved\n"], [" 0%", " 50%", "100%", "saved"], ""),
    (["x" * LINE_CHARS_MAX, "y", "z\n"], ["x" * LINE_CHARS_MAX + "y", "z"], ""),
])
def test_lines_are_whole_however_a_log_was_cut(pieces: list[str], lines: list[str], rest: str) -> None:
    found: list[str] = []
    text = ""
    for piece in pieces:
        whole, text = lines_of(text, piece)
        found += whole
    assert (found, text) == (lines, rest)


def test_a_job_is_said_with_why_it_waits_or_failed() -> None:
    job = Job(state="running", steps_done=5, steps_count=40)
    assert job_line(job) == "running 5/40"
    assert job_line(Job(state="queued", waiting_for="Unschedulable: full")) == "queued 0/?: waits: Unschedulable: full"
    assert job_line(Job(state="failed", steps_done=5, steps_count=40, failure="cancelled")) == "failed 5/40: cancelled"
