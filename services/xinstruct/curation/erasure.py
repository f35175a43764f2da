"""What must go from the catalog and the log: documents that an edit superseded, everything of a takedown's root, and
whatever of either still arrives late.

Rows go in the caller's transaction; the null values that the log needs are queued in the same one (tables.TOMBSTONES)
and appended by the projection. So a kill between the two loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from xinstruct.curation import tables
from xinstruct.curation.domain import normal_target, suppression_keys
from xinstruct.curation.root import Root, facts_of, find_root, known_facts
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    DROPS,
    ERASURES,
    FOREVER_MS,
    PAGES,
    PAIRS,
    REVIEWS,
    SCORES,
    SUPERSEDED,
    SUPPRESSIONS,
    TAKEDOWN_SUBJECTS,
    TAKEDOWNS,
    TOMBSTONES,
    Connection,
    canonical_json,
)  # fmt: skip
from xinstruct.spine import topics
from xinstruct.spine.messages import TakedownKind, TakedownRequested
from xinstruct.spine.sql import chunks, insert_new, upsert
from xinstruct.spine.topics import Topic

Rows = Sequence[Mapping[str, Any]]


def suppress(connection: Connection, request: TakedownRequested, *, now_ms: int) -> None:
    """Put the target on the permanent list and erase from the catalog all that derives from it. Repeatable."""
    known = connection.execute(TAKEDOWNS.select().where(TAKEDOWNS.c.request_id == request.request_id)).first()
    if known is not None:
        return
    target = normal_target(request.kind, request.target)
    listed: dict[str, Any] = {"kind": request.kind.name.lower(), "target": target}
    listed |= {"request_id": request.request_id, "suppress_time_ms": now_ms}
    upsert(connection, SUPPRESSIONS, [listed], key=("kind", "target"), only_if_newer="suppress_time_ms")
    noted = _takedown_row(request) | {"change_time_ms": now_ms, "change_number": 1}
    insert_new(connection, TAKEDOWNS, [noted], key=("request_id",))  # the servicer and the projection do it at once
    _erase_root(connection, request, target)


def supersede(connection: Connection, pages: Rows) -> None:
    """Note every body that `pages` (rows of PAGES) replaced, and erase the documents cut from it up to that fetch."""
    for page in sorted(pages, key=lambda row: row["fetch_time_ms"]):
        if not page["superseded_body_digest"]:
            continue
        row = {"page_id": page["page_id"], "body_digest": page["superseded_body_digest"]}
        row["supersede_time_ms"] = page["fetch_time_ms"]
        upsert(connection, SUPERSEDED, [row], key=("page_id", "body_digest"), only_if_newer="supersede_time_ms")
        stale = DOCUMENTS.select().where(
            DOCUMENTS.c.page_id == row["page_id"], DOCUMENTS.c.body_digest == row["body_digest"],
            DOCUMENTS.c.fetch_time_ms <= row["supersede_time_ms"],
        )  # fmt: skip
        ids = [found.document_id for found in connection.execute(stale)]
        erase_documents(connection, ids, until_time_ms=page["fetch_time_ms"])


def erase_documents(connection: Connection, document_ids: Collection[str], *, until_time_ms: int) -> None:
    """Erase documents with the pairs and scores derived from them, and whatever of theirs arrives later."""
    pairs = _ids(connection, PAIRS, "pair_id", "document_id", document_ids)
    scores = _ids(connection, SCORES, "score_id", "pair_id", pairs)
    scores |= _ids(connection, SCORES, "score_id", "document_id", document_ids)
    _remember(
        connection, known_facts(connection, {*document_ids, *pairs}), until_time_ms=until_time_ms, request_id=""
    )
    _erase(connection, topics.PAIR_SCORED, scores)
    _erase(connection, topics.PAIR_DRAFTED, pairs)
    _erase(connection, topics.DOCUMENT_ADMITTED, document_ids)


def name_trained(connection: Connection, models: Rows) -> None:
    """Add `models` (rows of TRAINED_MODELS) to the takedowns that found their snapshots while the jobs were at work."""
    for model in models:
        if not (model["snapshot_digest"] and model["model_digest"]):
            continue
        holds = TAKEDOWNS.c.snapshots_affected.contains(model["snapshot_digest"], autoescape=True)
        for takedown in connection.execute(TAKEDOWNS.select().where(holds)).all():
            names = sorted({*json.loads(takedown.models_affected), model["model_digest"]})
            connection.execute(
                TAKEDOWNS.update().where(TAKEDOWNS.c.request_id == takedown.request_id)
                .values(models_affected=canonical_json(names), change_number=TAKEDOWNS.c.change_number + 1)
            )


def bury(connection: Connection, topic: Topic, keys: Iterable[str]) -> None:
    """Queue a null value for every key of `topic`."""
    rows = [{"topic": topic.name, "key": key} for key in sorted(set(keys))]
    upsert(connection, TOMBSTONES, rows, key=("topic", "key"))


def late(connection: Connection, topic: Topic, rows: Rows) -> dict[str, str]:
    """Ids of those `rows` (of the table that `topic` fills) that must not come in, each with the takedown behind it.

    Empty stands for an edit that superseded them. Scores count as late only while their pair is absent.
    """
    rule = _LATE_RULES.get(topic.name)
    return rule(connection, rows) if rule else {}


def turn_away(connection: Connection, topic: Topic, rows: Rows, requests: Mapping[str, str]) -> None:
    """Tombstone the late `rows` again; `requests` is what `late` said. A takedown that is behind one works again."""
    table = _table_of(topic)
    key = "page_id" if topic is topics.PAGE_FETCHED else _id_column(table)
    for row in rows:
        request_id = requests[row[_id_column(table)]]
        if request_id:
            _reopen(connection, request_id, _subjects_of(row), records_count=1)
        if table in (DOCUMENTS, PAIRS):
            until_ms = FOREVER_MS if request_id else row["fetch_time_ms"]
            facts = facts_of(row, row[_id_column(table)])
            _remember(connection, [facts], until_time_ms=until_ms, request_id=request_id)
    bury(connection, topic, (row[key] for row in rows))


# ── takedown of a root ──────────────────────────────────────────────────────────────────────────────────────────────


def _erase_root(connection: Connection, request: TakedownRequested, target: str) -> None:
    """Erase everything that derives from the target, and list what lies outside SQL for the takedown to erase."""
    root = find_root(connection, request.kind, target)
    bodies = root.values("body_digest")
    bodies |= _ids(connection, PAGES, "body_digest", "page_id", root.pages)
    bodies |= _ids(connection, PAGES, "superseded_body_digest", "page_id", root.pages)
    fetches = _ids(connection, PAGES, "fetch_id", "page_id", root.pages)
    everything = root.pages | root.documents | root.pairs
    letters = _ids(connection, DEAD_LETTERS, "dead_letter_id", "input_id", everything | fetches)
    letters |= _ids(connection, DEAD_LETTERS, "dead_letter_id", "input_key", everything)
    bodies |= _ids(connection, DEAD_LETTERS, "input_digest", "dead_letter_id", letters)
    ids_of = {
        "url": root.values("url"), "blob": bodies, "page": root.pages, "document": root.documents, "pair": root.pairs,
        "owner": root.values("page_id"),
    }  # fmt: skip
    _remember(connection, root.facts.values(), until_time_ms=FOREVER_MS, request_id=request.request_id)
    count = _erase_rows(connection, request, root, letters)
    _reopen(connection, request.request_id, [(k, one) for k, ids in ids_of.items() for one in ids], records_count=count)


def _erase_rows(connection: Connection, request: TakedownRequested, root: Root, letters: set[str]) -> int:
    """Erase the rows and queue their tombstones; returns how many there were. The fetches of a page count as one."""
    pages, pairs = root.pages, root.pairs
    drops = _ids(connection, DROPS, "drop_id", "subject_id", pages | root.documents | pairs)
    if request.kind is TakedownKind.URL:
        urls = {request.target, normal_target(request.kind, request.target)}
        drops |= _ids(connection, DROPS, "drop_id", "url", urls)
    scores = _ids(connection, SCORES, "score_id", "pair_id", pairs)
    scores |= _ids(connection, SCORES, "score_id", "document_id", root.documents)
    reviews = _ids(connection, REVIEWS, "review_id", "pair_id", pairs)
    ids_of = {
        topics.PAIR_REVIEWED: reviews, topics.PAIR_SCORED: scores, topics.PAIR_DRAFTED: pairs,
        topics.DOCUMENT_ADMITTED: root.documents, topics.RECORD_DROPPED: drops,
    }  # fmt: skip
    ids_of |= {topic: _of_stage(connection, stage, letters) for stage, topic in topics.DEAD_LETTERS.items()}
    count = len(_ids(connection, PAGES, "page_id", "page_id", pages))
    count += sum(_erase(connection, topic, ids) for topic, ids in ids_of.items())
    bury(connection, topics.PAGE_FETCHED, pages)
    for part in chunks(pages):
        connection.execute(PAGES.delete().where(PAGES.c.page_id.in_(part)))
        connection.execute(SUPERSEDED.delete().where(SUPERSEDED.c.page_id.in_(part)))
    return count


def _takedown_row(request: TakedownRequested) -> dict[str, Any]:
    row: dict[str, Any] = {"request_id": request.request_id, "kind": int(request.kind), "target": request.target}
    row |= {"reason": request.reason, "request_time_ms": request.request_time_ms, "purge": request.purge}
    row |= {"state": "suppressed", "records_erased": 0, "blobs_erased": 0}
    lists = ("releases_affected", "snapshots_affected", "models_affected", "reports_affected")
    return row | dict.fromkeys(lists, "[]")


def _reopen(
    connection: Connection, request_id: str, subjects: Iterable[tuple[str, str]], *, records_count: int
) -> None:
    """Give the takedown `subjects` to erase outside SQL, and make it work again if it was done."""
    wanted = sorted({subject for subject in subjects if subject[1]})
    rows = [{"request_id": request_id, "kind": kind, "subject": subject} for kind, subject in wanted]
    upsert(connection, TAKEDOWN_SUBJECTS, rows, key=("request_id", "kind", "subject"))
    connection.execute(
        TAKEDOWNS.update().where(TAKEDOWNS.c.request_id == request_id).values(
            state="suppressed", change_number=TAKEDOWNS.c.change_number + 1,
            records_erased=TAKEDOWNS.c.records_erased + records_count,
        )
    )  # fmt: skip


def _subjects_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a late row leaves outside SQL. Its page may stay in the catalog, and the body must go all the same."""
    columns = (
        ("url", "url"), ("body_digest", "blob"), ("input_digest", "blob"), ("page_id", "page"), ("page_id", "owner"),
        ("document_id", "document"), ("pair_id", "pair"), ("subject_id", "document"),
    )  # fmt: skip
    return [(kind, row[column]) for column, kind in columns if row.get(column)]


