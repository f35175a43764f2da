"""Prints the part of requirements.lock that the light set, some extras, or some packages need.

    cut_lock.py                     the light set
    cut_lock.py model --without     what the extra `model` needs beside it
    cut_lock.py --only hatchling    a package and what it needs

It follows the lock's own notes of who asked for what ("# via"), so it needs nothing but Python, and no package index. A
package that only another extra's options asked for may be among them: it is one too many, never one too few.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*")


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml beside the light set")
    parser.add_argument("--only", nargs="+", default=[], metavar="PACKAGE", help="these, not the light set")
    parser.add_argument("--without", nargs="*", metavar="EXTRA", help="leave out what the light set and these hold")
    options = parser.parse_args()
    blocks = read((ROOT / "requirements.lock").read_text("utf-8"))
    chosen = closure(blocks, options.only or asked_for(options.extras))
    if options.without is not None:
        chosen -= closure(blocks, asked_for(options.without))
    print("".join(blocks[name] for name in sorted(chosen)), end="")


def asked_for(extras: Iterable[str]) -> set[str]:
    """Names that pyproject.toml asks for: the light set, and these extras. KeyError for one that it does not know."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    items = [*project["dependencies"], *(item for extra in extras for item in project["optional-dependencies"][extra])]
    return {normal(item) for item in items}


def read(text: str) -> dict[str, str]:
    """Name → its block of the lock: pin, hashes, and who asked for it. One that has two pins has both."""
    blocks: dict[str, str] = {}
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        if NAME.match(block):
            blocks[normal(block)] = blocks.get(normal(block), "") + block
    return blocks


def closure(blocks: dict[str, str], names: Iterable[str]) -> set[str]:
    """These packages and what they need, as far as the lock has it."""
    chosen = {normal(name) for name in names} & set(blocks)
    while more := {name for name, block in blocks.items() if name not in chosen and askers(block) & chosen}:
        chosen |= more
    return chosen


def askers(block: str) -> set[str]:
    """Who asked for a package: the names under "# via"."""
    notes = re.sub(r"^.*?# via", "", block, count=1, flags=re.DOTALL) if "# via" in block else ""
    return {normal(line.strip(" #")) for line in notes.splitlines() if NAME.match(line.strip(" #"))}


def normal(requirement: str) -> str:
    """A package's name as an index compares it."""
    found = NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


if __name__ == "__main__":
    main()
