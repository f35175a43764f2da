"""The log of a job, read while it is written: text by its place in the file, which only grows.

A place is a byte between two characters, as a piece before it gave it. Whoever comes back with it misses nothing and
gets nothing twice, from another process too. Not covered: a volume that is told late what a pod wrote (NFS: up to half
a minute, or when the pod ends).
"""

from __future__ import annotations

import codecs
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xinstruct.training.work_folder import refusals

PIECE_BYTES = 64 * 1024
"""Of the log in one piece at most."""
TAIL_BYTES_MAX = 16 * 1024 * 1024
"""Last lines are counted in so much of the log's end."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of the log, "" when there is none yet, and the bytes of the file where it begins and ends."""

    text: str
    offset: int
    next_offset: int


def read_piece(file: Path, offset: int) -> Piece:
    """The next whole characters from byte `offset` on; whole lines where more than a piece is there.

    What is no UTF-8 becomes U+FFFD; a character whose end is not written yet is left to the next piece. Where the file
    is shorter than `offset` it was begun anew, and is read from its start. Unavailable when it cannot be read now.
    """
    with refusals(file), _opened(file) as log:
        if log is None:
            return Piece("", offset, offset)
        start = offset if offset <= log.seek(0, os.SEEK_END) else 0
        log.seek(start)
        content = log.read(PIECE_BYTES)
    if len(content) == PIECE_BYTES:
        content = content[: content.rfind(b"\n") + 1] or content
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content)
    unfinished, _ = decoder.getstate()
    return Piece(text, start, start + len(content) - len(unfinished))


def tail_offset(file: Path, lines: int) -> int:
    """The byte where the last `lines` lines begin, a line that is not finished among them; 0 lines: the end.

    Never more than TAIL_BYTES_MAX before the end; 0 when there is no file. Unavailable when it cannot be read now.
    """
    with refusals(file), _opened(file) as log:
        if log is None:
            return 0
        size = log.seek(0, os.SEEK_END)
        return _last_lines(log, size, lines) if lines and size else size


def _last_lines(log: BinaryIO, size: int, lines: int) -> int:
    log.seek(size - 1)
    breaks = lines + (log.read(1) == b"\n")  # the one behind the last line begins no other
    start, first = size, max(0, size - TAIL_BYTES_MAX)
    while start > first:
        before = max(first, start - PIECE_BYTES)
        log.seek(before)
        content = log.read(start - before)
        end = len(content)
        while (end := content.rfind(b"\n", 0, end)) >= 0:
            breaks -= 1
            if not breaks:
                return before + end + 1
        start = before
    return _character_from(log, first)


def _character_from(log: BinaryIO, offset: int) -> int:
    """The first byte from `offset` on that may begin a character."""
    log.seek(offset)
    following = log.read(3)
    return offset + next((n for n, byte in enumerate(following) if byte & 0xC0 != 0x80), 0)


def _opened(file: Path) -> AbstractContextManager[BinaryIO | None]:
    """The file, None where there is none. Opened for each piece: NFS asks its server for the size then."""
    def plain(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # jobs write to this folder: no link, no pipe

    try:
        return open(file, "rb", buffering=0, opener=plain)
    except FileNotFoundError:
        return nullcontext()
