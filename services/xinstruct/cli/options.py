"""Options that many commands share, and ids of requests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from xinstruct.spine.errors import Invalid, require

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration; default ./xinstruct.yaml, or built-in defaults."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text for people.")]
AlwaysJsonOption = Annotated[bool, typer.Option("--json", help="Taken as everywhere; this is JSON in any case.")]
RequestIdOption = Annotated[
    str, typer.Option("--request-id", metavar="ID", help="Makes the command repeatable: the same id is done once.")
]
LanguageOption = Annotated[
    str, typer.Option("--language", metavar="TAG", help="Only this language, for instance sw; default: all.")
]
ID_DIGITS, ID_DIGITS_MIN = 32, 8


def request_id(given: str) -> str:
    """The id given by the user, or a new one: a command typed again without an id is a new request."""
    return given or f"cli-{time.time_ns():x}-{os.getpid():x}"


def absolute(location: str) -> str:
    """A file as the process that reads it finds it, wherever that was started: paths absolute, URLs as they are."""
    return location if "://" in location or not location else str(Path(location).resolve())


def is_id(text: str) -> bool:
    """Whether `text` is the id of a page, document or pair. Invalid for one that is shortened, as stories show them."""
    if not text or text.strip("0123456789abcdef"):
        return False
    if len(text) != ID_DIGITS:
        raise Invalid(f"{text!r}: an id has {ID_DIGITS} digits; --json shows them whole")
    return True


def require_digits(text: str) -> None:
    """Invalid for so short a start of an id that it names nothing."""
    short = text and len(text) < ID_DIGITS_MIN and not text.strip("0123456789abcdef")
    require(not short, f"{text!r}: give {ID_DIGITS_MIN} digits of an id or more")


def split_list(text: str) -> list[str]:
    """The words of a comma-separated option."""
    return [word.strip() for word in text.split(",") if word.strip()]