# ── late rows ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _late_pages(connection: Connection, rows: Rows) -> dict[str, str]:
    return _taken_down(connection, rows, "fetch_id", ("page_id",)) | _suppressed(
        connection, rows, "fetch_id", ("page_id",)
    )


def _late_documents(connection: Connection, rows: Rows) -> dict[str, str]:
    names = ("document_id", "page_id")
    found = _taken_down(connection, rows, "document_id", names) | _suppressed(connection, rows, "document_id", names)
    found |= _taken_down_texts(connection, rows)
    superseded: dict[tuple[str, str], int] = {}
    for part in chunks(row["page_id"] for row in rows):
        for old in connection.execute(SUPERSEDED.select().where(SUPERSEDED.c.page_id.in_(part))):
            superseded[old.page_id, old.body_digest] = old.supersede_time_ms
    for row in rows:
        if row["fetch_time_ms"] <= superseded.get((row["page_id"], row["body_digest"]), -1):
            found.setdefault(row["document_id"], "")
    return found


def _late_pairs(connection: Connection, rows: Rows) -> dict[str, str]:
    found = _suppressed(connection, rows, "pair_id", ("pair_id", "document_id", "page_id"))
    erased = _erased(connection, (row[name] for row in rows for name in ("pair_id", "document_id", "page_id")))
    for row in rows:
        for name in ("pair_id", "document_id", "page_id"):
            until_ms, request_id = erased.get(row[name], (-1, ""))
            if row["fetch_time_ms"] <= until_ms:
                found.setdefault(row["pair_id"], request_id)
    return found


