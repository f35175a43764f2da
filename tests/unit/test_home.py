"""The data folder: one writer, one format."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xinstruct.home import Home
from xinstruct.spine.errors import Conflict, Invalid


def test_a_second_writer_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    first = Home(tmp_path / "home")
    with pytest.raises(Conflict, match=rf"in use by process {os.getpid()}"):
        Home(tmp_path / "home")
    first.close()
    Home(tmp_path / "home").close()


def test_a_folder_of_a_newer_format_is_refused_with_what_to_do(tmp_path: Path) -> None:
    Home(tmp_path).close()
    (tmp_path / "FORMAT").write_text("99\n")
    with pytest.raises(Invalid, match="newer xinstruct"):
        Home(tmp_path)


def test_a_folder_with_a_format_that_is_no_number_is_refused(tmp_path: Path) -> None:
    (tmp_path / "FORMAT").write_text("banana")
    with pytest.raises(Invalid, match="banana"):
        Home(tmp_path)
