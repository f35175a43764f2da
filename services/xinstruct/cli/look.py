"""xinstruct status and xinstruct why: what is going on, and the whole story of one thing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xinstruct.cli.client import Client, connect
from xinstruct.cli.options import ConfigOption, JsonOption, absolute, require_digits
from xinstruct.cli.output import line, print_json, print_line, to_plain
from xinstruct.spine.errors import Conflict, Invalid, Unavailable

if TYPE_CHECKING:
    from rich.console import Group

    from xinstruct.v1.curation_service_pb2 import Funnel, StoryEvent
    from xinstruct.v1.status_service_pb2 import GetStatusResponse

WATCH_INTERVAL_S = 1.0
QUIET_LOOKS = 3
"""Looks in a row that must find everything idle: between two services a record is nobody's for a moment."""
FUNNEL_STEPS = (
    ("pages_fetched", "fetched"),
    ("documents_admitted", "admitted"),
    ("pairs_drafted", "drafted"),
    ("pairs_scored", "scored"),
    ("pairs_kept", "kept"),
    ("pairs_published", "published"),
)


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(status)
    app.command()(why)


@dataclass(frozen=True)
class Snapshot:
    """What all reachable processes and the catalog say at one moment."""

    processes: dict[str, GetStatusResponse]
    silent: dict[str, str]
    """Target → why its process did not answer."""
    funnel: Funnel

    @property
    def idle(self) -> bool:
        """Whether everything answers and nothing is left to do."""
        return not self.silent and all(process.idle for process in self.processes.values())


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show changes until Ctrl-C.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until nothing is left to do.")] = False,
    within_s: Annotated[float, typer.Option(min=1.0, help="With --wait: seconds at most; then exit code 5.")] = 3_600.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the funnel, and what every stage waits for."""
    if watch and wait:
        raise Invalid("--watch stays and --wait ends: choose one")
    with connect(config) as client:
        if wait:
            _show(await_idle(client, within_s), as_json)
        elif not watch:
            _show(take_snapshot(client), as_json)
        elif as_json:
            for snapshot in snapshots(client):
                print_json(snapshot_plain(snapshot))
        else:
            _watch(client)


def why(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="URL|FILE|ID",
            help="URL, file, FILE#row=N, or id of a page, document or pair, or the id's start.",
        ),
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of a page, document or pair.

    The whole story, kept or gone: every event with the numbers behind it. Of a text file also the rows without a text;
    the first 1,000 of a file have a reason each in the catalog, further ones are only counted.
    """
    from xinstruct.v1.curation_service_pb2 import GetStoryRequest

    require_digits(subject)
    with connect(config) as client:
        story = client.ask(client.curation.GetStory, GetStoryRequest(subject=_named(subject)))
    if as_json:
        print_json(story)
        return
    for event in story.events:
        print_line(story_line(event))


def _named(subject: str) -> str:
    """The subject as the catalog knows it: a file by its whole path, as `crawl add` writes it."""
    file, mark, row = subject.partition("#")
    return f"{absolute(file)}{mark}{row}" if Path(file).is_file() else subject


