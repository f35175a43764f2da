"""Which values a template reads, also by a field of what `with` or a variable stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str, ...]

KNOWN: dict[str, Path | None] = {
    "$v": (), "$p": ("networkPolicy",), "$s": ("defaults",), "$m": ("defaults",), "$j": ("trainingJobs",),
    "$t": ("tests",),
}
"""Variables that mean the same in all templates: what a service or model says stands in the defaults, too."""
TAKES: dict[str, Path] = {"$m": ("defaults",)}
"""What a definition takes, by the last words of the comment before it, → what its dot is."""
_ACTION = re.compile(r"\{\{-?\s*(/\*.*?\*/|.*?)\s*-?\}\}", re.DOTALL)
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`')
_FIELD = re.compile(r"(?<![\w)$.])(\$\w*)?((?:\.\w+)+)")
_ONE_FIELD = re.compile(r"\(?((?:\$\w*)?(?:\.\w+)+)(?: \| default dict)?\)?")
_SET = re.compile(r"(\$\w+) :?= (.*)", re.DOTALL)


def values_read(text: str) -> Iterator[Path]:
    """The path of every value that the template reads, as far as one can tell without running it: not those of maps
    that come out of a function."""
    variables: dict[str, Path | None] = dict(KNOWN)
    # What the dot is in each block that is open: None where that is not known. A template begins with everything.
    dots: list[Path | None] = [None]
    takes = ""
    for action in (found[1] for found in _ACTION.finditer(text)):
        if action.startswith("/*"):
            takes = (re.findall(r"Takes (\$\w*)\.", action) or [""])[-1]
            continue
        bare = _TEXT.sub('""', action)
        yield from _fields(bare, variables, dots[-1])
        word, _, rest = bare.partition(" ")
        if word == "end":
            dots.pop()
        elif word == "else":
            dots[-1] = dots[-2] if len(dots) > 1 else None
        elif word == "define":
            dots.append(TAKES.get(takes))
        elif word == "with":
            dots.append(_one(rest, variables, dots[-1]))
        elif word == "range":
            dots.append(None)
        elif word == "if":
            dots.append(dots[-1])
        elif (made := _SET.fullmatch(bare)) and made[1] not in KNOWN:
            variables[made[1]] = _one(made[2], variables, dots[-1])


def _fields(action: str, variables: dict[str, Path | None], dot: Path | None) -> Iterator[Path]:
    for variable, fields in _FIELD.findall(action):
        path = _resolved(variable, fields, variables, dot)
        if path:
            yield path


def _one(expression: str, variables: dict[str, Path | None], dot: Path | None) -> Path | None:
    found = _ONE_FIELD.fullmatch(expression.strip())
    if not found:
        return None
    (parts,) = _FIELD.findall(found[1])
    return _resolved(parts[0], parts[1], variables, dot)


def _resolved(variable: str, fields: str, variables: dict[str, Path | None], dot: Path | None) -> Path | None:
    names = tuple(fields.strip(".").split("."))
    if names[0] == "Values":
        return names[1:]
    start = variables.get(variable) if variable else dot
    return None if start is None or names[0][0].isupper() else (*start, *names)
