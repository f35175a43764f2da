"""YAML into pydantic models: unknown keys refused, every mistake reported at once with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from xinstruct.spine.errors import Invalid, XinstructError
from xinstruct.spine.languages import language


class Settings(BaseModel):
    """Base of config models. Frozen; a key that no field knows is a mistake; a string below a field is its text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


SettingsT = TypeVar("SettingsT", bound=Settings)
Place = tuple[str | int, ...]
"""Keys from the root to a value."""
Mistake = tuple[Place, str]
"""Where, and what is wrong there."""


def _known(code: str) -> str:
    try:
        return language(code).code
    except XinstructError as error:
        raise ValueError(error.message) from error


LanguageTag = Annotated[str, AfterValidator(_known)]
"""BCP 47 tag of a target."""


def _nothing(_settings: Any) -> Iterable[Mistake]:
    return ()


def load(path: Path, model: type[SettingsT], check: Callable[[SettingsT], Iterable[Mistake]] = _nothing) -> SettingsT:
    """The settings in the file at `path`. Invalid names all mistakes, one a line: "file:line: key: expected …".

    `check` says what is wrong with keys that are each right by themselves: it is asked when all of them are.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Invalid(f"cannot read the configuration {path}: {error.strerror}; `xinstruct init` writes one") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    return parse(text, model, name=str(path), check=check)


def parse(
    text: str, model: type[SettingsT], *, name: str = "<config>",
    check: Callable[[SettingsT], Iterable[Mistake]] = _nothing,
) -> SettingsT:
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
        settings = model.model_validate(_plain(tree))
        mistakes = list(check(settings))
    except ValidationError as error:
        mistakes = [_mistake(item) for item in error.errors(include_url=False)]
    if mistakes:
        raise Invalid("\n".join(f"{name}:{_line_of(tree, place)}: {in_words(place, what)}" for place, what in mistakes))
    return settings


def in_words(place: Place, what: str) -> str:
    """A mistake without file and line: "key: what is wrong"."""
    return f"{'.'.join(str(part) for part in place)}: {what}"


def _mistake(item: Any) -> Mistake:
    # pydantic says "[key]" where a mapping's key is wrong, not its value.
    place = tuple(part for part in item["loc"] if isinstance(part, str | int) and part != "[key]")
    if item["type"] == "extra_forbidden":
        return place, "no such key; `xinstruct config schema` lists the keys"
    if item["type"] == "missing":
        return place, "missing, and it has no default"
    return place, f"{item['msg'].removeprefix('Value error, ')}, found {str(item['input'])[:60]!r}"


def _line_of(tree: Any, place: Place) -> int:
    """Line (from 1) of the innermost part of `place` that stands in the file."""
    line = 1
    for part in place:
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
