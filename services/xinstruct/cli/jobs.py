"""Training jobs: which there are, what they say and wait for, and staying until one has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xinstruct.cli.client import Client, connect
from xinstruct.cli.options import ConfigOption, JsonOption
from xinstruct.cli.output import minute, print_json, print_line, print_note, print_table, to_plain
from xinstruct.spine.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from xinstruct.v1.training_service_pb2 import Job, JobLogEvent, WatchJobLogRequest

LINE_CHARS_MAX = 64 * 1024
"""A line of a log that does not end is broken there."""


def jobs(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Training jobs: how far each is, and what it waits for or why it failed."""
    from xinstruct.v1.training_service_pb2 import ListJobsRequest

    with connect(config) as client:
        found = list(client.pages(client.training.ListJobs, ListJobsRequest(page_size=1000), items="jobs"))
    if as_json:
        for job in found:
            print_json(job)
        return
    print_table(
        ("job", "state", "steps", "loss", "starts", "changed", "why"),
        (_row(job) for job in found),
        empty="No training jobs yet; `xinstruct train` makes one.",
    )


def logs(
    job: Annotated[str, typer.Argument(help="Name of the training job; `models jobs` lists them.")],
    follow: Annotated[bool, typer.Option("--follow", help="Stay until the job has ended.")] = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only so many last lines, and what comes then.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Byte to begin at: the last next_offset of --json.")] = 0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a training job says, or has said.

    All its attempts in turn, also long after its end; on stderr what it waits for, and how it ended. Control characters
    are left out, and each state of a progress bar is a line.
    """
    from xinstruct.v1.training_service_pb2 import WatchJobLogRequest

    with connect(config) as client:
        # Where nobody runs jobs none comes to its end: what is there is shown.
        stays = follow and not client.alone
        request = WatchJobLogRequest(job_name=job, offset=offset, tail_lines=tail, follow=stays)
        events = _log_events(client, request) if stays else client.watch(client.training.WatchJobLog, request)
        if as_json:
            for event in events:
                print_json(_plain(event))
        else:
            _show(events, print_line)
        if follow and not stays:
            print_note("Nobody runs training jobs now; `xinstruct up` does, and goes on with this one if it is open.")


def follow_job(client: Client, name: str) -> Job:
    """Say every state of the job until it is done, and return the last. Unavailable when it failed."""
    from xinstruct.v1.training_service_pb2 import Job, WatchJobRequest

    request, job = WatchJobRequest(job_name=name), Job()
    for event in _until_ended(lambda: client.watch(client.training.WatchJob, request)):
        request.page_token, job = event.page_token, event.job
        print_note(job_line(job))
    return _done(job)


def follow_log(client: Client, name: str) -> Job:
    """As follow_job, with what the job says instead of its steps, on stderr."""
    from xinstruct.v1.training_service_pb2 import WatchJobLogRequest, WatchJobRequest

    # A command that was just submitted takes a moment to be read.
    next(_until_ended(lambda: client.watch(client.training.WatchJob, WatchJobRequest(job_name=name))))
    return _done(_show(_said(client, WatchJobLogRequest(job_name=name, follow=True)), print_note))


def job_line(job: Job) -> str:
    """State and steps of a job, and why it waits or failed."""
    why = job.failure or (f"waits: {job.waiting_for}" if job.waiting_for else "")
    return f"{job.state} {_steps(job)}{': ' if why else ''}{why}"


def lines_of(text: str, piece: str) -> tuple[list[str], str]:
    """Whole lines of `text`, the rest of a log so far, and its next `piece`; and the rest now, to be given back.

    A carriage return ends a line too, without an empty one: a progress bar writes its states over each other by it.
    """
    *whole, rest = (text + piece).split("\n")
    lines = [state for line in whole for state in _states(line) or [""]]
    if len(rest) > LINE_CHARS_MAX:
        return [*lines, *_states(rest)], ""
    *earlier, last = _states(rest) or [""]
    return [*lines, *earlier], last + "\r" * rest.endswith("\r")


def _states(line: str) -> list[str]:
    return [state for state in line.split("\r") if state]


def _show(events: Iterator[JobLogEvent], write: Callable[[str], None]) -> Job:
    """Write lines as they are whole, say what happens to the job besides its steps, and return it as it was last."""
    from xinstruct.v1.training_service_pb2 import Job

    job, said, rest = Job(), "", ""
    for event in events:
        lines, rest = lines_of(rest, event.text)
        for line in lines:
            write(line)
        if not event.HasField("job"):
            continue
        job, before = event.job, said
        said = f"{job.state} {job.waiting_for} {job.failure}"
        if said != before:
            print_note(job_line(job))
    for line in _states(rest):
        write(line)
    return job


def _log_events(client: Client, request: WatchJobLogRequest) -> Iterator[JobLogEvent]:
    for event in _until_ended(lambda: client.watch(client.training.WatchJobLog, request)):
        request.ClearField("tail_lines")
        request.offset = event.next_offset
        yield event


def _said(client: Client, request: WatchJobLogRequest) -> Iterator[JobLogEvent]:
    """What the job says, if anything: one that never started has no log, and says in its state why."""
    with suppress(NotFound):
        yield from _log_events(client, request)


def _until_ended(opened: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """Events about a job up to that of its end, and what the stream says behind it. `opened` begins behind the last: a
    server may be started again.

    Unavailable when it does not come back soon; whether it is there at all is the channel's to try. What is wrong with
    the stream is told also after the job's end: that it left no log, say.
    """
    from xinstruct.spine.rpc import RETRY_RESTS_S

    rests_s, ended = list[float](), False
    while not ended:
        lost = Unavailable("the server stopped before the training job ended; it goes on at the next start")
        try:
            for event in opened():
                rests_s = list(RETRY_RESTS_S)
                ended = ended or event.job.state in ("done", "failed")
                yield event
        except Unavailable as error:
            lost = error
        if not ended:
            if not rests_s:
                raise lost
            time.sleep(rests_s.pop(0))


def _done(job: Job) -> Job:
    if job.state == "failed":
        raise Unavailable(f"training job {job.job_name} failed: {job.failure}")
    return job


def _plain(event: JobLogEvent) -> dict[str, Any]:
    """As JSON: null for a job that has not changed."""
    return to_plain(event) | ({} if event.HasField("job") else {"job": None})


def _row(job: Job) -> tuple[object, ...]:
    why, changed = job.failure or job.waiting_for, minute(job.change_time_ms)
    return job.job_name, job.state, _steps(job), job.loss, job.attempts_count, changed, why


def _steps(job: Job) -> str:
    return f"{job.steps_done}/{job.steps_count or '?'}"