def _late_scores(connection: Connection, rows: Rows) -> dict[str, str]:
    return _orphans(connection, rows, "score_id", ("pair_id", "document_id"))


def _late_reviews(connection: Connection, rows: Rows) -> dict[str, str]:
    """Not those of a pair that an edit superseded: a release may hold it, and people review releases."""
    return _taken_down(connection, rows, "review_id", ("pair_id",))


def _late_drops(connection: Connection, rows: Rows) -> dict[str, str]:
    return _suppressed(connection, rows, "drop_id", ("subject_id",)) | _taken_down(
        connection, rows, "drop_id", ("subject_id",)
    )


def _late_letters(connection: Connection, rows: Rows) -> dict[str, str]:
    return _taken_down(connection, rows, "dead_letter_id", ("input_id", "input_key"))


_LATE_RULES: Mapping[str, Callable[[Connection, Rows], dict[str, str]]] = {
    topics.PAGE_FETCHED.name: _late_pages,
    topics.DOCUMENT_ADMITTED.name: _late_documents,
    topics.PAIR_DRAFTED.name: _late_pairs,
    topics.PAIR_SCORED.name: _late_scores,
    topics.PAIR_REVIEWED.name: _late_reviews,
    topics.RECORD_DROPPED.name: _late_drops,
    **{topic.name: _late_letters for topic in topics.DEAD_LETTERS.values()},
}


