"""requirements.lock as it stands: it pins what pyproject.toml asks for, with hashes, and names no host."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from functools import cache
from typing import Any

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
    extras = [item for items in _project()["optional-dependencies"].values() for item in items]
    return (*_project()["dependencies"], *extras, *_pyproject()["build-system"]["requires"])


def _project() -> dict[str, Any]:
    return dict(_pyproject()["project"])


@cache
def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def _pins() -> dict[str, list[Version]]:
    """Name → versions; several where the lock tells platforms apart."""
    pins: dict[str, list[Version]] = {}
    for line in _text().splitlines():
        if found := PIN.match(line):
            pins.setdefault(canonicalize_name(found[1]), []).append(Version(found[2]))
    return pins


def test_the_light_cut_of_the_lock_holds_what_the_light_set_needs_and_no_torch() -> None:
    light = _cut()
    assert {canonicalize_name(Requirement(item).name) for item in _project()["dependencies"]} <= light
    assert not light & {"torch", "transformers", "pytest", "uv"}
    assert not [name for name in light if name.startswith(("nvidia-", "triton"))]


def test_both_cuts_of_the_model_image_together_hold_what_it_needs_and_nothing_twice() -> None:
    light, more = _cut(), _cut("model", "--without")
    assert {canonicalize_name(Requirement(item).name) for item in _project()["optional-dependencies"]["model"]} <= more
    assert not light & more


def _cut(*arguments: str) -> set[str]:
    """Names in what tools/cut_lock.py prints, each with a hash."""
    command = [sys.executable, ROOT / "tools" / "cut_lock.py", *arguments]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    blocks = [block for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE) if block]
    assert all("--hash=sha256:" in block for block in blocks)
    return {canonicalize_name(found[1]) for block in blocks if (found := PIN.match(block))}
