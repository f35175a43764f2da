"""The log of a job while it grows: nothing twice, nothing lost, no half characters, and where its last lines begin."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinstruct.spine.errors import Unavailable
from xinstruct.training.job_log import PIECE_BYTES, TAIL_BYTES_MAX, Piece, read_piece, tail_offset


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "job.log"


def told(file: Path, content: bytes) -> None:
    with file.open("ab") as log:
        log.write(content)


def whole(file: Path, offset: int = 0) -> list[Piece]:
    """Every piece that there is."""
    pieces: list[Piece] = []
    while (piece := read_piece(file, offset)).text:
        assert piece.offset == offset
        pieces.append(piece)
        offset = piece.next_offset
    return pieces


def test_a_growing_log_is_read_from_where_the_last_piece_ended(file: Path) -> None:
    assert read_piece(file, 0) == Piece("", 0, 0)
    told(file, b"one\ntw")
    first = read_piece(file, 0)
    assert first == Piece("one\ntw", 0, 6)
    assert read_piece(file, first.next_offset) == Piece("", 6, 6)
    told(file, b"o\n")
    assert read_piece(file, first.next_offset) == Piece("o\n", 6, 8)


def test_a_character_whose_end_is_not_written_yet_is_left_to_the_next_piece(file: Path) -> None:
    lake = "झील🌊".encode()
    for end in range(1, len(lake)):
        file.write_bytes(lake[:end])
        first = read_piece(file, 0)
        assert "\ufffd" not in first.text
        file.write_bytes(lake)
        assert first.text + read_piece(file, first.next_offset).text == "झील🌊"


def test_what_is_no_utf_8_is_shown_as_such_and_hides_nothing_behind_it(file: Path) -> None:
    told(file, b"\xff\xe0\xa4Traceback\n")  # a killed attempt's half character, and the next attempt
    assert [piece.text for piece in whole(file)] == ["\ufffd\ufffdTraceback\n"]


def test_pieces_are_bounded_and_end_with_a_line_where_there_is_one(file: Path) -> None:
    lines = "".join(f"{number} ya ziwa: {'ü' * 40}\n" for number in range(5_000))
    told(file, lines.encode())
    pieces = whole(file)
    assert "".join(piece.text for piece in pieces) == lines
    assert len(pieces) > 3 and all(piece.next_offset - piece.offset <= PIECE_BYTES for piece in pieces)
    assert all(piece.text.endswith("\n") for piece in pieces)


def test_a_huge_line_comes_in_pieces_without_half_characters(file: Path) -> None:
    line = "x" + "आ" * PIECE_BYTES
    told(file, line.encode())
    pieces = whole(file)
    assert "".join(piece.text for piece in pieces) == line
    assert all(piece.next_offset - piece.offset <= PIECE_BYTES for piece in pieces)


def test_a_log_that_was_begun_anew_is_read_from_its_start(file: Path) -> None:
    told(file, b"the first one, which is longer\n")
    end = read_piece(file, 0).next_offset
    file.write_bytes(b"the second\n")
    assert read_piece(file, end) == Piece("the second\n", 0, 11)


@pytest.mark.parametrize(("content", "lines", "begins"), [
    (b"", 3, 0), (b"\n", 1, 0), (b"one", 1, 0), (b"one\n", 1, 0), (b"one\ntwo", 1, 4), (b"one\ntwo\n", 1, 4),
    (b"one\ntwo\n", 2, 0), (b"one\ntwo\n", 9, 0), (b"one\ntwo\n", 0, 8), (b"one\n\n", 1, 4),
    (b"1\n" * PIECE_BYTES, PIECE_BYTES - 1, 2), (b"1\n" * PIECE_BYTES, PIECE_BYTES // 2, PIECE_BYTES),
    (b"x" * PIECE_BYTES + b"\n" + b"y" * PIECE_BYTES, 1, PIECE_BYTES + 1),
])
def test_the_last_lines_begin_behind_the_break_before_them(file: Path, content: bytes, lines: int, begins: int) -> None:
    told(file, content)
    assert tail_offset(file, lines) == begins


def test_last_lines_are_looked_for_in_a_bounded_part_of_the_log_and_begin_with_a_whole_character(file: Path) -> None:
    told(file, "आ".encode() * (TAIL_BYTES_MAX // 3 + 1_000))
    begins = tail_offset(file, 1)
    assert os.path.getsize(file) - TAIL_BYTES_MAX <= begins < os.path.getsize(file) - TAIL_BYTES_MAX + 3
    assert read_piece(file, begins).text.strip("आ") == ""


def test_a_job_without_a_log_has_no_last_lines(file: Path) -> None:
    assert tail_offset(file, 5) == 0


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_read(file: Path, kind: str) -> None:
    if kind == "link":
        (file.parent / "secret").write_text("token")
        file.symlink_to(file.parent / "secret")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    for read in (lambda: read_piece(file, 0), lambda: tail_offset(file, 1)):
        with pytest.raises(Unavailable, match=r"cannot read .*job\.log"):
            read()
