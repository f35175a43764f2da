"""Stories over a real port: what is told of a page, a document, a pair, and of what reviewers left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import builders
from curation_house import House, refused, releases
from xinstruct.curation import folder, tables
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.funnel import read_funnel
from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.spine.messages import FetchedPage, LabelReading
from xinstruct.spine.topics import (
    DEAD_LETTERS,
    PAGE_FETCHED,
    PAIR_DRAFTED,
    PAIR_REVIEWED,
    PAIR_SCORED,
    RECORD_DROPPED,
    TAKEDOWN_REQUESTED,
)
from xinstruct.v1 import curation_service_pb2 as pb

pytestmark = pytest.mark.both_databases

Stub = Any


def told(stub: Stub, subject: str) -> list[str]:
    """What a story says happened, stage by stage."""
    story = stub.GetStory(pb.GetStoryRequest(subject=subject), timeout=5)
    return [f"{event.stage}: {event.happened}" for event in story.events]


@pytest.mark.parametrize("subject", ["http://nyumbani.example/sw0001", "page-sw0001", "document-sw0001", "pair-sw0001"])
def test_every_name_of_a_thing_tells_its_whole_story(stocked: House, stub: Stub, subject: str) -> None:
    release = stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1"), timeout=30)
    assert told(stub, subject) == [
        "fetch: fetched with status 200", "admit: admitted", "backgen: drafted", "scoring: scored: kept by selection",
        f"release: published in {release.name}",
    ]


def test_a_story_says_how_each_score_was_read(stocked: House, stub: Stub) -> None:
    voted = builders.score(score_id="voted", pair_id="pair-sw0001", reading=LabelReading.VOTE, votes_count=5)
    stocked.write(PAIR_SCORED, voted)
    stocked.settle()
    events = stub.GetStory(pb.GetStoryRequest(subject="pair-sw0001"), timeout=5).events
    scored = {e.facts["score_id"]: e.facts for e in events if e.stage == "scoring"}
    assert {score_id: facts["reading"] for score_id, facts in scored.items()} == {
        "score-sw0001": "log_probability", "voted": "vote",
    }
    assert scored["voted"]["votes_count"] == "5" and "votes_count" not in scored["score-sw0001"]


def test_a_story_says_why_something_is_gone(stocked: House, stub: Stub) -> None:
    stocked.write(RECORD_DROPPED, builders.drop(subject_id="page-x", url="http://x.example/", reason="too_short"))
    stocked.write(DEAD_LETTERS["backgen"], builders.dead_letter(input_id="document-y", reason="unanswerable"))
    stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1", name="one"), timeout=30)
    assert told(stub, "http://x.example/") == told(stub, "page-x") == ["admit: dropped: too_short"]
    assert told(stub, "document-y") == ["backgen: dead letter: unanswerable"]
    assert told(stub, "pair-sw0050")[-2:] == [
        "scoring: scored: not kept, not best",
        "release: not in one: another label is likelier than best (P(best) 0.300000)",
    ]
    refused(lambda: stub.GetStory(pb.GetStoryRequest(subject="nothing"), timeout=5), NotFound, "nothing is known")


def test_a_story_remembers_takedowns_and_edits(stocked: House, stub: Stub) -> None:
    (page,) = [row for row in stocked.rows(tables.PAGES) if row["page_id"] == "page-sw0002"]
    stocked.write(PAGE_FETCHED, builders.page(
        fetch_id="later", page_id="page-sw0002", url=page["url"], fetch_number=2, status=410, body_digest="",
        superseded_body_digest=page["body_digest"], fetch_time_ms=builders.NOW_MS + 5, failure="gone"))
    stocked.write(TAKEDOWN_REQUESTED, builders.takedown(target="http://nyumbani.example/sw0001"))
    stocked.settle()
    assert told(stub, "http://nyumbani.example/sw0001") == ["curation: suppressed by a takedown, erased"]
    assert told(stub, "document-sw0001") == ["curation: suppressed by a takedown, erased"]
    (event,) = stub.GetStory(pb.GetStoryRequest(subject="document-sw0001"), timeout=5).events
    assert event.facts["kind"] == "url"
    assert told(stub, "document-sw0002")[-1] == "curation: superseded by a later fetch of its page"
    assert told(stub, "page-sw0002") == [
        "fetch: fetched with status 200",
        "fetch: not fetched: gone; what was derived from its earlier body is superseded",
    ]


def test_a_story_names_the_releases_that_still_hold_what_is_gone(stocked: House, stub: Stub) -> None:
    stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1", name="one"), timeout=30)
    url = "http://nyumbani.example/sw000{}"
    (page,) = [row for row in stocked.rows(tables.PAGES) if row["page_id"] == "page-sw0002"]
    stocked.write(PAGE_FETCHED, builders.page(
        fetch_id="later", page_id="page-sw0002", url=page["url"], fetch_number=2, status=410, body_digest="",
        superseded_body_digest=page["body_digest"], fetch_time_ms=builders.NOW_MS + 5, failure="gone"))
    stocked.write(TAKEDOWN_REQUESTED, builders.takedown(target=url.format(1)))
    stocked.settle()
    stub.PublishRelease(pb.PublishReleaseRequest(request_id="r2", name="two"), timeout=30)
    for number in (1, 2):
        story = told(stub, url.format(number))
        assert [line for line in story if "release" in line] == ["release: published in one, which still holds it"]
    listed = stub.ListReleases(pb.ListReleasesRequest(), timeout=5).releases
    assert [(release.name, release.rows_gone) for release in listed] == [("two", 0), ("one", 2)]
    assert stub.GetRelease(pb.GetReleaseRequest(name="one"), timeout=5).rows_gone == 2


def test_an_id_is_known_by_a_start_that_no_other_has(stocked: House, stub: Stub) -> None:
    first, second = ("b70c56ccdf65" + "0" * 20, "b70c56ccdf66" + "0" * 20)
    for number, pair_id in enumerate((first, second)):
        stocked.write(PAIR_DRAFTED, builders.pair(pair_id=pair_id, document_id=f"document-sw000{number}"))
    stocked.settle()
    events = stub.GetStory(pb.GetStoryRequest(subject="b70c56ccdf65"), timeout=5).events
    assert [event.subject_id for event in events] == ["document-sw0000", first]
    refused(lambda: told(stub, "b70c56ccdf6"), Invalid, "several ids start with 'b70c56ccdf6'")
    refused(lambda: told(stub, "b70c56ccdf77"), NotFound, "nothing is known")


def test_what_reviewers_call_worst_is_left_out_of_the_next_release(stocked: House, stub: Stub) -> None:
    stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1", name="one"), timeout=30)
    given = {"pair-sw0001": "best worst", "pair-ur0001": "worst best reasonable", "pair-sw0002": "worst"}
    stub.SubmitReviews(pb.SubmitReviewsRequest(reviews=[
        pb.Review(pair_id=pair_id, reviewer=f"r{n}", label=label)
        for pair_id, labels in given.items() for n, label in enumerate(labels.split())
    ]), timeout=5)
    stub.SubmitReviews(pb.SubmitReviewsRequest(
        reviews=[pb.Review(pair_id="pair-sw0002", reviewer="r0", label="best")]), timeout=5)
    release = stub.PublishRelease(pb.PublishReleaseRequest(request_id="r2", name="two"), timeout=30)
    _, described = folder.read_manifest(release.location)
    assert described["recipe"]["reviewed_worst"] == "drop"
    assert described["funnel"]["sw"] == {"published": 5, "not_best": 2, "reviewed_worst": 1}
    assert described["funnel"]["ur"] == {"published": 4}
    (sw, ur) = stub.DiffReleases(pb.DiffReleasesRequest(name="two", other_name="one"), timeout=5).languages
    assert (sw.removed_ids, sw.removed_reasons) == (["pair-sw0001"], {"reviewed_worst": 1})
    assert (ur.removed_ids, ur.removed_reasons) == ([], {})
    story = told(stub, "pair-sw0001")
    assert "scoring: scored: not kept, reviewed worst" in story
    assert story[-1] == "release: not in two: 1 of 2 of its reviewers label it worst"
    assert not stub.GetRow(pb.GetRowRequest(pair_id="pair-sw0001"), timeout=5).kept
    assert [row.pairs_kept for row in stub.GetFunnel(pb.GetFunnelRequest(), timeout=5).languages] == [5, 4]
    sample = b"".join(c.content for c in stub.ExportReviews(pb.ExportReviewsRequest(format="jsonl"), timeout=5))
    assert b"pair-sw0001" in sample, "every reviewer is given the same rows"


def test_what_reviewers_call_worst_may_be_kept(tmp_path: Path) -> None:
    house = House(tmp_path, CurationSettings(reviewed_worst="keep"))
    house.promote()
    house.publishable(2)
    house.write(PAIR_REVIEWED, builders.review(pair_id="pair-sw0001", label="worst"))
    release = releases(house).publish("r1")
    assert release.pairs_count == 2 and read_funnel(house.database, house.settings).languages[0].pairs_kept == 2
    house.close()


def bad_row(number: int, file: str = "/data/rows.jsonl") -> FetchedPage:
    """A row of a text file that has no text."""
    return builders.page(
        fetch_id=f"{file}{number}", page_id=f"page {file}{number}", url=f"{file}#row={number}", host="file", status=0,
        failure="malformed_row", body_digest="", detail=f"not JSON, {number}")


def test_a_file_s_story_is_its_own_and_that_of_its_bad_rows(stocked: House, stub: Stub) -> None:
    file = "/data/rows.jsonl"
    stocked.write(PAGE_FETCHED, bad_row(2), bad_row(1), bad_row(1, "/data/rows.jsonl2"), builders.page(
        fetch_id="file", page_id="page-file", url=file, fetch_number=3, status=0, failure="malformed_listing",
        body_digest="", detail="no column 'text'"))
    stocked.write(RECORD_DROPPED, builders.drop(
        drop_id="1", subject_id=bad_row(1).page_id, url=f"{file}#row=1", reason="malformed_row", stage="admit",
        evidence={"detail": "not JSON, 1"}))
    stocked.settle()
    for place in (f"{file}#row=1", bad_row(1).page_id):
        assert told(stub, place) == ["fetch: not fetched: malformed_row", "admit: dropped: malformed_row"]
    events = stub.GetStory(pb.GetStoryRequest(subject=file), timeout=5).events
    assert sorted((event.happened, event.facts.get("detail", event.facts.get("evidence", ""))) for event in events) == [
        ("dropped: malformed_row", '{"detail":"not JSON, 1"}'), ("not fetched: malformed_listing", "no column 'text'"),
        ("not fetched: malformed_row", "not JSON, 1"), ("not fetched: malformed_row", "not JSON, 2"),
    ]


def test_the_story_of_a_file_of_bad_rows_is_bounded(stocked: House, stub: Stub) -> None:
    stocked.write(PAGE_FETCHED, *(bad_row(number) for number in range(150)))
    stocked.settle()
    events = told(stub, "/data/rows.jsonl")
    assert events[0] == "fetch: 150 rows without a text; the first 100 are told here"
    assert events[1:] == ["fetch: not fetched: malformed_row"] * 100
