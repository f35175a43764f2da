"""From the pairs of a snapshot to the examples that a role learns from. Pure: the seed is an argument."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from xinstruct.spine.languages import language
from xinstruct.spine.prompts import Family, generator_answer, generator_prompt
from xinstruct.training.domain import PairRow


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and what should follow it; only the answer and the end after it are learned."""

    id: str
    prompt: str
    answer: str
    ends: bool
    """Whether the end token follows the answer; labels are read from one token and need none."""
    weight: float = 1.0
    """How much its loss counts beside that of the others about the same text."""


def split(rows: Sequence[PairRow], held_out_ratio: float) -> tuple[list[PairRow], list[PairRow]]:
    """(to learn from, held out): the share is drawn from seed pairs by their id, so a row always falls on one side."""
    held = {row.id for row in rows if row.source == "seed" and _share(row.id) < held_out_ratio}
    return [row for row in rows if row.id not in held], [row for row in rows if row.id in held]


def sample_of(rows: Sequence[PairRow], count: int) -> list[PairRow]:
    """At most `count` rows, drawn by their ids, in the order given."""
    drawn = {row.id for row in sorted(rows, key=lambda row: _share(row.id))[:count]}
    return [row for row in rows if row.id in drawn]


def generator_examples(rows: Sequence[PairRow], family: Family) -> list[Example]:
    """Text → instruction, an example a pair."""
    return [
        Example(row.id, generator_prompt(row.response, name_of(row.language), family),
                generator_answer(row.instruction, family), ends=True)
        for row in rows
    ]


def is_right(draft: str, instruction: str) -> bool:
    """Whether the draft is the instruction, word for word."""
    return draft.split() == instruction.split()


def name_of(code: str) -> str:
    """English name of a language."""
    return language(code).english_name


def _share(identifier: str) -> float:
    """A number in [0, 1) that follows from the id."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=4).digest(), "big") / 2**32
