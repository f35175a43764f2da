"""The `xinstruct` command: a module a group of commands. Each imports what it needs when it runs: --help is fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from xinstruct.cli import (
    configuration,
    crawl,
    dead_letters,
    look,
    microworlds,
    models,
    preview,
    releases,
    reports,
    reviews,
    running,
    single,
    takedowns,
)
from xinstruct.cli.demo import command as demo
from xinstruct.cli.output import ExitCode, print_line, print_note

EPILOG = (
    "Commands that work on your data take --config FILE (default: ./xinstruct.yaml, or built-in defaults where there is"
    " none), those that answer take --json (one JSON document on stdout, or one a line for lists).\n\n"
    "Exit codes: 0 done; 1 failed; 2 wrong usage or bad input; 3 no such thing; 4 the present state forbids it;"
    " 5 something needed does not answer; 130 interrupted."
)

HELP = "Turn native web text of low-resource languages into English instructions and their native answers."

app = typer.Typer(
    name="xinstruct",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    from importlib.metadata import version

    if wanted:
        print_line(f"xinstruct {version('xinstruct')}")
        raise typer.Exit


@app.callback(help=HELP, epilog=EPILOG)
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


for module in (
    configuration,
    preview,
    demo,
    running,
    look,
    crawl,
    single,
    models,
    releases,
    reviews,
    takedowns,
    dead_letters,
    reports,
    microworlds,
):
    module.mount(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Errors end as one sentence on stderr, bugs as a traceback."""
    from typer.exceptions import Abort, TyperException

    from xinstruct.spine.errors import XinstructError

    command = typer.main.get_command(app)
    try:
        code = command(
            list(sys.argv[1:] if arguments is None else arguments), prog_name="xinstruct", standalone_mode=False
        )
        sys.stdout.flush()
        return int(code or ExitCode.OK)
    except TyperException as error:
        print_note(f"{error.format_message()}\nTry --help." if error.format_message() else "")
        return ExitCode.INVALID
    except XinstructError as error:
        print_note(error.message)
        return exit_code(error)
    except (KeyboardInterrupt, Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except OSError as error:
        print_note(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return ExitCode.FAILED


def exit_code(error: Exception) -> ExitCode:
    """The exit code that an error of spine/errors.py stands for."""
    from xinstruct.spine.errors import Conflict, Fenced, Invalid, NotFound, Unavailable

    codes = {
        Invalid: ExitCode.INVALID,
        NotFound: ExitCode.NOT_FOUND,
        Conflict: ExitCode.CONFLICT,
        Fenced: ExitCode.CONFLICT,
        Unavailable: ExitCode.UNAVAILABLE,
    }
    return codes.get(type(error), ExitCode.FAILED)


if __name__ == "__main__":
    sys.exit(main())
