"""What the base model drafts for a document before any tuning, beside what the tuned generator drafts for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xinstruct.cli.report.gather import Document, Pair

TEXT_CHARS_MAX = 90
DRAFT_CHARS_MAX = 160
ROWS_MIN = 10


@dataclass(frozen=True, slots=True)
class Drafts:
    """One document with both drafts, each cut for a table.

    `url` is what a takedown finds the row by: a report must not show text of a page that it does not name.
    """

    url: str
    language: str
    text: str
    before: str
    """By the untuned base; empty: it wrote nothing."""
    after: str
    """By the tuned generator; empty: it has no draft that passed the guards."""


def before_and_after(untuned: Sequence[tuple[Document, str]], pairs: Iterable[Pair]) -> list[Drafts]:
    """Every nth of the documents, so that ROWS_MIN or more, but not twice as many, are left: with the base's draft and
    the one that the catalog holds.

    Of several pairs of a document the published one counts, then a kept one, then the smallest id.
    """
    by_document: dict[str, str] = {}
    for pair in sorted(pairs, key=lambda pair: (not pair.published, not pair.kept, pair.pair_id)):
        by_document.setdefault(pair.document_id, pair.instruction)
    return [
        Drafts(
            document.url,
            document.language,
            _cut(" · ".join(filter(None, document.text.splitlines())), TEXT_CHARS_MAX),
            _cut(draft, DRAFT_CHARS_MAX),
            _cut(by_document.get(document.document_id, ""), DRAFT_CHARS_MAX),
        )
        for document, draft in untuned[:: max(len(untuned) // ROWS_MIN, 1)]
    ]


def _cut(text: str, chars_max: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= chars_max else flat[: chars_max - 1] + "…"
