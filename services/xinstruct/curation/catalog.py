"""What a release reads from the catalog: one consistent snapshot of the light columns, later the rows themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xinstruct.curation import projection
from xinstruct.curation.domain import Candidate, ReleaseOutcome, choose_generator
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    ERASURES,
    PAIRS,
    RELEASE_ROWS,
    REVIEWS,
    SCORES,
    Connection,
    Engine,
    payload_of,
)
from xinstruct.spine.messages import LabelReading, ReviewedPair
from xinstruct.spine.sql import chunks, transaction


@dataclass(frozen=True)
class Snapshot:
    """The catalog at `offsets`, as far as selection needs it. Every list is sorted by id."""

    offsets: Mapping[str, Mapping[int, int]]
    evaluator_digest: str
    generator_digest: str
    candidates: tuple[Candidate, ...]
    document_ids: tuple[str, ...]
    signatures: tuple[bytes, ...]
    text_digests: tuple[str, ...]
    labels: Mapping[str, tuple[str, ...]]
    """Pair id → its reviewers' latest labels."""


@contextmanager
def snapshot_transaction(engine: Engine) -> Iterator[Connection]:
    """A transaction in which every query sees the same state."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with transaction(engine) as connection:
        yield connection


def read_snapshot(engine: Engine, *, evaluator_digest: str, generators: Sequence[str]) -> Snapshot:
    """Every pair labelled by the evaluator whose document is present, and every document's signature.

    Of one generator: domain.choose_generator, which wants `generators` newest first.
    """
    with snapshot_transaction(engine) as connection:
        offsets = projection.offsets(connection)
        generator = choose_generator(generators, _documents_count(connection, evaluator_digest))
        candidates = _candidates(connection, evaluator_digest, generator)
        columns = (DOCUMENTS.c.document_id, DOCUMENTS.c.signature, DOCUMENTS.c.text_digest)
        labels = labels_of(connection)
        documents = connection.execute(sa.select(*columns).order_by(DOCUMENTS.c.document_id)).all()
    return Snapshot(
        offsets, evaluator_digest, generator, tuple(candidates),
        tuple(row.document_id for row in documents), tuple(bytes(row.signature) for row in documents),
        tuple(row.text_digest for row in documents), labels,
    )  # fmt: skip


def unscored_count(engine: Engine, *, evaluator_digest: str, target_offsets: Mapping[int, int]) -> int:
    """Pairs below `target_offsets` (partition → offset) that the evaluator has neither labelled nor rejected."""
    labelled = sa.exists().where(SCORES.c.pair_id == PAIRS.c.pair_id, SCORES.c.evaluator_digest == evaluator_digest)
    rejected = sa.exists().where(DEAD_LETTERS.c.input_id == PAIRS.c.pair_id, DEAD_LETTERS.c.stage.like("scoring-%"))
    below = [
        sa.and_(PAIRS.c.log_partition == partition, PAIRS.c.log_offset < offset)
        for partition, offset in sorted(target_offsets.items())
    ]
    query = sa.select(sa.func.count()).select_from(PAIRS).where(sa.or_(sa.false(), *below), ~labelled, ~rejected)
    with transaction(engine) as connection:
        return int(connection.execute(query).scalar_one())


def rows_by_pair(engine: Engine, pair_ids: Collection[str], *, evaluator_digest: str) -> dict[str, dict[str, Any]]:
    """Pair id → columns of PAIRS and `p_best` by the evaluator; absent where pair, document or score is gone."""
    found: dict[str, dict[str, Any]] = {}
    with snapshot_transaction(engine) as connection:
        for part in chunks(pair_ids):
            query = (
                sa.select(PAIRS, SCORES.c.p_best)
                .join(SCORES, SCORES.c.pair_id == PAIRS.c.pair_id)
                .join(DOCUMENTS, DOCUMENTS.c.document_id == PAIRS.c.document_id)
                .where(PAIRS.c.pair_id.in_(part), SCORES.c.evaluator_digest == evaluator_digest)
                .order_by(SCORES.c.prompt_version, SCORES.c.score_id)
            )
            found.update({row["pair_id"]: dict(row) for row in connection.execute(query).mappings()})
    return found


def hold_pairs(connection: Connection, pair_ids: Collection[str]) -> int:
    """How many of the pairs are there. Nobody erases them before the caller's transaction ends."""
    query = sa.select(PAIRS.c.pair_id).with_for_update(read=True)  # SQLite, which knows no such lock, has one writer
    return sum(len(connection.execute(query.where(PAIRS.c.pair_id.in_(part))).all()) for part in chunks(pair_ids))


