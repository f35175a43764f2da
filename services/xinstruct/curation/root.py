"""What derives from a takedown's target: what the catalog holds of it, and what an edit or an earlier takedown erased.

Releases, snapshots and reports may hold what the catalog has forgotten, so the ids of both are needed. Not covered: a
catalog that was read again from a compacted log knows nothing of what had been erased before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xinstruct.curation.tables import DOCUMENTS, ERASURES, PAGES, PAIRS, Connection
from xinstruct.spine.messages import TakedownKind
from xinstruct.spine.sql import chunks
from xinstruct.urls import ROW_MARK

FACTS = ("page_id", "document_id", "url", "host", "text_digest", "body_digest")
"""Columns of ERASURES that say what a subject was; what its own table has not is empty."""


@dataclass(frozen=True)
class Root:
    """Ids of everything that derives from a target, and `facts`: id → subject_id and FACTS."""

    pages: frozenset[str]
    documents: frozenset[str]
    pairs: frozenset[str]
    facts: Mapping[str, Mapping[str, Any]]

    def values(self, name: str) -> set[str]:
        """What `name` (one of FACTS) is in all of them, without the empty."""
        return {str(row[name]) for row in self.facts.values()} - {""}


def find_root(connection: Connection, kind: TakedownKind, target: str) -> Root:
    """Everything that derives from `target` (domain.normal_target). A document takes its pairs and equal texts along.

    Equal texts are those of the same page: it may have been fetched, or cut, again since.
    """
    pages: set[str] = set()
    documents: set[str] = set()
    if kind is TakedownKind.DOCUMENT:
        columns = (_KNOWN.c.subject_id, _KNOWN.c.page_id, _KNOWN.c.document_id)
        hits = [row for column in columns for row in _facts(connection, column == target)]  # an OR reads all pages
        pages = {target} & {row["page_id"] for row in hits}
        documents = {row["document_id"] for row in hits} - {""}
        documents |= _equal_texts(connection, documents)
    else:
        pages = {row["page_id"] for row in _facts(connection, _is_under(kind, target))} - {""}
    rows = [row for part in chunks(pages) for row in _facts(connection, _KNOWN.c.page_id.in_(part))]
    rows += [row for part in chunks(documents) for row in _facts(connection, _KNOWN.c.document_id.in_(part))]
    documents |= {row["document_id"] for row in rows} - {""}
    found = {row["subject_id"]: row for row in rows}
    for row in rows:
        for above in _above(row):
            if above["subject_id"] in pages | documents:
                found.setdefault(above["subject_id"], above)
    return Root(frozenset(pages), frozenset(documents), frozenset(found.keys() - pages - documents), found)


def facts_of(row: Mapping[str, Any], subject_id: str) -> dict[str, Any]:
    """subject_id and FACTS of a `row` of DOCUMENTS or PAIRS."""
    return {"subject_id": subject_id, **{name: row.get(name, "") for name in FACTS}}


def known_facts(connection: Connection, ids: Iterable[str]) -> list[dict[str, Any]]:
    """subject_id and FACTS of those of `ids` that are known."""
    found = [row for part in chunks(ids) for row in _facts(connection, _KNOWN.c.subject_id.in_(part))]
    return list({row["subject_id"]: row for row in found}.values())


def _is_under(kind: TakedownKind, target: str) -> sa.ColumnElement[bool]:
    """Whether the URL is the target, or the host is (with any port, when the target names none).

    Rows of a text file that name the same URL have a fragment behind it (crawler/texts.py).
    """
    column, mark = (_KNOWN.c.url, ROW_MARK) if kind is TakedownKind.URL else (_KNOWN.c.host, ":")
    return (column == target) | column.startswith(f"{target}{mark}", autoescape=True)


def _equal_texts(connection: Connection, document_ids: Iterable[str]) -> set[str]:
    """Documents with the page and the text of one of `document_ids`."""
    texts = {
        (row["page_id"], row["text_digest"]) for row in known_facts(connection, document_ids) if row["text_digest"]
    }
    pages = chunks(page_id for page_id, _ in texts)
    known = [row for part in pages for row in _facts(connection, _KNOWN.c.page_id.in_(part))]
    return {row["document_id"] for row in known if (row["page_id"], row["text_digest"]) in texts}


def _above(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The document and the page of `row`, as far as it knows them: their own rows may be gone by age."""
    yield {**row, "subject_id": row["document_id"], "text_digest": ""}
    yield {**row, "subject_id": row["page_id"], "document_id": "", "text_digest": ""}


def _facts(connection: Connection, where: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(sa.select(_KNOWN).where(where)).mappings()]


def _select(table: sa.Table, subject: str) -> sa.Select[Any]:
    named = [table.c[name] if name in table.c else sa.literal_column("''").label(name) for name in FACTS]
    return sa.select(table.c[subject].label("subject_id"), *named)


_KNOWN = sa.union_all(
    _select(ERASURES, "subject_id"), _select(PAGES, "page_id"), _select(DOCUMENTS, "document_id"),
    _select(PAIRS, "pair_id"),
).subquery("known")  # fmt: skip
"""Every subject that is or was in the catalog. What is there stands behind what was: the later row of an id counts."""
