"""The command line as a whole: help, exit codes, sentences instead of tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from xinstruct.cli.main import app, exit_code, main
from xinstruct.cli.output import ExitCode
from xinstruct.microworld.command import application
from xinstruct.spine.errors import Conflict, Fenced, Invalid, NotFound, Unavailable


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("x"), ExitCode.INVALID),
        (NotFound("x"), ExitCode.NOT_FOUND),
        (Conflict("x"), ExitCode.CONFLICT),
        (Fenced("x"), ExitCode.CONFLICT),
        (Unavailable("x"), ExitCode.UNAVAILABLE),
        (ValueError("x"), ExitCode.FAILED),
    ],
)
def test_every_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code(error) is code


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["crawl", "add"], ["preview", "--n", "none", "http://x.example/"], ["demo", "--seed", "-1"]],
)
def test_wrong_usage_ends_with_code_two_and_a_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.INVALID
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err and "Traceback" not in said.err


def test_help_names_every_command_without_loading_what_commands_need() -> None:
    heavy = ("torch", "transformers", "pyarrow", "grpc", "pydantic", "sqlalchemy", "numpy", "aiohttp")
    program = (
        "import sys\nfrom xinstruct.cli.main import main\ncode = main(['--help'])\n"
        f"print([name for name in {heavy!r} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[] 0\n")
    for command in ("init", "preview", "demo", "up", "crawl", "status", "why", "release", "takedown", "microworld"):
        assert command in done.stdout


def test_every_command_takes_json() -> None:
    # The microworld's commands are its own: `xinstruct microworld` passes everything on to them.
    root: Any = typer.main.get_command(app)
    root.commands["microworld"] = typer.main.get_command(application)
    assert [path for path, command in commands(root) if not takes_json(command)] == []


def commands(command: Any, path: str = "xinstruct") -> Iterator[tuple[str, Any]]:
    """Every command below `command`, with what is typed for it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from commands(below, f"{path} {name}")


def takes_json(command: Any) -> bool:
    return any("--json" in parameter.opts for parameter in command.params)


def test_an_unreadable_configuration_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", str(tmp_path / "none.yaml")]) == ExitCode.INVALID
    assert "xinstruct init" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "mistakes"), [
    (
        "home: 3\nnonsense: 1\nrpc:\n  port: many\n",
        ["{config}:1: home", "{config}:2: nonsense", "{config}:4: rpc.port"],
    ),
    # An endpoint without its address, as the services refuse it.
    ("inference: {generator: {kind: openai}}\n", ["inference.generator.url"]),
])  # fmt: skip
def test_every_mistake_of_a_configuration_is_named_with_its_line(
    text: str, mistakes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "x.yaml"
    config.write_text(text, "utf-8")
    assert main(["config", "check", "--config", str(config)]) == ExitCode.INVALID
    said = capsys.readouterr().err
    for mistake in mistakes:
        assert mistake.format(config=config) in said


def test_the_schema_is_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == ExitCode.OK
    assert "home" in json.loads(capsys.readouterr().out)["properties"]


def test_an_unknown_language_lists_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--languages", "xx", "--out", str(tmp_path / "demo")]) == ExitCode.NOT_FOUND
    said = capsys.readouterr().err
    assert "sw (Swahili)" in said and "languages_data/xx.yaml" in said