def story_line(event: StoryEvent) -> str:
    """One event of a story as a line: when, who, what, to which subject, and the facts behind it."""
    moment = datetime.fromtimestamp(event.time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if event.time_ms else ""
    facts = "  ".join(f"{key}={line(event.facts[key], 120)}" for key in sorted(event.facts))
    subject = line(event.subject_id, 200) if "." in event.subject_id else event.subject_id[:12]
    return f"{moment:19}  {event.stage:10} {line(event.happened, 200)}  [{subject}]  {facts}".rstrip()


def snapshots(client: Client) -> Iterator[Snapshot]:
    """A snapshot now and then, until the caller stops asking."""
    while True:
        yield take_snapshot(client)
        time.sleep(WATCH_INTERVAL_S)


def take_snapshot(client: Client) -> Snapshot:
    """What is going on now. Unavailable when the catalog does not answer; other silent processes are named."""
    from xinstruct.v1.curation_service_pb2 import GetFunnelRequest
    from xinstruct.v1.status_service_pb2 import GetStatusRequest

    processes: dict[str, GetStatusResponse] = {}
    silent: dict[str, str] = {}
    for target in ("curation", *sorted(set(client.settings.addresses) - {"curation"})):
        try:
            status = client.ask(client.status_of(target).GetStatus, GetStatusRequest())
            processes[target] = status
        except Unavailable as error:
            silent[target] = error.message
    return Snapshot(processes, silent, client.ask(client.curation.GetFunnel, GetFunnelRequest()))


def await_idle(client: Client, within_s: float) -> Snapshot:
    """The snapshot when nothing is left to do. Unavailable, with what is left, when that takes longer; Conflict when a
    stage has stopped, for it will do nothing more by itself."""
    begin_s, quiet, left = time.monotonic(), 0, "the catalog does not answer"
    while time.monotonic() - begin_s < within_s:
        try:
            snapshot = take_snapshot(client)
            for process in snapshot.processes.values():
                refuse_stopped(process)
            left = left_to_do(snapshot)
            quiet = 0 if left else quiet + 1
            if quiet == QUIET_LOOKS:
                return snapshot
        except Unavailable as error:  # a pod that is replaced answers again
            quiet, left = 0, error.message
        time.sleep(WATCH_INTERVAL_S)
    raise Unavailable(f"not idle after {within_s:g} s: {left}")


def refuse_stopped(process: GetStatusResponse) -> None:
    """Conflict when a stage of the process has stopped for too many dead letters."""
    for stage in process.stages:
        if stage.stopped:
            raise Conflict(stage.waiting_for)


def left_to_do(snapshot: Snapshot) -> str:
    """What is left to do, for a person; a service that cannot work now may leave anything. "" when all is done."""
    said = [f"{target} does not answer" for target in snapshot.silent]
    for target, process in snapshot.processes.items():
        here = [f"{item.service}: {item.not_ready}" for item in process.services if item.not_ready]
        for stage in process.stages:
            why = f" ({stage.waiting_for})" if stage.waiting_for else ""
            if stage.lag_records:
                here.append(f"{stage.stage} is {stage.lag_records:,} records behind{why}")
            elif stage.in_flight_records:
                here.append(f"{stage.stage} has {stage.in_flight_records:,} records in flight{why}")
        here += [f"{item.loop} is busy" for item in process.loops if item.pending]
        said += here if here or process.idle else [f"{target} is at work"]
    return line("; ".join(said), 300)


def snapshot_plain(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as JSON values."""
    processes = {target: to_plain(process) for target, process in snapshot.processes.items()}
    return {
        "idle": snapshot.idle,
        "funnel": to_plain(snapshot.funnel),
        "processes": processes,
        "silent": snapshot.silent,
    }


def snapshot_view(snapshot: Snapshot) -> Group:
    """The snapshot for a person: funnel, stages, what waits."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [_funnel_table(snapshot.funnel)]
    stages = [stage for process in snapshot.processes.values() for stage in process.stages]
    if stages:
        parts.append(_stage_table(snapshot))
    else:
        parts.append(Text("Nothing runs now; `xinstruct up` starts it.", style="dim"))
    for target, reason in snapshot.silent.items():
        parts.append(Text(f"{target} does not answer: {line(reason, 200)}", style="red"))
    for process in snapshot.processes.values():
        parts += [
            Text(f"{service.service}: {line(service.not_ready, 300)}", style="yellow")
            for service in process.services
            if service.not_ready
        ]
    return Group(*parts)


def _show(snapshot: Snapshot, as_json: bool) -> None:
    if as_json:
        print_json(snapshot_plain(snapshot))
        return
    from rich.console import Console

    Console(highlight=False).print(snapshot_view(snapshot))


def _watch(client: Client) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        for snapshot in snapshots(client):
            live.update(snapshot_view(snapshot), refresh=True)


def _funnel_table(funnel: Funnel) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("language")
    for _, title in FUNNEL_STEPS:
        table.add_column(title, justify="right")
    for row in funnel.languages:
        table.add_row(row.language or "undecided", *(f"{getattr(row, field):,}" for field, _ in FUNNEL_STEPS))
    dropped = sum(funnel.dropped.values())
    dead = sum(funnel.dead_letters.values())
    where = " (`xinstruct dlq list`)" if dead else ""
    table.caption = f"{dropped:,} dropped with a reason, {dead:,} dead letters{where}" if dropped or dead else None
    table.caption_justify = "left"
    return table


def _stage_table(snapshot: Snapshot) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    table.add_column("behind", justify="right")
    table.add_column("in flight", justify="right")
    table.add_column("waits for")
    for process in snapshot.processes.values():
        for stage in process.stages:
            waiting = line(stage.waiting_for, 300)
            table.add_row(stage.stage, f"{stage.lag_records:,}", f"{stage.in_flight_records:,}", waiting)
        for loop in process.loops:
            table.add_row(loop.loop, "busy" if loop.pending else "", "", "")
    return table
