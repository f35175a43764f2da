"""A release's rows in other formats, and what one release has that another has not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xinstruct.curation import folder
from xinstruct.spine.errors import NotFound, require

CHUNK_BYTES_MAX = 1 << 20


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row) | {"fetch_time": row["fetch_time"].isoformat(timespec="milliseconds")}


def _alpaca(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "instruction": row["instruction"], "input": "", "output": row["response"]}


def _sharegpt(row: Mapping[str, Any]) -> dict[str, Any]:
    turns = [{"from": "human", "value": row["instruction"]}, {"from": "gpt", "value": row["response"]}]
    return {"id": row["id"], "conversations": turns}


def _chat(row: Mapping[str, Any]) -> dict[str, Any]:
    turns = [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["response"]}]
    return {"id": row["id"], "language": row["language"], "messages": turns}


Shape = Callable[[Mapping[str, Any]], dict[str, Any]]

FORMATS: Mapping[str, Shape] = {
    "jsonl": _plain, "alpaca": _alpaca, "sharegpt": _sharegpt, "chat": _chat,
}  # fmt: skip
"""All but alpaca are one JSON object a line; alpaca is one JSON array, as its readers expect."""


@dataclass(frozen=True)
class LanguageDiff:
    """As LanguageDiff in curation_service.proto; every list is sorted."""

    language: str
    added_ids: tuple[str, ...]
    removed_ids: tuple[str, ...]
    changed_ids: tuple[str, ...]
    same_count: int


def export_rows(location: str, export_format: str, *, language: str = "") -> Iterator[bytes]:
    """The file, in chunks of at most CHUNK_BYTES_MAX. Invalid: unknown format. NotFound: no release, or not in it."""
    require(export_format in FORMATS, f"format {export_format!r}: one of {', '.join(FORMATS)}")
    _, described = folder.read_manifest(location)
    languages = [language] if language else sorted(described["languages"])
    if not set(languages) <= set(described["languages"]):
        raise NotFound(f"{described['name']} has no rows in {language!r}; it has {', '.join(described['languages'])}")
    lines = _lines(location, languages, FORMATS[export_format])
    yield from _chunked(_as_array(lines) if export_format == "alpaca" else lines)


def compare(newer: str, older: str) -> list[LanguageDiff]:
    """How the release at `newer` differs from the one at `older`, per language. `p_best` and the rest all count."""
    languages = {language for place in (newer, older) for language in folder.read_manifest(place)[1]["languages"]}
    return [_language_diff(newer, older, language) for language in sorted(languages)]


def _language_diff(newer: str, older: str, language: str) -> LanguageDiff:
    new, old = _rows_by_id(newer, language), _rows_by_id(older, language)
    both = new.keys() & old.keys()
    changed = {pair_id for pair_id in both if new[pair_id] != old[pair_id]}
    return LanguageDiff(
        language, tuple(sorted(new.keys() - old.keys())), tuple(sorted(old.keys() - new.keys())),
        tuple(sorted(changed)), len(both) - len(changed),
    )  # fmt: skip


def _rows_by_id(location: str, language: str) -> dict[str, dict[str, Any]]:
    try:
        return {row["id"]: row for row in folder.read_rows(location, language)}
    except NotFound:
        return {}


def _lines(location: str, languages: list[str], shape: Shape) -> Iterator[bytes]:
    for language in languages:
        for row in folder.read_rows(location, language):
            yield json.dumps(shape(row), ensure_ascii=False).encode() + b"\n"


def _as_array(lines: Iterator[bytes]) -> Iterator[bytes]:
    before = b"["
    for line in lines:
        yield before + b"\n" + line.rstrip(b"\n")
        before = b","
    yield b"\n]\n" if before == b"," else b"[]\n"


def _chunked(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines gathered to chunks; a line longer than a chunk is cut."""
    waiting = b""
    for line in lines:
        waiting += line
        while len(waiting) >= CHUNK_BYTES_MAX:
            yield waiting[:CHUNK_BYTES_MAX]
            waiting = waiting[CHUNK_BYTES_MAX:]
    if waiting:
        yield waiting
