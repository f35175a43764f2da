"""requirements.lock as it stands: it pins what pyproject.toml asks for, with hashes, and names no host."""

from __future__ import annotations

import re
import tomllib
from functools import cache

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from architecture.source import ROOT

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z0-9,._-]+\])?==([^ ;\\]+)")


def test_every_dependency_is_pinned_to_a_version_that_it_allows() -> None:
    wrong = [item for item in _asked_for() if not _is_pinned(Requirement(item))]
    assert not wrong, f"run make lock: {wrong}"


def test_every_pin_has_a_hash() -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", _text(), flags=re.MULTILINE)
    wrong = [block.split()[0] for block in blocks if PIN.match(block) and "--hash=sha256:" not in block]
    assert not wrong, wrong


def test_the_lock_names_no_host() -> None:
    assert "://" not in _text()
    assert "--index-url" not in _text()


def test_one_generator_of_stubs_is_pinned_exactly() -> None:
    # Code from another grpcio-tools may not load on the locked protobuf.
    assert "grpcio-tools==1.81.1" in _asked_for()
    assert "mypy-protobuf==5.1.0" in _asked_for()


def _is_pinned(wanted: Requirement) -> bool:
    return any(version in wanted.specifier for version in _pins().get(canonicalize_name(wanted.name), []))


@cache
def _text() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


@cache
def _asked_for() -> tuple[str, ...]:
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = tree["project"]
    extras = [item for items in project["optional-dependencies"].values() for item in items]
    return (*project["dependencies"], *extras, *tree["build-system"]["requires"])


@cache
def _pins() -> dict[str, list[Version]]:
    """Name → versions; several where the lock tells platforms apart."""
    pins: dict[str, list[Version]] = {}
    for line in _text().splitlines():
        if found := PIN.match(line):
            pins.setdefault(canonicalize_name(found[1]), []).append(Version(found[2]))
    return pins
