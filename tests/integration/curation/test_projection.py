"""The catalog follows the log: upserts, tombstones, edits, late rows, and a replay from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import builders
from curation_house import CATALOG, CHAIN, House
from xinstruct.curation import tables
from xinstruct.curation.projection import CatalogProjection
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.record import Record
from xinstruct.spine.sql import transaction
from xinstruct.spine.topics import (
    DEAD_LETTERS,
    DOCUMENT_ADMITTED,
    PAGE_FETCHED,
    PAIR_DRAFTED,
    PAIR_REVIEWED,
    PAIR_SCORED,
    RECORD_DROPPED,
    TAKEDOWN_REQUESTED,
)

pytestmark = pytest.mark.both_databases

NOW = builders.NOW_MS


def test_a_record_becomes_a_row_with_its_place(house: House) -> None:
    house.write(PAIR_DRAFTED, builders.pair(mean_log_probability=float("nan")))
    house.settle()
    (row,) = house.rows(tables.PAIRS)
    (record,) = house.log.read(PAIR_DRAFTED, {})
    assert (row["log_partition"], row["log_offset"]) == (record.partition, record.offset)
    assert row["instruction"] == builders.INSTRUCTION and row["mean_log_probability"] is None


def test_a_later_record_of_an_id_replaces_the_row(house: House) -> None:
    house.write(PAIR_DRAFTED, builders.pair(), builders.pair(instruction="Newer."))
    house.settle()
    house.write(PAIR_DRAFTED, builders.pair(instruction="Newest."))
    house.settle()
    assert [row["instruction"] for row in house.rows(tables.PAIRS)] == ["Newest."]


def test_a_tombstone_deletes_and_a_later_record_returns(house: House) -> None:
    house.write(PAIR_DRAFTED, builders.pair())
    house.settle()
    house.bury(PAIR_DRAFTED, "c" * 32)
    house.settle()
    assert house.rows(tables.PAIRS) == []
    house.bury(PAIR_DRAFTED, "c" * 32)
    house.write(PAIR_DRAFTED, builders.pair())
    house.settle()
    assert house.ids(tables.PAIRS) == ["c" * 32]


def test_a_repeated_fetch_is_one_row(house: House) -> None:
    house.write(PAGE_FETCHED, builders.page(), builders.page())
    house.settle()
    assert house.ids(tables.PAGES) == ["f" * 32]


def test_a_text_with_nul_does_not_stop_the_catalog(house: House) -> None:
    house.write(PAIR_DRAFTED, builders.pair(response="a\0b"))
    house.settle()
    assert house.rows(tables.PAIRS)[0]["response"] == "a\ufffdb"


def test_what_is_no_payload_becomes_a_dead_letter_and_neighbours_are_read(house: House) -> None:
    house.log.append([Record(PAIR_DRAFTED.name, "broken", "broken", b"\xff\xff")])
    house.write(PAIR_DRAFTED, builders.pair())
    house.settle()
    assert house.ids(tables.PAIRS) == ["c" * 32]
    (letter,) = house.rows(tables.DEAD_LETTERS)
    assert (letter["input_id"], letter["reason"], letter["stage"]) == ("broken", "invalid", "curation")
    assert house.blobs.get(letter["input_digest"]) == b"\xff\xff"


def test_dead_letters_of_every_stage_are_projected(house: House) -> None:
    for stage, topic in DEAD_LETTERS.items():
        house.write(topic, builders.dead_letter(dead_letter_id=f"letter-{stage}", stage=stage))
    house.settle()
    assert {row["stage"] for row in house.rows(tables.DEAD_LETTERS)} == set(DEAD_LETTERS)


def edited(name: str, *, at_ms: int, old: str, new: str) -> Any:
    """A later fetch of a page whose body changed."""
    url = f"http://{builders.HOST}/{name}"
    return builders.page(
        fetch_id=f"fetch-{name}-{at_ms}", page_id=f"page-{name}", url=url, fetch_time_ms=at_ms, fetch_number=2,
        body_digest=new, superseded_body_digest=old,
    )


def body_of(house: House, name: str) -> str:
    documents = {row["document_id"]: row for row in house.rows(tables.DOCUMENTS)}
    return str(documents[f"document-{name}"]["body_digest"])


def test_an_edit_supersedes_what_was_derived_and_leaves_the_neighbours(house: House) -> None:
    house.publishable(3)
    house.settle()
    house.write(PAGE_FETCHED, edited("sw0001", at_ms=NOW + 10, old=body_of(house, "sw0001"), new=builders.digest("9")))
    house.settle()
    assert house.ids(tables.PAIRS) == ["pair-sw0000", "pair-sw0002"]
    assert house.ids(tables.SCORES) == ["score-sw0000", "score-sw0002"]
    for topic, name in ((DOCUMENT_ADMITTED, "document"), (PAIR_DRAFTED, "pair"), (PAIR_SCORED, "score")):
        assert house.values(topic)[f"{name}-sw0001"] is None
        assert house.values(topic)[f"{name}-sw0000"] is not None


def test_what_a_slow_stage_writes_about_a_superseded_body_is_turned_away(house: House) -> None:
    house.publishable(1)
    house.settle()
    late_score = builders.score(score_id="late", pair_id="late-pair", document_id="document-sw0000")
    late_pair = builders.pair(pair_id="late-pair", document_id="document-sw0000", page_id="page-sw0000")
    document = next(r for r in house.rows(tables.DOCUMENTS))
    again = tables.payload_of(type(builders.document()), document)
    house.write(PAGE_FETCHED, edited("sw0000", at_ms=NOW + 10, old=body_of(house, "sw0000"), new=""))
    house.settle()
    house.write(DOCUMENT_ADMITTED, replace(again, document_id="document-late"))
    house.write(PAIR_DRAFTED, late_pair)
    house.write(PAIR_SCORED, late_score)
    house.settle()
    assert [house.ids(table) for table in (tables.DOCUMENTS, tables.PAIRS, tables.SCORES)] == [[], [], []]
    assert house.values(DOCUMENT_ADMITTED)["document-late"] is None
    assert house.values(PAIR_DRAFTED)["late-pair"] is None
    assert house.values(PAIR_SCORED)["late"] is None


def test_a_page_that_returns_to_an_old_body_has_its_documents_again(house: House) -> None:
    house.publishable(1)
    house.settle()
    body = body_of(house, "sw0000")
    document = tables.payload_of(type(builders.document()), house.rows(tables.DOCUMENTS)[0])
    pair = tables.payload_of(type(builders.pair()), house.rows(tables.PAIRS)[0])
    house.write(PAGE_FETCHED, edited("sw0000", at_ms=NOW + 10, old=body, new=builders.digest("9")))
    house.settle()
    house.write(PAGE_FETCHED, edited("sw0000", at_ms=NOW + 20, old=builders.digest("9"), new=body))
    house.write(DOCUMENT_ADMITTED, replace(document, fetch_time_ms=NOW + 20))
    house.write(PAIR_DRAFTED, replace(pair, fetch_time_ms=NOW + 20))
    house.settle()
    assert house.ids(tables.DOCUMENTS) == ["document-sw0000"] and house.ids(tables.PAIRS) == ["pair-sw0000"]


def test_replaying_the_log_into_empty_tables_gives_the_same_tables(house: House) -> None:
    house.publishable(5)
    house.publishable(2, first=5, host="gone.example")
    house.write(RECORD_DROPPED, builders.drop())
    house.settle()
    house.write(PAGE_FETCHED, edited("sw0001", at_ms=NOW + 10, old=body_of(house, "sw0001"), new=builders.digest("9")))
    house.write(TAKEDOWN_REQUESTED, builders.takedown(kind=builders.TakedownKind.HOST, target="gone.example"))
    house.settle()
    watched = (*CATALOG, tables.DROPS, tables.SUPERSEDED, tables.SUPPRESSIONS)
    before = {table.name: house.rows(table) for table in watched}
    for compacted in (False, True):
        if compacted:
            for topic in (*CHAIN, RECORD_DROPPED, TAKEDOWN_REQUESTED):
                house.log.compact(topic, NOW)
        with transaction(house.database) as connection:
            for table in tables.METADATA.tables.values():
                connection.execute(table.delete())
        house.settle()
        after = {table.name: house.rows(table) for table in watched}
        for rows in (*before.values(), *after.values()):
            for row in rows:
                row.pop("suppress_time_ms", None)
        assert after == before


def test_two_projections_of_one_catalog_do_not_undo_each_other(house: House) -> None:
    house.publishable(20)
    one, two = (
        CatalogProjection(house.log, house.database, house.blobs, clock=house.clock, records_max=7) for _ in range(2)
    )
    house.bury(PAIR_DRAFTED, "pair-sw0003")
    while one.pending() or two.pending():
        one.step()
        two.step()
    assert len(house.ids(tables.PAIRS)) == 19 and len(house.ids(tables.SCORES)) == 20
    assert not one.pending() and not two.pending()


def test_catching_up_has_a_limit(house: House) -> None:
    house.publishable(3)
    projection = CatalogProjection(house.log, house.database, house.blobs, clock=house.clock, records_max=1)
    with pytest.raises(Unavailable, match="behind the log"):
        projection.catch_up(within_s=0)


def test_a_review_of_a_released_pair_counts_though_its_page_was_edited_since(house: House) -> None:
    house.publishable(1)
    house.settle()
    house.write(PAGE_FETCHED, edited("sw0000", at_ms=NOW + 10, old=body_of(house, "sw0000"), new=builders.digest("9")))
    house.settle()
    house.write(PAIR_REVIEWED, builders.review(review_id="review-0", pair_id="pair-sw0000"))
    house.settle()
    assert house.ids(tables.REVIEWS) == ["review-0"]
    house.write(TAKEDOWN_REQUESTED, builders.takedown(target=f"http://{builders.HOST}/sw0000"))
    house.write(PAIR_REVIEWED, builders.review(review_id="review-late", pair_id="pair-sw0000"))
    house.settle()
    assert house.ids(tables.REVIEWS) == [] and house.values(PAIR_REVIEWED)["review-late"] is None
