"""The template notation of the language packs, compiled once and rendered many times.

    [a|b|c]     one of the alternatives, drawn anew each time; they nest, and one may be empty
    <a|b>       a when the document's subject is a man, b when a woman
    {slot}      a fact of the subject: its name, a number, a word, the name of a related entity
    {slot:form} the same with a suffix (inflection.py);  {slot.form} the parallel word list (languages/__init__.py)

The brackets have no escape: no text of a pack needs them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_TOKEN = re.compile(r"[\[\]<>|]|\{[^{}]*\}|[^\[\]<>|{}]+")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for a fact."""

    name: str


@dataclass(frozen=True, slots=True)
class Alternatives:
    """A place where one of several templates is drawn."""

    options: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class ByGender:
    """A place where the subject's gender decides."""

    man: Template
    woman: Template


Part = str | Slot | Alternatives | ByGender
Template = tuple[Part, ...]


def render(template: Template, rng: random.Random, fact: Callable[[str], str], *, woman: bool) -> str:
    """Return the template's text with drawn alternatives and the facts filled in."""
    pieces: list[str] = []
    _render(template, rng, fact, woman, pieces)
    return "".join(pieces)


def _render(template: Template, rng: random.Random, fact: Callable[[str], str], woman: bool, pieces: list[str]) -> None:
    for part in template:
        if isinstance(part, str):
            pieces.append(part)
        elif isinstance(part, Slot):
            pieces.append(fact(part.name))
        elif isinstance(part, Alternatives):
            _render(part.options[int(rng.random() * len(part.options))], rng, fact, woman, pieces)
        else:
            _render(part.woman if woman else part.man, rng, fact, woman, pieces)


@cache
def compile_template(source: str) -> Template:
    """Return the compiled template; ValueError names the source whose brackets do not match."""
    tokens = _TOKEN.findall(source)
    if "".join(tokens) != source:
        raise ValueError(f"stray brace in template: {source!r}")
    options, end = _parse(tokens, 0, "", source)
    if end != len(tokens) or len(options) != 1:
        raise ValueError(f"unbalanced template: {source!r}")
    return options[0]


def _parse(tokens: list[str], start: int, closer: str, source: str) -> tuple[list[Template], int]:
    """Return the alternatives up to the closer, and the position after it."""
    options: list[Template] = []
    parts: list[Part] = []
    position = start
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if token == closer:
            return [*options, tuple(parts)], position
        if token == "[":
            inner, position = _parse(tokens, position, "]", source)
            parts.append(Alternatives(tuple(inner)))
        elif token == "<":
            inner, position = _parse(tokens, position, ">", source)
            if len(inner) != 2:
                raise ValueError(f"<man|woman> wants two sides: {source!r}")
            parts.append(ByGender(*inner))
        elif token == "|" and closer:
            options.append(tuple(parts))
            parts = []
        elif token[0] == "{":
            parts.append(Slot(token[1:-1]))
        elif token in "]>|":
            raise ValueError(f"unexpected {token!r} in template: {source!r}")
        else:
            parts.append(token)
    if closer:
        raise ValueError(f"missing {closer!r} in template: {source!r}")
    return [*options, tuple(parts)], position


def slots_of(template: Template) -> set[str]:
    """Return the names of all slots that some rendering of the template may fill."""
    found: set[str] = set()
    for part in template:
        if isinstance(part, Slot):
            found.add(part.name)
        elif isinstance(part, Alternatives):
            found.update(*(slots_of(option) for option in part.options))
        elif isinstance(part, ByGender):
            found |= slots_of(part.man) | slots_of(part.woman)
    return found
