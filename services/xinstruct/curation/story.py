"""Why a page, document or pair is here, or gone: everything the catalog knows of it, from the fetch on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from xinstruct.curation.config import CurationSettings
from xinstruct.curation.domain import (
    Candidate,
    ReleaseOutcome,
    label_outcome,
    normal_target,
    reviewed_worst,
    suppression_keys,
)
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    DROPS,
    ERASURES,
    PAGES,
    PAIRS,
    RELEASE_ROWS,
    RELEASES,
    REVIEWS,
    SCORES,
    SUPPRESSIONS,
    TAKEDOWNS,
    Connection,
    Engine,
    canonical_json,
)
from xinstruct.spine import registry
from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.spine.messages import LabelReading, TakedownKind
from xinstruct.spine.sql import chunks, transaction
from xinstruct.urls import ROW_MARK

Row = Mapping[str, Any]
ROWS_MAX = 100
"""Rows without a text that the story of a text file tells one by one."""
ID_DIGITS_MIN = 8
_ID_COLUMNS = (
    PAGES.c.page_id, DOCUMENTS.c.document_id, PAIRS.c.pair_id, DROPS.c.subject_id, DEAD_LETTERS.c.input_id,
    RELEASE_ROWS.c.pair_id, RELEASE_ROWS.c.document_id, ERASURES.c.subject_id,
)  # fmt: skip
"""Wherever an id of a page, document or pair stands, each with an index."""

_WORDS = {
    ReleaseOutcome.PUBLISHED: "published in {name}",
    ReleaseOutcome.NOT_BEST: "not in {name}: another label is likelier than best (P(best) {detail})",
    ReleaseOutcome.BELOW_THRESHOLD: "not in {name}: P(best) {detail} is below the threshold",
    ReleaseOutcome.REVIEWED_WORST: "not in {name}: {detail} of its reviewers label it worst",
    ReleaseOutcome.OTHER_CANDIDATE: "not in {name}: pair {detail} of the same document is likelier best",
    ReleaseOutcome.DUPLICATE: "not in {name}: near-duplicate of the text of pair {detail}",
    ReleaseOutcome.SAME_INSTRUCTION: "not in {name}: pair {detail} and another have the same instruction",
    ReleaseOutcome.NEAR_INSTRUCTION: "not in {name}: too near to a likelier instruction of cluster {cluster}",
    ReleaseOutcome.CLUSTER_QUOTA: "not in {name}: cluster {cluster} had its share",
}


@dataclass(frozen=True)
class Event:
    """One thing that happened. `time_ms` 0: not known. `facts`: numbers, digests and names, no text of the web."""

    stage: str
    subject_id: str
    happened: str
    facts: Mapping[str, str] = field(default_factory=dict)
    time_ms: int = 0


@dataclass(frozen=True)
class _Subjects:
    """Everything that belongs to what was asked for."""

    pages: frozenset[str]
    documents: frozenset[str]
    pairs: frozenset[str]
    urls: frozenset[str]

    @property
    def ids(self) -> frozenset[str]:
        return self.pages | self.documents | self.pairs


def read_story(engine: Engine, settings: CurationSettings, subject: str) -> list[Event]:
    """Every event of a URL, text file, page id, document id or pair id, along the flow; of a file also those of its
    rows without a text, the first ROWS_MAX. NotFound when nothing is known of it.

    An id may be given by its start, ID_DIGITS_MIN digits or more; Invalid when several start so.
    """
    evaluator = registry.promoted(engine, "evaluator")
    digest = evaluator.model_digest if evaluator else ""
    with transaction(engine) as connection:
        subject = _whole_id(connection, subject)
        subjects = _resolve(connection, subject)
        events = [
            *_of_file(connection, subject), *_fetched(connection, subjects), *_admitted(connection, subjects),
            *_dropped(connection, subjects),
            *_rejected(connection, subjects), *_drafted(connection, subjects),
            *_scored(connection, subjects, digest, settings), *_reviewed(connection, subjects),
            *_released(connection, subjects), *_erased(connection, subjects, subject),
        ]  # fmt: skip
    if not events:
        raise NotFound(f"nothing is known of {subject[:200]!r}: no URL, page, document or pair id of this catalog")
    return events


def _whole_id(connection: Connection, subject: str) -> str:
    """The one id that starts with `subject`; `subject` itself when it is no start of an id, or of none."""
    if len(subject) < ID_DIGITS_MIN or subject.strip("0123456789abcdef"):
        return subject
    found: set[str] = set()
    for column in _ID_COLUMNS:
        start = sa.and_(column >= subject, column < subject + "g")
        found |= set(connection.execute(sa.select(column).where(start).distinct().limit(2)).scalars())
    if len(found) > 1 and subject not in found:
        raise Invalid(f"several ids start with {subject!r}: give more digits")
    return subject if subject in found else next(iter(found), subject)


def _resolve(connection: Connection, subject: str) -> _Subjects:
    """Pages, documents and pairs above and below the subject."""
    # A text file, or a row of it, is named by a path too; ids have no slash.
    url = normal_target(TakedownKind.URL, subject) if "/" in subject else ""
    pages, documents, pairs = {subject}, {subject}, {subject}
    rows = _rows(connection, PAIRS, "pair_id", [subject])
    documents |= {row["document_id"] for row in rows}
    if not rows:
        rows = _rows(connection, DOCUMENTS, "document_id", [subject])
        pairs |= {row["pair_id"] for row in _rows(connection, PAIRS, "document_id", [subject])}
    pages |= {row["page_id"] for row in rows}
    if url or _rows(connection, PAGES, "page_id", [subject]):
        if url:
            found = [row for table in (PAGES, DOCUMENTS) for row in _rows(connection, table, "url", [url, subject])]
            pages |= {row["page_id"] for row in found} | {row.page_id for row in _bad_rows(connection, url, ROWS_MAX)}
        documents |= {row["document_id"] for row in _rows(connection, DOCUMENTS, "page_id", pages)}
        pairs |= {row["pair_id"] for row in _rows(connection, PAIRS, "page_id", pages)}
    urls = {row["url"] for row in _rows(connection, PAGES, "page_id", pages)} | ({url, subject} if url else set())
    return _Subjects(frozenset(pages), frozenset(documents), frozenset(pairs), frozenset(urls))


def _of_file(connection: Connection, subject: str) -> Iterable[Event]:
    """How many rows of the text file `subject` gave no text, where the story does not tell them all."""
    found = len(_bad_rows(connection, subject, None)) if "/" in subject else 0
    if found > ROWS_MAX:
        yield Event("fetch", subject, f"{found} rows without a text; the first {ROWS_MAX} are told here")


def _bad_rows(connection: Connection, place: str, rows_max: int | None) -> Sequence[Any]:
    """The rows of the text file `place` that gave no text, in their order: page_id, url. None of what is no file."""
    if place.startswith(("http://", "https://")) or ROW_MARK in place:
        return ()
    begins = PAGES.c.url.startswith(f"{place}{ROW_MARK}", autoescape=True)
    query = sa.select(PAGES.c.page_id, PAGES.c.url).where(PAGES.c.failure != "", begins)
    return connection.execute(query.order_by(sa.func.length(PAGES.c.url), PAGES.c.url).limit(rows_max)).all()


def _fetched(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    rows = _rows(connection, PAGES, "page_id", subjects.pages)
    # The length first: rows of a text file, whose URLs differ in their numbers, in their order.
    for row in sorted(rows, key=lambda row: (row["fetch_number"], len(row["url"]), row["url"])):
        happened = f"not fetched: {row['failure']}" if row["failure"] else f"fetched with status {row['status']}"
        if row["superseded_body_digest"]:
            happened += "; what was derived from its earlier body is superseded"
        names = ("url", "fetch_id", "fetch_number", "body_digest", "superseded_body_digest", "source_id")
        facts = _facts(row, (*names, "policy_version", "opt_outs", "detail", "declared_language"))
        yield Event("fetch", row["page_id"], happened, facts, row["fetch_time_ms"])


def _admitted(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    names = ("url", "ordinal", "language", "language_script", "language_confidence_ratio", "licence", "masked_count")
    for row in sorted(_rows(connection, DOCUMENTS, "document_id", subjects.documents), key=lambda row: row["ordinal"]):
        yield Event("admit", row["document_id"], "admitted", _facts(row, (*names, "body_digest")), row["fetch_time_ms"])


def _dropped(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    found = {row["drop_id"]: row for row in _rows(connection, DROPS, "subject_id", subjects.ids)}
    found |= {row["drop_id"]: row for row in _rows(connection, DROPS, "url", subjects.urls)}
    for row in sorted(found.values(), key=lambda row: (row["stage"], row["subject_id"], row["ordinal"])):
        facts = _facts(row, ("stage_version", "ordinal", "language", "evidence"))
        yield Event(row["stage"], row["subject_id"], f"dropped: {row['reason']}", facts)


def _rejected(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    fetches = {row["fetch_id"] for row in _rows(connection, PAGES, "page_id", subjects.pages)}
    found = _rows(connection, DEAD_LETTERS, "input_id", subjects.ids | fetches)
    for row in sorted(found, key=lambda row: str(row["stage"])):
        facts = _facts(row, ("dead_letter_id", "stage_version", "detail", "attempts_count"))
        yield Event(row["stage"], row["input_id"], f"dead letter: {row['reason']}", facts)


def _drafted(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    names = ("document_id", "generator_digest", "prompt_version", "mean_log_probability", "ordinal")
    for row in _rows(connection, PAIRS, "pair_id", subjects.pairs):
        yield Event("backgen", row["pair_id"], "drafted", _facts(row, names))


def _scored(connection: Connection, subjects: _Subjects, digest: str, settings: CurationSettings) -> Iterable[Event]:
    given = _rows(connection, REVIEWS, "pair_id", subjects.pairs)
    for row in _rows(connection, SCORES, "pair_id", subjects.pairs):
        threshold = settings.threshold(row["language"])
        labels = (row["p_best"], row["p_reasonable"], row["p_worst"])
        outcome = label_outcome(Candidate(row["pair_id"], "", row["language"], "", 0, *labels), threshold)
        reviewed = [review["label"] for review in given if review["pair_id"] == row["pair_id"]]
        if outcome is ReleaseOutcome.PUBLISHED and settings.reviewed_worst == "drop" and reviewed_worst(reviewed):
            outcome = ReleaseOutcome.REVIEWED_WORST
        if row["evaluator_digest"] != digest:
            happened = "scored by an evaluator that is not the promoted one"
        elif outcome is ReleaseOutcome.PUBLISHED:
            happened = "scored: kept by selection"
        else:
            happened = f"scored: not kept, {outcome.value.replace('_', ' ')}"
        facts = _facts(row, ("p_best", "p_reasonable", "p_worst", "evaluator_digest", "score_id"))
        facts |= {"threshold": f"{threshold:g}", "reading": LabelReading(row["reading"]).name.lower()}
        if row["votes_count"]:
            facts["votes_count"] = str(row["votes_count"])
        yield Event("scoring", row["pair_id"], happened, facts)


def _reviewed(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    for row in _rows(connection, REVIEWS, "pair_id", subjects.pairs):
        facts = _facts(row, ("reviewer", "tags"))
        yield Event("review", row["pair_id"], f"reviewed: {row['label']}", facts, row["review_time_ms"])


def _released(connection: Connection, subjects: _Subjects) -> Iterable[Event]:
    """Also of pairs that are gone: a release may still hold them."""
    gone = [
        *_rows(connection, ERASURES, "url", subjects.urls), *_rows(connection, ERASURES, "page_id", subjects.pages),
        *_rows(connection, ERASURES, "document_id", subjects.documents),
    ]  # fmt: skip
    found = [*_rows(connection, RELEASE_ROWS, "pair_id", subjects.pairs | {row["subject_id"] for row in gone})]
    found += _rows(connection, RELEASE_ROWS, "document_id", subjects.documents)
    present = {row["pair_id"] for row in _rows(connection, PAIRS, "pair_id", {row["pair_id"] for row in found})}
    rows = {(row["name"], row["pair_id"]): row for row in found}
    releases = _rows(connection, RELEASES, "name", [name for name, _ in rows])
    times = {row["name"]: row["publish_time_ms"] for row in releases}
    for (name, pair_id), row in sorted(rows.items(), key=lambda item: (times.get(item[0][0], 0), item[0])):
        outcome = ReleaseOutcome(row["outcome"])
        happened = _WORDS[outcome].format_map(row)
        if outcome is ReleaseOutcome.PUBLISHED and pair_id not in present:
            happened += ", which still holds it"
        facts = _facts(row, ("name", "outcome", "cluster", "detail"))
        yield Event("release", pair_id, happened, facts, times.get(name, 0))


def _erased(connection: Connection, subjects: _Subjects, subject: str) -> Iterable[Event]:
    keys = {("document", subject_id) for subject_id in subjects.ids}
    for url in subjects.urls:
        keys |= set(suppression_keys(url, urlsplit(url).netloc, ()))
    requests = {row["request_id"] for row in _rows(connection, ERASURES, "subject_id", subjects.ids)} - {""}
    for row in _rows(connection, SUPPRESSIONS, "target", {target for _, target in keys}):
        if (row["kind"], row["target"]) in keys:
            requests.add(row["request_id"])
    for row in _rows(connection, TAKEDOWNS, "request_id", requests):
        names = ("request_id", "reason", "state", "releases_affected")
        facts = {"kind": TakedownKind(row["kind"]).name.lower()} | _facts(row, names)
        yield Event("curation", subject, f"suppressed by a takedown, {row['state']}", facts, row["request_time_ms"])
    for row in _rows(connection, ERASURES, "subject_id", subjects.ids):
        if not row["request_id"]:
            yield Event("curation", row["subject_id"], "superseded by a later fetch of its page")


def _rows(connection: Connection, table: sa.Table, column: str, values: Iterable[str]) -> Sequence[Row]:
    """Rows of `table` whose `column` is one of `values`, by primary key."""
    found: list[Row] = []
    for part in chunks(values):
        query = table.select().where(table.c[column].in_(part)).order_by(*table.primary_key.columns)
        found += [dict(row) for row in connection.execute(query).mappings()]
    return found


def _facts(row: Row, names: Sequence[str]) -> dict[str, str]:
    """The named columns as text, empty ones left out."""
    found = {name: row[name] for name in names if row[name] not in ("", None, "{}", "[]")}
    return {name: _fact(value) for name, value in found.items()}


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else canonical_json(value)
