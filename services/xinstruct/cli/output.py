"""What the commands print: tables for people, JSON for programs, never a control character out of the web."""

from __future__ import annotations

import json
import math
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from google.protobuf.message import Message


class ExitCode(IntEnum):
    """What a command returns to the shell; `xinstruct --help` lists them."""

    OK = 0
    FAILED = 1
    INVALID = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNAVAILABLE = 5
    INTERRUPTED = 130


_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
_UNSEEN = re.compile(f"[\x7f-\x9f\u2028\u2029{''.join(sorted(_BIDI_CONTROLS))}]")
"""What JSON may hold as it is, and a terminal or a reader by lines takes for more than text."""


def clean(text: str) -> str:
    """`text` fit for a terminal: no control characters but line breaks, nothing that reorders what stands beside it.

    Joiners stay: words of Urdu, Hindi and others need them. Lone surrogates become U+FFFD.
    """
    kept = (
        character
        for character in text.replace("\t", " ")
        if character == "\n" or (unicodedata.category(character) != "Cc" and character not in _BIDI_CONTROLS)
    )
    return "".join(kept).encode("utf-8", "replace").decode("utf-8")


def line(text: str, width: int) -> str:
    """`text` as one clean line of at most `width` characters, with an ellipsis where it was cut."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def print_json(value: Message | Mapping[str, Any]) -> None:
    """One JSON document on one line of stdout; what cannot be seen stands in it escaped."""
    plain = to_plain(value) if isinstance(value, Message) else value
    sys.stdout.write(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(plain, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One clean line, or several, on stdout."""
    sys.stdout.write(clean(text) + "\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """A remark for a person on stderr: never part of what a program reads."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """An aligned table, numbers to the right; the sentence `empty` when there is no row."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    if not listed:
        print_line(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        number = all(isinstance(row[index], int | float) for row in listed)
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in listed:
        table.add_row(*(Text(cell_text(cell)) for cell in row))
    # Rich would cut a table to 80 columns when stdout is a file; a file has no width.
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False).print(table)


def cell_text(value: object) -> str:
    """A number with its thousands apart, a float with three digits, nothing for NaN, clean text otherwise."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}"
    return line(str(value), 400)


def minute(time_ms: int) -> str:
    """A moment, milliseconds since 1970, to the minute, in UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def short_digest(digest: str) -> str:
    """The first 12 digits of a digest, enough to name a model or file in a command; other names as they are."""
    prefix, colon, digits = digest.partition(":")
    return digits[:12] if colon and prefix == "sha256" else digest


def to_plain(message: Message) -> dict[str, Any]:
    """Every field of `message` by its proto name, unset ones included: 64-bit numbers as numbers, enums as lower-case
    words, bytes as hex digits, NaN as null."""
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {key: value[key] for key in sorted(value)}
    if field.is_repeated:
        return [_scalar(item, field) for item in value]
    return _scalar(value, field)


def _scalar(value: Any, field: Any) -> Any:
    if isinstance(value, Message):
        return to_plain(value)
    if field.enum_type is not None:
        return enum_word(field.enum_type.values_by_number[value].name, field.enum_type.values[0].name)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return round(value, 9) if isinstance(value, float) else value


def enum_word(name: str, zero_name: str) -> str:
    """The word of an enum member: "SOURCE_KIND_URL" beside "SOURCE_KIND_UNSPECIFIED" is "url"."""
    return name.removeprefix(zero_name.removesuffix("UNSPECIFIED")).lower()