def reviews_of(engine: Engine, pair_ids: Iterable[str]) -> list[ReviewedPair]:
    """Reviews of the pairs, by pair and reviewer."""
    found: list[ReviewedPair] = []
    with transaction(engine) as connection:
        for part in chunks(pair_ids):
            rows = connection.execute(REVIEWS.select().where(REVIEWS.c.pair_id.in_(part))).mappings()
            found += [payload_of(ReviewedPair, dict(row)) for row in rows]
    return sorted(found, key=lambda review: (review.pair_id, review.reviewer))


def rows_gone(engine: Engine) -> dict[str, int]:
    """Release → rows it published that were superseded or taken down since; without those that have none."""
    erased = ERASURES.select().where(ERASURES.c.subject_id == RELEASE_ROWS.c.pair_id).exists()
    present = PAIRS.select().where(PAIRS.c.pair_id == RELEASE_ROWS.c.pair_id).exists()
    where = (RELEASE_ROWS.c.outcome == ReleaseOutcome.PUBLISHED.value, erased, ~present)
    query = sa.select(RELEASE_ROWS.c.name, sa.func.count()).where(*where).group_by(RELEASE_ROWS.c.name)
    with transaction(engine) as connection:
        return {str(name): int(count) for name, count in connection.execute(query)}


def labels_of(connection: Connection) -> dict[str, tuple[str, ...]]:
    """Pair id → its reviewers' latest labels. A table has one row a pair and reviewer: people wrote all of it."""
    found: dict[str, tuple[str, ...]] = {}
    for row in connection.execute(sa.select(REVIEWS.c.pair_id, REVIEWS.c.label).order_by(REVIEWS.c.review_id)):
        found[row.pair_id] = (*found.get(row.pair_id, ()), row.label)
    return found


def _documents_count(connection: Connection, evaluator_digest: str) -> dict[str, int]:
    """Generator → documents of which the evaluator labelled a pair."""
    query = (
        sa.select(PAIRS.c.generator_digest, sa.func.count(PAIRS.c.document_id.distinct()))
        .join(SCORES, SCORES.c.pair_id == PAIRS.c.pair_id)
        .join(DOCUMENTS, DOCUMENTS.c.document_id == PAIRS.c.document_id)
        .where(SCORES.c.evaluator_digest == evaluator_digest)
        .group_by(PAIRS.c.generator_digest)
    )
    return {digest: int(count) for digest, count in connection.execute(query)}


def _candidates(connection: Connection, evaluator_digest: str, generator_digest: str) -> list[Candidate]:
    query = (
        sa.select(
            PAIRS.c.pair_id, PAIRS.c.document_id, PAIRS.c.language, PAIRS.c.instruction,
            sa.func.length(DOCUMENTS.c.text).label("response_chars"),
            SCORES.c.p_best, SCORES.c.p_reasonable, SCORES.c.p_worst, SCORES.c.reading,
        )
        .join(SCORES, SCORES.c.pair_id == PAIRS.c.pair_id)
        .join(DOCUMENTS, DOCUMENTS.c.document_id == PAIRS.c.document_id)
        .where(SCORES.c.evaluator_digest == evaluator_digest, PAIRS.c.generator_digest == generator_digest)
        .order_by(PAIRS.c.pair_id, SCORES.c.prompt_version, SCORES.c.score_id)
    )  # fmt: skip
    # A pair that one evaluator labelled under two templates counts with the newer one: the later row stays.
    rows = connection.execute(query).mappings()
    found = {row["pair_id"]: Candidate(**{**row, "reading": LabelReading(row["reading"])}) for row in rows}
    return list(found.values())
