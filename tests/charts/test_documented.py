"""What is said of a value: what it counts, why its default is what it is, and what to change with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from charts.rendering import CHARTS, OurChart, Values, read

both = pytest.mark.parametrize("of", CHARTS, ids=lambda of: of.name)

SIZE = r"\d+(?:Mi|Gi)"
COUNTED = (
    r"\b(hours|minutes|seconds|MiB|percent|share|size|volume|requests|limits|records|pods|connections|ports|user|group"
    r"|country)\b"
)
"""A unit, or what there are so many of; of a size, which brings its unit, what has it."""
WORDS = {"1": "one"}


@cache
def meanings(of: OurChart) -> dict[str, str]:
    """Path → what the README's table says, which is the comment in values.yaml."""
    text = (of.folder / "README.md").read_text("utf-8")
    return dict(re.findall(r"^\| `([\w.-]+)` \| .*? \| (.*) \|$", text, re.MULTILINE))


def figures(values: Values, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """(dotted path, figures of its default) of each number, list of numbers, size, and `resources`."""
    for key, value in values.items():
        at = f"{path}{key}"
        if key == "resources":
            yield at, [value[part]["memory"] for part in ("requests", "limits")]
        elif isinstance(value, dict):
            yield from figures(value, f"{at}.")
        elif isinstance(value, list):
            if numbers := [str(item) for item in value if isinstance(item, int)]:
                yield at, numbers
        elif not isinstance(value, bool) and (isinstance(value, int | float) or re.fullmatch(SIZE, str(value))):
            yield at, [str(value)]


def explained(of: OurChart, path: str) -> str:
    """What is said of a value; in a service's or model's own values of the service or the model as a whole."""
    found = meanings(of)
    return found.get(path) or found[path.rpartition(".")[0]]


def unexplained(meaning: str, wanted: list[str]) -> list[str]:
    """Those of a default's figures that no clause after the first names: the first says what the value is."""
    _, _, rest = re.sub(r"[.;:,]+ ", "\n", meaning, count=1).partition("\n")
    said = [*re.findall(r"(?<![\w.-])\d[\d.]*(?:Mi|Gi)?(?![\w-])", rest), *re.findall(r"\w+", rest.lower())]
    said = [word.rstrip(".") for word in said]
    return [figure for figure in wanted if figure not in said and WORDS.get(figure) not in said]


@both
def test_a_number_or_a_size_says_why_its_default_is_so_much(of: OurChart) -> None:
    found = list(figures(read(of.folder / "values.yaml")))
    assert len(found) > 15
    wrong = [(path, missing) for path, wanted in found if (missing := unexplained(explained(of, path), wanted))]
    assert not wrong, wrong


@both
def test_a_number_says_first_what_it_counts(of: OurChart) -> None:
    paths = [path for path, _ in figures(read(of.folder / "values.yaml")) if path in meanings(of)]
    first = {path: re.split(r"[.;] ", meanings(of)[path])[0] for path in paths}
    wrong = [path for path, clause in first.items() if not re.search(COUNTED, clause, re.IGNORECASE)]
    assert not wrong, wrong


@both
def test_a_text_that_is_empty_by_default_says_what_that_means(of: OurChart) -> None:
    def empty(values: Values, path: str = "") -> Iterator[str]:
        for key, value in values.items():
            if isinstance(value, dict):
                yield from empty(value, f"{path}{key}.")
            elif value == "":
                yield f"{path}{key}"

    found = list(empty(read(of.folder / "values.yaml")))
    assert len(found) > 15
    wrong = [path for path in found if not re.search(r"\bEmpty\b|\bRequired\b", explained(of, path))]
    assert not wrong, wrong


@both
def test_a_value_that_limits_or_places_something_says_more_than_what_it_is(of: OurChart) -> None:
    # What to change with it, or when: a sentence or clause of its own.
    asks = r"([a-z]S|[sS]ize|Max|Min|Percent|Minutes|Hours|Mib|resources|nodeSelector|tolerations|affinity)$"
    found = {path: meaning for path, meaning in meanings(of).items() if re.search(asks, path)}
    assert len(found) > 10
    assert not [path for path, meaning in found.items() if not re.search(r"[.;:] ", meaning)]


@pytest.mark.parametrize(("meaning", "wanted", "missing"), [
    ("Connections that it takes. A pod holds 15 at most.", ["200"], ["200"]),
    ("Connections that it takes. A pod holds 15 at most: 200 are for 13.", ["200"], []),
    ("Up to 200 connections that it takes. A pod holds 15.", ["200"], ["200"]),
    ("Pods at once. One, so that the others go on.", ["1"], []),
    ("Its ports. 443 is AWS's.", ["443", "9000"], ["9000"]),
    ("Requests and limits. 512Mi and 1.5Gi.", ["512Mi", "1Gi"], ["1Gi"]),
    ("Share. It stops at 0.15: 10.1 is more.", ["0.1"], ["0.1"]),
    ("Share. Keep it below 0.1.", ["0.1"], []),
])
def test_a_default_that_is_only_stated_is_not_explained(meaning: str, wanted: list[str], missing: list[Any]) -> None:
    assert unexplained(meaning, wanted) == missing
