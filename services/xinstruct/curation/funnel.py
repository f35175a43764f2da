"""How many of what is where, per language and per reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from xinstruct.curation.config import CurationSettings
from xinstruct.curation.domain import WORST, ReleaseOutcome
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    DROPS,
    PAGES,
    PAIRS,
    RELEASE_ROWS,
    RELEASES,
    REVIEWS,
    SCORES,
    Connection,
    Engine,
)
from xinstruct.spine import registry
from xinstruct.spine.sql import transaction


@dataclass(frozen=True)
class LanguageCounts:
    """As LanguageFunnel in curation_service.proto."""

    language: str
    pages_fetched: int = 0
    documents_admitted: int = 0
    pairs_drafted: int = 0
    pairs_scored: int = 0
    pairs_kept: int = 0
    pairs_published: int = 0


@dataclass(frozen=True)
class Funnel:
    """As Funnel in curation_service.proto; `languages` in the order of their tags."""

    languages: tuple[LanguageCounts, ...]
    dropped: Mapping[str, int]
    dead_letters: Mapping[str, int]


def read_funnel(engine: Engine, settings: CurationSettings) -> Funnel:
    """The counts as the catalog holds them now."""
    evaluator = registry.promoted(engine, "evaluator")
    digest = evaluator.model_digest if evaluator else ""
    with transaction(engine) as connection:
        counts = {
            "pages_fetched": _pages(connection),
            "documents_admitted": _by_language(connection, sa.select(DOCUMENTS.c.language, sa.func.count())),
            "pairs_drafted": _by_language(connection, sa.select(PAIRS.c.language, sa.func.count())),
            "pairs_scored": _scored(connection, digest),
            "pairs_kept": _kept(connection, digest, settings),
            "pairs_published": _published(connection),
        }
        by_reason = sa.select(DROPS.c.stage, DROPS.c.reason, sa.func.count()).group_by(DROPS.c.stage, DROPS.c.reason)
        dropped = sorted((f"{stage}/{reason}", int(count)) for stage, reason, count in connection.execute(by_reason))
        letters = _by_language(connection, sa.select(DEAD_LETTERS.c.stage, sa.func.count()))
    tags = sorted({tag for found in counts.values() for tag in found})
    languages = [LanguageCounts(tag, **{name: found.get(tag, 0) for name, found in counts.items()}) for tag in tags]
    return Funnel(tuple(languages), dict(dropped), dict(sorted(letters.items())))


def kept_condition(evaluator_digest: str, settings: CurationSettings) -> sa.ColumnElement[bool]:
    """Of a row of SCORES: whether selection keeps it (domain.label_outcome and reviewed_worst, in SQL)."""
    labelled = label_condition(evaluator_digest, settings)
    if settings.reviewed_worst == "keep":
        return labelled
    worst = sa.func.sum(sa.case((REVIEWS.c.label == WORST, 1), else_=0))
    rejected = sa.select(REVIEWS.c.pair_id).group_by(REVIEWS.c.pair_id).having(2 * worst >= sa.func.count())
    return sa.and_(labelled, SCORES.c.pair_id.not_in(rejected))


def label_condition(evaluator_digest: str, settings: CurationSettings) -> sa.ColumnElement[bool]:
    """Of a row of SCORES: whether the evaluator's label keeps it, whatever reviewers say."""
    cases = [(SCORES.c.language == tag, threshold) for tag, threshold in sorted(settings.best_thresholds.items())]
    threshold = sa.case(*cases, else_=settings.best_threshold) if cases else sa.literal(settings.best_threshold)
    return sa.and_(
        SCORES.c.evaluator_digest == evaluator_digest, SCORES.c.p_best >= threshold,
        SCORES.c.p_best >= SCORES.c.p_reasonable, SCORES.c.p_best >= SCORES.c.p_worst,
    )  # fmt: skip


def _by_language(connection: Connection, query: sa.Select[Any]) -> dict[str, int]:
    """The query's second column by its first, which it is grouped by."""
    grouped = query.group_by(query.selected_columns[0])
    return {str(group): int(count) for group, count in connection.execute(grouped)}


def _scored(connection: Connection, evaluator_digest: str) -> dict[str, int]:
    query = sa.select(PAIRS.c.language, sa.func.count(PAIRS.c.pair_id.distinct()))
    joined = query.join(SCORES, SCORES.c.pair_id == PAIRS.c.pair_id)
    return _by_language(connection, joined.where(SCORES.c.evaluator_digest == evaluator_digest))


def _kept(connection: Connection, evaluator_digest: str, settings: CurationSettings) -> dict[str, int]:
    query = sa.select(PAIRS.c.language, sa.func.count(PAIRS.c.pair_id.distinct()))
    joined = query.join(SCORES, SCORES.c.pair_id == PAIRS.c.pair_id).where(kept_condition(evaluator_digest, settings))
    return _by_language(connection, joined.join(DOCUMENTS, DOCUMENTS.c.document_id == PAIRS.c.document_id))


def _published(connection: Connection) -> dict[str, int]:
    """Rows of the newest release."""
    order = (RELEASES.c.publish_time_ms.desc(), RELEASES.c.name.desc())
    newest = connection.execute(sa.select(RELEASES.c.name).order_by(*order).limit(1)).scalar_one_or_none()
    query = sa.select(RELEASE_ROWS.c.language, sa.func.count())
    where = (RELEASE_ROWS.c.name == newest, RELEASE_ROWS.c.outcome == ReleaseOutcome.PUBLISHED.value)
    return _by_language(connection, query.where(*where)) if newest else {}


def _pages(connection: Connection) -> dict[str, int]:
    """Pages with a body, each under the language of most of its documents, else of its drops."""
    pages: dict[str, str] = {}
    for row in connection.execute(sa.select(PAGES.c.page_id).where(PAGES.c.body_digest != "")):
        pages[row.page_id] = ""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    found = sa.select(DOCUMENTS.c.page_id, DOCUMENTS.c.language, sa.func.count()).group_by("page_id", "language")
    for page_id, language, count in connection.execute(found):
        votes[page_id][language] += int(count)
    guessed = sa.select(DROPS.c.subject_id, DROPS.c.language).where(DROPS.c.language != "")
    guesses = {subject: language for subject, language in connection.execute(guessed.order_by(DROPS.c.drop_id))}
    for page_id in pages:
        if votes[page_id]:
            pages[page_id] = min(votes[page_id], key=lambda tag: (-votes[page_id][tag], tag))
        else:
            pages[page_id] = guesses.get(page_id, "")
    return dict(Counter(pages.values()))
