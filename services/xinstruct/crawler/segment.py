"""Main text into passages: a page that fits is one passage; a longer one is cut at its headings, never elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from xinstruct.crawler.extract import Block

PASSAGES_MAX = 500


@dataclass(frozen=True, slots=True)
class Passage:
    """A self-contained piece of a page. title: its first heading, "" when it has none; part of the blocks."""

    blocks: tuple[Block, ...]
    title: str = ""

    @property
    def text(self) -> str:
        """Paragraphs separated by one empty line; the items of one list are lines of one paragraph."""
        parts: list[str] = []
        for before, block in pairwise((None, *self.blocks)):
            assert block is not None
            listed = before is not None and before.item and block.item and not (before.level or block.level)
            parts += ["\n" if listed else "\n\n", block.text]
        return "".join(parts[1:])

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """Running text: neither headings nor items of lists; the items where there is nothing else."""
        running = tuple(block.text for block in self.blocks if not block.level and not block.item)
        return running or tuple(block.text for block in self.blocks if not block.level)


def passages(blocks: Sequence[Block], chars_max: int) -> list[Passage]:
    """The passages of a page, in order; one longer than `chars_max` has no heading left to be cut at."""
    found = _cut(tuple(blocks), chars_max)
    return [Passage(part, _title(part)) for part in found if _has_body(part)][:PASSAGES_MAX]


def _cut(blocks: tuple[Block, ...], chars_max: int) -> list[tuple[Block, ...]]:
    if len(Passage(blocks).text) <= chars_max:
        return [blocks]
    level = _cutting_level(blocks)
    if not level:
        return [blocks]
    edges = sorted({0, *_starts(blocks, level), len(blocks)})
    return [piece for begin, end in pairwise(edges) for piece in _cut(blocks[begin:end], chars_max)]


def _cutting_level(blocks: Sequence[Block]) -> int:
    """The highest heading level that cuts the blocks in two or more: one that stands there twice, or after other text.

    0 when no heading does.
    """
    levels = Counter(block.level for block in blocks if block.level)
    for level in sorted(levels):
        starts = _starts(blocks, level)
        if any(starts) and _body_pieces(blocks, starts) > 1:
            return level
    return 0


def _starts(blocks: Sequence[Block], level: int) -> list[int]:
    """Where sections of `level` or higher begin.

    A heading right under a higher one belongs to it, so the first part of a section keeps the section's own heading;
    but not under the title of the page, which is about all of its sections.
    """
    found = []
    for index, block in enumerate(blocks):
        before = blocks[index - 1].level if index else 0
        if 0 < block.level <= level and not 1 < before < block.level:
            found.append(index)
    return found


def _body_pieces(blocks: Sequence[Block], starts: Sequence[int]) -> int:
    """Pieces with running text when cut at `starts`."""
    edges = sorted({0, *starts, len(blocks)})
    return sum(_has_body(blocks[begin:end]) for begin, end in pairwise(edges))


def _has_body(blocks: Sequence[Block]) -> bool:
    return any(not block.level for block in blocks)


def _title(blocks: Sequence[Block]) -> str:
    return next((block.text for block in blocks if block.level), "")
