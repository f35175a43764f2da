"""xinstruct up: every service in this process, with what it does now on the screen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xinstruct.cli.client import Client, connect_to, read_settings
from xinstruct.cli.look import snapshot_view, take_snapshot
from xinstruct.cli.options import ConfigOption, JsonOption
from xinstruct.cli.output import ExitCode, print_json, print_note
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.signals import leave_at_sigterm

if TYPE_CHECKING:
    from rich.console import Console

    from xinstruct.settings import XinstructSettings
    from xinstruct.targets import Built

REFRESH_S = 1.0
LOG_FILE = "up.log"


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(up)


def up(
    plain: Annotated[bool, typer.Option("--plain", help="Log lines (JSON) on stderr instead of live figures.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run every service until Ctrl-C.

    Crawls, drafts, scores and keeps the catalog; commands in other terminals talk to it. --json prints home and port
    once it serves, with log lines as by --plain; `xinstruct status --watch --json` has the figures.
    """
    from xinstruct.__main__ import leave, serve

    settings = read_settings(config, ["all"])
    if as_json:
        leave(serve(["all"], settings, started=_tell))
    if plain or not sys.stderr.isatty():
        leave(serve(["all"], settings))
    leave(_serve_with_screen(settings))


def _tell(built: Built) -> None:
    print_json({"home": str(built.deps.home), "port": built.process.server.port})


def _serve_with_screen(settings: XinstructSettings) -> int:
    from xinstruct.__main__ import end, watch
    from xinstruct.spine import telemetry
    from xinstruct.targets import build

    leave_at_sigterm()
    log_file = settings.home_path() / LOG_FILE
    console = _give_stderr_to(log_file)
    telemetry.start(settings.telemetry, "all")
    built = build(["all"], settings)
    watch(built)
    built.process.start()
    console.print(f"Serving on port {built.process.server.port}; log lines go to {log_file}; Ctrl-C drains and stops.")
    here = settings.model_copy(
        update={
            "addresses": {},
            "rpc": settings.rpc.model_copy(update={"port": built.process.server.port}),
        }
    )
    with connect_to(here) as client:
        _show_until_stopped(built, client, console)
    console.print("Stopping: finishing what is begun, at most 10 s.")
    end(built)
    if built.process.failure:
        print_note(f"stopped by an error, see {log_file}: {built.process.failure}")
        return ExitCode.FAILED
    return ExitCode.OK


def _show_until_stopped(built: Built, client: Client, console: Console) -> None:
    from rich.live import Live
    from rich.text import Text

    # Redirected, log lines would come to the screen: the logger writes to what sys.stderr is at the moment.
    with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        while not built.process.wait_stopped(REFRESH_S):
            try:
                live.update(snapshot_view(take_snapshot(client)), refresh=True)
            except Unavailable as error:
                live.update(Text(error.message, style="yellow"), refresh=True)


def _give_stderr_to(log_file: Path) -> Console:
    """Send what is written to stderr from now on (logs, libraries) to `log_file`; the console writes to the screen."""
    from rich.console import Console

    log_file.parent.mkdir(parents=True, exist_ok=True)
    screen = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8")
    with log_file.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    return Console(file=screen, highlight=False)
