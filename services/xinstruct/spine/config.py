"""YAML into pydantic models: unknown keys refused, every mistake reported at once with its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from xinstruct.spine.errors import Invalid


class Settings(BaseModel):
    """Base of config models. Frozen; a key that no field knows is a mistake; a string below a field is its text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(path: Path, model: type[SettingsT]) -> SettingsT:
    """The settings in the file at `path`. Invalid names all mistakes, one a line: "file:line: key: expected …"."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"cannot read the configuration {path}: {error.strerror}; `xinstruct init` writes one") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    return parse(text, model, name=str(path))


def parse(text: str, model: type[SettingsT], *, name: str = "<config>") -> SettingsT:
    """As load, from a string; `name` stands for the file in messages."""
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Invalid(f"{name}:{line}: not YAML: {error.problem}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise Invalid(f"{name}:1: expected keys and values, found {type(tree).__name__}")
    try:
        return model.model_validate(_plain(tree))
    except ValidationError as error:
        lines = [_sentence(item, tree, name) for item in error.errors(include_url=False)]
        raise Invalid("\n".join(lines)) from error


def _sentence(item: Any, tree: Any, name: str) -> str:
    location = [part for part in item["loc"] if isinstance(part, str | int)]
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        message = "no such key; `xinstruct config schema` lists the keys"
    elif item["type"] == "missing":
        message = "missing, and it has no default"
    else:
        message = f"{item['msg']}, found {str(item['input'])[:60]!r}"
    return f"{name}:{_line_of(tree, location)}: {key}: {message}"


def _line_of(tree: Any, location: Sequence[str | int]) -> int:
    """Line (from 1) of the innermost part of `location` that stands in the file."""
    line = 1
    for part in location:
        marks = getattr(tree, "lc", None)
        if marks is None or marks.data is None or part not in marks.data:
            break
        line = marks.data[part][0] + 1
        tree = tree[part]
    return line


def _plain(tree: Any) -> Any:
    """The tree without the YAML library's own types."""
    if isinstance(tree, dict):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    for kind in (bool, int, float, str):
        if isinstance(tree, kind):
            return kind(tree)
    return tree
