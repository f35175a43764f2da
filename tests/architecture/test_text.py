"""Every committed file: no host of a package registry, no path of somebody's machine, no text left from elsewhere."""

from __future__ import annotations

import os
import re
import stat
from functools import cache

from architecture.source import CODE, ROOT, tracked_files

# Written in pieces, so that this file does not hold what it looks for.
REGISTRIES = tuple(
    f"{name}.{end}"
    for name, end in (
        ("pypi", "org"), ("pythonhosted", "org"), ("registry.npmjs", "org"), ("registry.yarnpkg", "com"),
        ("repo.maven.apache", "org"), ("repo1.maven", "org"), ("proxy.golang", "org"), ("crates", "io"),
        ("rubygems", "org"), ("docker", "io"), ("ghcr", "io"), ("download.pytorch", "org"),
    )
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(" + "|".join(("wo" "rk", "ro" "ot", "ho" "me", "Us" "ers")) + r")/[\w.]")
LEFT_OVER_WORDS = (
    "TO" "DO", "FIX" "ME", "XX" "X", "lorem " "ipsum", "cookie" "cutter", "your-" "project", "change" "me",
)
LEFT_OVERS = re.compile(rf"\b({'|'.join(LEFT_OVER_WORDS)})\b", re.IGNORECASE)
BINARY_SUFFIXES = {".bin", ".safetensors", ".woff2", ".ttf", ".otf", ".png", ".gz", ".parquet", ".model"}
FILE_BYTES_MAX = 8 * 1024 * 1024


def test_no_tracked_file_names_the_host_of_a_package_registry() -> None:
    assert not (wrong := [place for place, line in _lines() if any(host in line for host in REGISTRIES)]), wrong


def test_no_tracked_file_holds_a_path_of_one_machine() -> None:
    assert not (wrong := [place for place, line in _lines() if MACHINE_PATHS.search(line)]), wrong


def test_no_tracked_file_holds_text_left_from_elsewhere_or_for_later() -> None:
    # Words of the ten languages are data: what looks like a left-over there is a word.
    wrong = [place for place, line in _lines() if LEFT_OVERS.search(line) and "languages" not in place]
    assert not wrong, wrong


def test_no_tracked_file_is_bigger_than_eight_mebibytes() -> None:
    wrong = [str(path.relative_to(ROOT)) for path in tracked_files() if path.stat().st_size > FILE_BYTES_MAX]
    assert not wrong, wrong


def test_the_namespace_package_has_two_roots_and_no_init_file() -> None:
    assert not (CODE / "__init__.py").exists()
    assert not (ROOT / "protos" / "xinstruct" / "__init__.py").exists()


def test_what_is_started_by_its_path_can_be_started() -> None:
    scripts = [path for path in tracked_files() if path.suffix == ".sh" or path == ROOT / ".ci" / "run"]
    wrong = [str(path.relative_to(ROOT)) for path in scripts if not os.access(path, os.X_OK)]
    assert not wrong, wrong
    assert all(stat.S_ISREG(path.stat().st_mode) for path in scripts)


@cache
def _lines() -> tuple[tuple[str, str], ...]:
    """("path:line", text) of every text file."""
    return tuple(
        (f"{path.relative_to(ROOT)}:{number}", line)
        for path in tracked_files()
        if path.suffix not in BINARY_SUFFIXES
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
    )

