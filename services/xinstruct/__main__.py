"""`python -m xinstruct TARGET… [--config FILE]`: parse, load config, build, serve, drain on SIGTERM.

A task (`migrate`, `topics`) in the place of targets is done once, and the process ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from xinstruct.settings import XinstructSettings, load_settings, named
from xinstruct.spine import telemetry
from xinstruct.spine.errors import XinstructError
from xinstruct.spine.signals import leave_at_sigterm
from xinstruct.targets import TARGETS, TASKS, Built, build

EXIT_OK, EXIT_CRASHED, EXIT_REFUSED = 0, 1, 2
INSTANCE = "XINSTRUCT_INSTANCE"
"""Environment variable that names this process among its replicas: their configuration is one file for all."""
CLOSING_S_MAX = 1.0
"""What closing may take after the drain, before the process is left."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; 0 after a drain, 1 after a crash, 2 with a sentence where it cannot start."""
    parser = _parser()
    options = parser.parse_args(arguments)
    task = options.target[0] if options.target[0] in TASKS else ""
    single = [name for name in options.target if name not in TARGETS]
    if single and len(options.target) > 1:
        parser.error(f"{', '.join(single)}: alone, or not at all")
    try:
        targets = () if task else options.target
        settings = load_settings(Path(options.config), targets) if options.config else XinstructSettings()
        if task:
            return do(task, settings)
        settings = named(settings, os.environ.get(INSTANCE, ""))
        return serve(options.target, settings)
    except XinstructError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - the last word of a process that could not start
        return EXIT_REFUSED


def serve(
    names: Sequence[str], settings: XinstructSettings, *, started: Callable[[Built], None] = lambda _: None
) -> int:
    """Build and run the targets until a signal or a crash, then drain; returns the exit code.

    `started` is called once, when calls are answered. SIGTERM before it leaves at once: there is nothing to drain.
    """
    leave_at_sigterm()
    telemetry.start(settings.telemetry, "-".join(names))
    built = build(list(names), settings)
    watch(built)
    built.process.start()
    telemetry.logger().info("serving", targets=list(names), port=built.process.server.port)
    started(built)
    built.process.wait()
    end(built)
    return EXIT_CRASHED if built.process.failure else EXIT_OK


def watch(built: Built) -> None:
    """Have signals stop the process, and threads that die end it: whoever waits for one would wait for ever. Stages and
    loops see to themselves; these are threads of what they ask, libraries' among them."""

    def died(thread: threading.ExceptHookArgs) -> None:
        if thread.exc_value is not None and not isinstance(thread.exc_value, SystemExit):
            built.process.crashed(thread.thread.name if thread.thread else "", thread.exc_value)

    threading.excepthook = died
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: built.process.request_stop())


def do(task: str, settings: XinstructSettings) -> int:
    """Do one task; 0 when it is done. Doing it again changes nothing. SIGTERM leaves at once."""
    leave_at_sigterm()
    telemetry.start(settings.telemetry, task)
    TASKS[task](settings)
    telemetry.logger().info("done", task=task)
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m xinstruct", description="Run services of xinstruct.")
    parser.add_argument(
        "target", nargs="+", choices=("all", *TARGETS, *TASKS), metavar="TARGET",
        help=f"all, any of: {', '.join(TARGETS)}; or one of: {', '.join(TASKS)}",
    )
    parser.add_argument("--config", default="", help="YAML file; `xinstruct init` writes a commented one")
    return parser


def end(built: Built) -> None:
    """Drain and close. Leaves the process where that takes longer than its drain and a second: a model may be in the
    middle of a batch, a database may not answer. What is at work then is abandoned, as by a kill.
    """
    within_s = built.process.settings.drain_s + CLOSING_S_MAX
    overdue = threading.Timer(within_s, leave, [EXIT_CRASHED if built.process.failure else EXIT_OK])
    overdue.daemon = True
    overdue.start()
    built.process.stop()
    built.close()
    overdue.cancel()


def leave(exit_code: int) -> NoReturn:
    """End the process now, after the drain: a call that outlasts it would be waited for by the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(exit_code)


if __name__ == "__main__":
    leave(main())