def _suppressed(connection: Connection, rows: Rows, id_column: str, names: Sequence[str]) -> dict[str, str]:
    """Ids of rows that the suppression list covers → the takedown that listed them."""
    keys = {
        row[id_column]: suppression_keys(row["url"], urlsplit(row["url"]).netloc, [row[name] for name in names])
        for row in rows
    }
    listed: dict[tuple[str, str], str] = {}
    for part in chunks(target for wanted in keys.values() for _, target in wanted):
        for entry in connection.execute(SUPPRESSIONS.select().where(SUPPRESSIONS.c.target.in_(part))):
            listed[entry.kind, entry.target] = entry.request_id
    hits = {subject: [listed[key] for key in wanted if key in listed] for subject, wanted in keys.items()}
    return {subject: requests[0] for subject, requests in hits.items() if requests}


def _orphans(connection: Connection, rows: Rows, id_column: str, names: Sequence[str]) -> dict[str, str]:
    present = _ids(connection, PAIRS, "pair_id", "pair_id", [row["pair_id"] for row in rows])
    return _requests(connection, [row for row in rows if row["pair_id"] not in present], id_column, names)


def _taken_down(connection: Connection, rows: Rows, id_column: str, names: Sequence[str]) -> dict[str, str]:
    found = _requests(connection, rows, id_column, names)
    return {subject: request_id for subject, request_id in found.items() if request_id}


def _requests(connection: Connection, rows: Rows, id_column: str, names: Sequence[str]) -> dict[str, str]:
    """Ids of rows of which a named subject was erased → the takedown that asked for it, if one did."""
    erased = _erased(connection, (row[name] for row in rows for name in names))
    hits = {row[id_column]: [erased[row[name]][1] for name in names if row[name] in erased] for row in rows}
    return {subject: next(filter(None, requests), "") for subject, requests in hits.items() if requests}


def _taken_down_texts(connection: Connection, rows: Rows) -> dict[str, str]:
    """Ids of documents whose text was taken down from the same page, which may have been fetched or cut anew."""
    found: dict[tuple[str, str], str] = {}
    for part in chunks(row["page_id"] for row in rows):
        where = (ERASURES.c.page_id.in_(part), ERASURES.c.text_digest != "", ERASURES.c.request_id != "")
        for old in connection.execute(ERASURES.select().where(*where)):
            found[old.page_id, old.text_digest] = old.request_id
    texts = {row["document_id"]: (row["page_id"], row["text_digest"]) for row in rows}
    return {document_id: found[text] for document_id, text in texts.items() if text in found}


def _erased(connection: Connection, subjects: Iterable[str]) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    for part in chunks(subjects):
        for row in connection.execute(ERASURES.select().where(ERASURES.c.subject_id.in_(part))):
            found[row.subject_id] = (row.until_time_ms, row.request_id)
    return found


# ── small change ────────────────────────────────────────────────────────────────────────────────────────────────────


def _remember(
    connection: Connection, facts: Iterable[Mapping[str, Any]], *, until_time_ms: int, request_id: str
) -> None:
    noted = {"until_time_ms": until_time_ms, "request_id": request_id}
    rows = sorted(({**row, **noted} for row in facts), key=lambda row: str(row["subject_id"]))
    upsert(connection, ERASURES, rows, key=("subject_id",), only_if_newer="until_time_ms")


def _erase(connection: Connection, topic: Topic, ids: Collection[str]) -> int:
    """Delete the rows of `ids` and queue their tombstones; returns how many rows there were."""
    table = _table_of(topic)
    deletes = [table.delete().where(table.c[_id_column(table)].in_(part)) for part in chunks(ids)]
    bury(connection, topic, ids)
    return sum(connection.execute(delete).rowcount for delete in deletes)


def _table_of(topic: Topic) -> Any:
    return next(item.table for item in tables.PROJECTIONS if item.topic == topic)


def _id_column(table: Any) -> str:
    return str(table.primary_key.columns[0].name)


def _ids(connection: Connection, table: Any, wanted: str, column: str, values: Iterable[str]) -> set[str]:
    """Values of `wanted` in the rows of `table` whose `column` is one of `values`."""
    found: set[str] = set()
    for part in chunks(values):
        query = table.select().with_only_columns(table.c[wanted]).where(table.c[column].in_(part))
        found.update(connection.execute(query).scalars())
    return found - {""}


def _of_stage(connection: Connection, stage: str, letters: Collection[str]) -> set[str]:
    found: set[str] = set()
    for part in chunks(letters):
        query = DEAD_LETTERS.select().where(DEAD_LETTERS.c.dead_letter_id.in_(part), DEAD_LETTERS.c.stage == stage)
        found.update(row.dead_letter_id for row in connection.execute(query))
    return found
