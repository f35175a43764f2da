"""Rating data for evaluators: gold pairs, and pairs that are wrong in ways that matter. Pure: the seed is an argument.

best        the pair as its source gave it, and drafts of the generator that equal it
reasonable  drafts of the generator that differ from it; its instruction with a damaged name, a near neighbour's
            wording, or an item of its enumeration lost or added; its response cut short, with foreign lines, or with a
            paragraph lost
worst       another pair's response of the same or of another language; looped output

Best ones weigh as much as all others. A gold pair that is itself native text, never translated, is what keeps an
evaluator from learning that clumsy text is good text; bring such seeds (docs/method.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from xinstruct.spine.languages import language
from xinstruct.spine.prompts import LABELS, Family, evaluator_prompt
from xinstruct.training.data import Example, is_right
from xinstruct.training.domain import PairRow

BEST, REASONABLE, WORST = range(3)
NAME_CHARS_MIN = 3
NEIGHBOURS = 8
WORDINGS_MAX = 400
"""Wordings that neighbours are searched among: the search is quadratic."""
_WORD = re.compile(r"[^\s,.;:!?()\"“”«»]+")
_ENUMERATION = re.compile(r"([^,]+, \S+ )(.+?)([.?!]?)")
_SLOT = "\0"


@dataclass(frozen=True, slots=True)
class Rated:
    """A pair and its label: an index of LABELS."""

    pair: PairRow
    label: int


def evaluator_examples(
    rows: Sequence[PairRow], drafts: Mapping[str, Sequence[str]], family: Family, seed: int, wrong_each: int = 1
) -> list[Example]:
    """A best example and `wrong_each` wrong ones of each row, the best one first and as heavy as they are together.

    `drafts`: row id → what a generator wrote for its response.
    """
    shelf = _Shelf.of(rows)
    examples = []
    for row in rows:
        draw = random.Random(f"{seed} {row.id}")
        wrong = _wrong(row, drafts.get(row.id, ()), shelf, draw, count=wrong_each)
        for number, rated in enumerate([Rated(row, BEST), *wrong]):
            pair = rated.pair
            prompt = evaluator_prompt(pair.instruction, pair.response, language(pair.language).english_name, family)
            weight = 1.0 if number else float(len(wrong))
            examples.append(Example(f"{row.id} {number}", prompt, LABELS[rated.label], ends=False, weight=weight))
    return examples


def _wrong(row: PairRow, drafts: Iterable[str], shelf: _Shelf, draw: random.Random, *, count: int) -> list[Rated]:
    """One of the drafts that differ, if there are any, and the pair damaged in several ways, none of them twice."""
    different = [draft for draft in drafts if not is_right(draft, row.instruction)]
    found = [Rated(replace(row, instruction=draw.choice(different)), REASONABLE)] if different else []
    while len(found) < count:
        found.append(_damaged(row, shelf, draw))
    return list(dict.fromkeys(found))


def _damaged(row: PairRow, shelf: _Shelf, draw: random.Random) -> Rated:
    """The pair, wrong in one way; ways that leave it as it is are tried again with another."""
    ways, weights = zip(*_WAYS, strict=True)
    for _ in range(8):
        way, label = draw.choices(ways, weights)[0]
        damaged = way(row, shelf, draw)
        if (damaged.instruction, damaged.response) != (row.instruction, row.response):
            return Rated(damaged, label)
    return Rated(_looped(row, shelf, draw), WORST)


@dataclass(frozen=True)
class _Shelf:
    """What damage is made of: other rows by language, names and wordings."""

    rows: Sequence[PairRow]
    by_language: Mapping[str, Sequence[PairRow]]
    names: Mapping[str, str]
    wordings: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, rows: Sequence[PairRow]) -> _Shelf:
        by_language: dict[str, list[PairRow]] = {}
        for row in rows:
            by_language.setdefault(row.language, []).append(row)
        names = {row.id: name_in(row.instruction, row.response) for row in rows}
        wordings = sorted({_wording(row.instruction, names[row.id]) for row in rows})[:WORDINGS_MAX]
        return cls(rows, by_language, names, {one: _nearest(one, wordings) for one in wordings})


def name_in(instruction: str, response: str) -> str:
    """The longest run of words of the instruction that stands in the response too: what it is about; "" when none."""
    words = list(_WORD.finditer(instruction))
    best = ""
    for first in range(len(words)):
        for last in range(first, min(first + 5, len(words))):
            run = instruction[words[first].start() : words[last].end()]
            if len(run) > max(len(best), NAME_CHARS_MIN - 1) and run in response:
                best = run
    return best


def _wording(instruction: str, name: str) -> str:
    return instruction.replace(name, _SLOT) if name else instruction


def _nearest(wording: str, wordings: Sequence[str]) -> list[str]:
    """The most similar other wordings; those of the very same words say the same and do not count."""
    words = set(_WORD.findall(wording))

    def distance(other: str) -> float:
        others = set(_WORD.findall(other))
        return 1 - len(words & others) / max(1, len(words | others))

    different = [other for other in wordings if set(_WORD.findall(other)) != words]
    return sorted(different, key=lambda other: (distance(other), other))[:NEIGHBOURS]


Way = Callable[[PairRow, _Shelf, random.Random], PairRow]


def _other_wording(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """The name stays, what is asked of it changes a little: another aspect, another kind of text."""
    near = shelf.wordings.get(_wording(row.instruction, shelf.names[row.id]), ())
    return replace(row, instruction=draw.choice(near).replace(_SLOT, shelf.names[row.id])) if near else row


def _item_lost(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """One item of an enumeration less: the instruction asks for less than the response gives."""
    head, items, end = _enumeration(row.instruction)
    if len(items) < 2:
        return row
    del items[draw.randrange(len(items))]
    return replace(row, instruction=f"{head}{', '.join(items)}{end}")


def _item_added(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """One item more, of the enumeration of a near wording."""
    near = shelf.wordings.get(_wording(row.instruction, shelf.names[row.id]), ())
    head, items, end = _enumeration(row.instruction)
    others = [item for wording in near for item in _enumeration(wording)[1] if item not in items and _SLOT not in item]
    if not items or not others:
        return row
    items.insert(draw.randint(0, len(items)), draw.choice(others))
    return replace(row, instruction=f"{head}{', '.join(items)}{end}")


def _enumeration(instruction: str) -> tuple[str, list[str], str]:
    """What stands before the items, the items, what stands after them; no items when there are no commas.

    The first item ends at the second comma, and starts after the first word behind the first one ("covering", "with").
    """
    match = _ENUMERATION.fullmatch(instruction)
    return (match[1], match[2].split(", "), match[3]) if match else (instruction, [], "")


def _misspelt_name(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """One or two letters of the name wrong: what a small generator gets wrong most."""
    name = shelf.names[row.id]
    if not name:
        return row
    letters = list(name)
    for _ in range(draw.choice((1, 1, 2))):
        place = draw.randrange(len(letters))
        way = draw.randrange(3)
        if way == 0:
            letters[place] = draw.choice([letter for letter in row.response if letter.isalpha()] or ["a"])
        elif way == 1 and len(letters) > NAME_CHARS_MIN:
            del letters[place]
        else:
            letters.insert(place, letters[place])
    return replace(row, instruction=row.instruction.replace(name, "".join(letters)))


def _grafted_name(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """The start of this name and the end of another."""
    name, other = shelf.names[row.id], shelf.names[draw.choice(shelf.by_language[row.language]).id]
    if not name or not other:
        return row
    cut = draw.randint(1, len(name))
    return replace(row, instruction=row.instruction.replace(name, name[:cut] + other[len(other) - len(other) // 2 :]))


def _other_name(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """A name of another pair, or another word of this response."""
    name = shelf.names[row.id]
    words = [word for word in _WORD.findall(row.response) if abs(len(word) - len(name)) <= 3]
    other = shelf.names[draw.choice(shelf.by_language[row.language]).id]
    if words and draw.random() < 0.5:
        other = draw.choice(words)
    return replace(row, instruction=row.instruction.replace(name, other)) if name and other else row


def _cut(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    return replace(row, response=row.response[: int(len(row.response) * draw.uniform(0.4, 0.7))].rstrip())


def _paragraph_lost(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    parts = row.response.split("\n\n")
    if len(parts) < 3:
        return row
    del parts[draw.randrange(1, len(parts))]
    return replace(row, response="\n\n".join(parts))


def _foreign_lines(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    """Headings of other texts before or after, as a page's menu and its related links leave them."""
    others = draw.choices(shelf.by_language[row.language], k=draw.randint(3, 6))
    lines = [other.response.split("\n", 1)[0][:60] for other in others if other.id != row.id]
    parts = [row.response, *lines] if draw.random() < 0.6 else [*lines, row.response]
    return replace(row, response="\n\n".join(parts))


def _other_response(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    return replace(row, response=draw.choice(shelf.by_language[row.language]).response)


def _other_language(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    other = draw.choice(shelf.rows)
    return replace(row, response=other.response) if other.language != row.language else row


def _looped(row: PairRow, shelf: _Shelf, draw: random.Random) -> PairRow:
    words = row.response.split()
    return replace(row, response=" ".join(words[: draw.randint(3, 8)] * 12))


_WAYS: tuple[tuple[tuple[Way, int], float], ...] = (
    ((_other_wording, REASONABLE), 3.0),
    ((_item_lost, REASONABLE), 3.0),
    ((_item_added, REASONABLE), 1.5),
    ((_misspelt_name, REASONABLE), 3.0),
    ((_grafted_name, REASONABLE), 2.0),
    ((_other_name, REASONABLE), 2.0),
    ((_cut, REASONABLE), 0.7),
    ((_paragraph_lost, REASONABLE), 0.4),
    ((_foreign_lines, REASONABLE), 1.0),
    ((_other_response, WORST), 1.0),
    ((_other_language, WORST), 0.5),
    ((_looped, WORST), 0.5),
)
