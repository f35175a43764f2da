"""Options that many commands share, and ids of requests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration; default ./xinstruct.yaml, or built-in defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text for people.")]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="ID", help="Makes the command repeatable: the same id is done once.")
]
LanguageOption = Annotated[
    str, typer.Option("--language", metavar="TAG", help="Only this language, for instance sw; default: all.")
]


def request_id(given: str) -> str:
    """The id given by the user, or a new one: a command typed again without an id is a new request."""
    return given or f"cli-{time.time_ns():x}-{os.getpid():x}"


def split_list(text: str) -> list[str]:
    """The words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]
