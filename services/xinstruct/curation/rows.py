"""Rows of the catalog for people: one, a page of them, those for reviewers, those that failed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xinstruct.curation.config import CurationSettings
from xinstruct.curation.domain import ReleaseOutcome
from xinstruct.curation.funnel import kept_condition, label_condition
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    PAIRS,
    RELEASE_ROWS,
    REVIEWS,
    SCORES,
    TAKEDOWNS,
    Connection,
    Engine,
    PayloadT,
    payload_of,
)
from xinstruct.spine import registry
from xinstruct.spine.errors import NotFound
from xinstruct.spine.messages import AdmittedDocument, DeadLetter, DraftedPair, ReviewedPair, ScoredPair
from xinstruct.spine.sql import chunks, transaction


@dataclass(frozen=True)
class Row:
    """One pair with every label it has. `kept`: whether selection keeps it now."""

    pair: DraftedPair
    scores: tuple[ScoredPair, ...]
    reviews: tuple[ReviewedPair, ...]
    kept: bool


def read_row(engine: Engine, settings: CurationSettings, pair_id: str) -> Row:
    """The row of that pair; NotFound when there is none."""
    with transaction(engine) as connection:
        found = connection.execute(PAIRS.select().where(PAIRS.c.pair_id == pair_id)).mappings().all()
        if not found:
            raise NotFound(f"no pair {pair_id[:100]!r} in the catalog; `xinstruct why` may know what became of it")
        digest = _evaluator(connection)
        return _rows_of(connection, [dict(row) for row in found], kept_condition(digest, settings))[0]


def list_rows(
    engine: Engine, settings: CurationSettings, *, language: str = "", kept_only: bool = False, after: str = "",
    rows_max: int = 100,
) -> list[Row]:  # fmt: skip
    """At most `rows_max` rows in the order of their ids, from the one behind `after` on."""
    with transaction(engine) as connection:
        kept = kept_condition(_evaluator(connection), settings)
        query = PAIRS.select().where(PAIRS.c.pair_id > after).order_by(PAIRS.c.pair_id).limit(rows_max)
        if language:
            query = query.where(PAIRS.c.language == language)
        if kept_only:
            query = query.where(_is_kept(kept))
        return _rows_of(connection, [dict(row) for row in connection.execute(query).mappings()], kept)


def list_documents(engine: Engine, *, language: str, after: str, rows_max: int) -> list[AdmittedDocument]:
    """At most `rows_max` documents, without their signatures, in the order of their ids from behind `after` on."""
    query = DOCUMENTS.select().where(DOCUMENTS.c.document_id > after).order_by(DOCUMENTS.c.document_id).limit(rows_max)
    if language:
        query = query.where(DOCUMENTS.c.language == language)
    with transaction(engine) as connection:
        rows = connection.execute(query).mappings().all()
    return [payload_of(AdmittedDocument, {**row, "signature": b""}) for row in rows]


def rows_to_review(
    engine: Engine, settings: CurationSettings, *, language: str, release: str, rows_max: int
) -> list[dict[str, Any]]:
    """Rows for reviewers (review.COLUMNS but label and tags), at most `rows_max` a language, by language and id.

    Of `release` when it is named, else of what selection keeps now. Ids are hashes, so the first by id are a sample
    that does not change with what comes later, and the same for every reviewer: also what others call worst is in it.
    """
    columns = (PAIRS.c.pair_id, PAIRS.c.language, PAIRS.c.instruction, PAIRS.c.response, PAIRS.c.url)
    with transaction(engine) as connection:
        wanted = sa.select(*columns).order_by(PAIRS.c.pair_id).limit(rows_max)
        if release:
            published = RELEASE_ROWS.c.outcome == ReleaseOutcome.PUBLISHED.value
            wanted = wanted.join(RELEASE_ROWS, RELEASE_ROWS.c.pair_id == PAIRS.c.pair_id)
            wanted = wanted.where(RELEASE_ROWS.c.name == release, published)
        else:
            wanted = wanted.where(_is_kept(label_condition(_evaluator(connection), settings)))
        tags = connection.execute(sa.select(PAIRS.c.language).distinct().order_by(PAIRS.c.language)).scalars().all()
        found: list[dict[str, Any]] = []
        for tag in [language] if language else tags:
            rows = connection.execute(wanted.where(PAIRS.c.language == tag)).mappings()
            found += [dict(row) for row in rows]
    return found


def known_pairs(engine: Engine, pair_ids: Collection[str]) -> set[str]:
    """Those of `pair_ids` that the catalog or a release has."""
    found: set[str] = set()
    with transaction(engine) as connection:
        for part in chunks(pair_ids):
            for column in (PAIRS.c.pair_id, RELEASE_ROWS.c.pair_id):
                found |= set(connection.execute(sa.select(column).where(column.in_(part))).scalars())
    return found


def list_dead_letters(
    engine: Engine, stage: str, *, after: tuple[int, int] = (-1, -1), rows_max: int = 100, ids: Collection[str] = ()
) -> list[tuple[DeadLetter, tuple[int, int]]]:
    """Dead letters of a stage with their (offset, partition), in that order, which is that of time but for neighbours.

    `ids`: only these; empty: all.
    """
    place = sa.tuple_(DEAD_LETTERS.c.log_offset, DEAD_LETTERS.c.log_partition)
    query = DEAD_LETTERS.select().where(DEAD_LETTERS.c.stage == stage, place > sa.tuple_(*after)).order_by(
        DEAD_LETTERS.c.log_offset, DEAD_LETTERS.c.log_partition
    ).limit(rows_max)  # fmt: skip
    if ids:
        query = query.where(DEAD_LETTERS.c.dead_letter_id.in_(sorted(ids)))
    with transaction(engine) as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [(payload_of(DeadLetter, row), (row["log_offset"], row["log_partition"])) for row in rows]


def read_takedown(engine: Engine, request_id: str) -> dict[str, Any]:
    """The row of TAKEDOWNS; NotFound when there is none."""
    with transaction(engine) as connection:
        row = connection.execute(TAKEDOWNS.select().where(TAKEDOWNS.c.request_id == request_id)).mappings().first()
    if row is None:
        raise NotFound(f"no takedown {request_id[:100]!r}")
    return dict(row)


def list_takedowns(engine: Engine, *, before: tuple[int, str] | None, rows_max: int) -> list[dict[str, Any]]:
    """Takedowns, newest first, from the one behind `before` (request time, request id) on."""
    order = (TAKEDOWNS.c.request_time_ms.desc(), TAKEDOWNS.c.request_id.desc())
    query = TAKEDOWNS.select().order_by(*order).limit(rows_max)
    if before is not None:
        query = query.where(sa.tuple_(TAKEDOWNS.c.request_time_ms, TAKEDOWNS.c.request_id) < sa.tuple_(*before))
    with transaction(engine) as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def _evaluator(connection: Connection) -> str:
    """The promoted evaluator's digest, empty when there is none; within the caller's transaction."""
    query = sa.select(registry.PROMOTIONS.c.model_digest).where(registry.PROMOTIONS.c.role == "evaluator")
    return connection.execute(query).scalar_one_or_none() or ""


def _is_kept(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    scored = SCORES.select().where(SCORES.c.pair_id == PAIRS.c.pair_id, condition).exists()
    return scored & DOCUMENTS.select().where(DOCUMENTS.c.document_id == PAIRS.c.document_id).exists()


def _rows_of(
    connection: Connection, pairs: Sequence[Mapping[str, Any]], kept: sa.ColumnElement[bool]
) -> list[Row]:
    ids = [row["pair_id"] for row in pairs]
    scores = _by_pair(connection, SCORES, ScoredPair, ids)
    reviews = _by_pair(connection, REVIEWS, ReviewedPair, ids)
    found: set[str] = set()
    for part in chunks(ids):
        query = sa.select(PAIRS.c.pair_id).where(PAIRS.c.pair_id.in_(part), _is_kept(kept))
        found |= set(connection.execute(query).scalars())
    return [
        Row(payload_of(DraftedPair, row), tuple(scores[row["pair_id"]]), tuple(reviews[row["pair_id"]]),
            row["pair_id"] in found) for row in pairs
    ]  # fmt: skip


def _by_pair(
    connection: Connection, table: sa.Table, payload: type[PayloadT], pair_ids: Iterable[str]
) -> dict[str, list[PayloadT]]:
    found: dict[str, list[PayloadT]] = defaultdict(list)
    for part in chunks(pair_ids):
        query = table.select().where(table.c.pair_id.in_(part)).order_by(*table.primary_key.columns)
        for row in connection.execute(query).mappings():
            found[row["pair_id"]].append(payload_of(payload, dict(row)))
    return found
