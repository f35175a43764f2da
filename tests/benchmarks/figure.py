"""A measured figure and the bar that it has to pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

ROUNDS = 5

Result = TypeVar("Result")


@dataclass(frozen=True)
class Figure:
    """`value` against `bar`; `rounds` are the values of all rounds, `facts` what a reader needs to judge them."""

    name: str
    value: float
    relation: Literal[">=", "<="]
    bar: float
    rounds: Sequence[float]
    facts: Mapping[str, Any]

    def holds(self) -> bool:
        """Whether the bar is passed."""
        return self.value >= self.bar if self.relation == ">=" else self.value <= self.bar

    def line(self) -> dict[str, Any]:
        """As printed."""
        return {
            "name": self.name, "value": round(self.value, 4), "bar": f"{self.relation} {self.bar}",
            "holds": self.holds(), "rounds": [round(value, 4) for value in self.rounds], **self.facts,
        }


@dataclass(frozen=True)
class Measured:
    """A figure without a bar: what a calculation starts from."""

    name: str
    value: float
    rounds: Sequence[float]
    facts: Mapping[str, Any]

    def holds(self) -> bool:
        """Always: there is nothing to pass."""
        return True

    def line(self) -> dict[str, Any]:
        """As printed."""
        rounds = {"rounds": [_digits(value) for value in self.rounds]} if self.rounds else {}
        return {"name": self.name, "value": _digits(self.value), **rounds, **self.facts}


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def worst(name: str, rounds: Sequence[float], relation: Literal[">=", "<="], bar: float, **facts: Any) -> Figure:
    """The figure of several rounds: the one that is furthest from passing."""
    return Figure(name, min(rounds) if relation == ">=" else max(rounds), relation, bar, rounds, facts)


def interleaved(
    contenders: Mapping[str, Callable[[int], Result]], rounds: int = ROUNDS
) -> dict[str, list[Result]]:
    """Each contender once a round, in an order that turns; name → its results."""
    results: dict[str, list[Result]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            results[name].append(contenders[name](number))
    return results
