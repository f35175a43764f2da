"""CurationService over a real port: rows, stories, counts, reviews, takedowns, dead letters, garbage."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import builders
from curation_house import EVALUATOR, House, refused
from xinstruct.curation import tables
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.funnel import read_funnel
from xinstruct.spine.errors import Conflict, Invalid, NotFound
from xinstruct.spine.record import FOR_GROUP_HEADER, Record
from xinstruct.spine.topics import (
    DEAD_LETTERS,
    DOCUMENT_ADMITTED,
    PAIR_DRAFTED,
    PAIR_SCORED,
    RECORD_DROPPED,
)
from xinstruct.v1 import curation_service_pb2 as pb

pytestmark = pytest.mark.both_databases

Stub = Any


def listed(stub: Stub, **request: Any) -> list[Any]:
    """All rows, three a page."""
    rows: list[Any] = []
    token = ""
    while True:
        page = stub.ListRows(pb.ListRowsRequest(page_size=3, page_token=token, **request), timeout=5)
        rows += page.rows
        token = page.next_page_token
        if not token:
            return rows


def test_a_row_carries_pair_scores_reviews_and_the_verdict(stocked: House, stub: Stub) -> None:
    row = stub.GetRow(pb.GetRowRequest(pair_id="pair-sw0001"), timeout=5)
    assert row.pair.response.startswith("Habari za sw0001") and row.kept
    assert [score.evaluator_digest for score in row.scores] == [EVALUATOR]
    assert not stub.GetRow(pb.GetRowRequest(pair_id="pair-sw0050"), timeout=5).kept


def test_pages_of_rows_hold_each_row_once_in_order(stocked: House, stub: Stub) -> None:
    everything = [row.pair.pair_id for row in listed(stub)]
    assert everything == sorted(everything) and len(everything) == 12
    assert len(listed(stub, kept_only=True)) == 10
    assert [row.pair.language for row in listed(stub, language="ur", kept_only=True)] == ["ur"] * 4


def test_documents_are_listed_without_their_signatures(stocked: House, stub: Stub) -> None:
    page = stub.ListDocuments(pb.ListDocumentsRequest(language="ur", page_size=3), timeout=5)
    rest = stub.ListDocuments(
        pb.ListDocumentsRequest(language="ur", page_size=3, page_token=page.next_page_token), timeout=5)
    found = [*page.documents, *rest.documents]
    assert [document.document_id for document in found] == [f"document-ur{i:04d}" for i in range(4)]
    assert all(document.text and not document.signature for document in found)


def test_a_foreign_page_token_and_an_unknown_row_are_refused(stocked: House, stub: Stub) -> None:
    refused(lambda: stub.ListRows(pb.ListRowsRequest(page_token="%%%"), timeout=5), Invalid, "page_token")
    refused(lambda: stub.ListRows(pb.ListRowsRequest(page_token="WzFd"), timeout=5), Invalid, "page_token")
    odd = "WyJ4IiwgIiJd"  # ["x", ""]: a time that is none
    refused(lambda: stub.ListTakedowns(pb.ListTakedownsRequest(page_token=odd), timeout=5), Invalid, "page_token")
    refused(lambda: stub.ListReleases(pb.ListReleasesRequest(page_token=odd), timeout=5), Invalid, "page_token")
    refused(lambda: stub.ListRows(pb.ListRowsRequest(page_size=1001), timeout=5), Invalid, "page_size")
    refused(lambda: stub.GetRow(pb.GetRowRequest(pair_id="x"), timeout=5), NotFound, "no pair 'x'")


def test_the_funnel_counts_every_step(stocked: House, stub: Stub) -> None:
    stocked.write(RECORD_DROPPED, builders.drop(), builders.drop(drop_id="2", ordinal=1))
    stocked.write(DEAD_LETTERS["backgen"], builders.dead_letter())
    stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1"), timeout=30)
    funnel = stub.GetFunnel(pb.GetFunnelRequest(), timeout=5)
    sw, ur = funnel.languages
    assert (sw.language, sw.pages_fetched, sw.documents_admitted, sw.pairs_drafted) == ("sw", 8, 8, 8)
    assert (sw.pairs_scored, sw.pairs_kept, sw.pairs_published) == (8, 6, 6)
    assert (ur.language, ur.pairs_kept, ur.pairs_published) == ("ur", 4, 4)
    assert dict(funnel.dropped) == {"admit/too_short": 2} and dict(funnel.dead_letters) == {"backgen": 1}


def test_kept_in_the_funnel_is_kept_by_the_language_threshold(tmp_path: Path) -> None:
    house = House(tmp_path, CurationSettings(best_thresholds={"ur": 0.95}))
    house.promote()
    house.publishable(2)
    house.publishable(2, language="ur")
    house.settle()
    found = {counts.language: counts.pairs_kept for counts in read_funnel(house.database, house.settings).languages}
    assert found == {"sw": 2, "ur": 0}
    house.close()


def test_a_release_goes_through_its_life_over_the_wire(stocked: House, stub: Stub) -> None:
    older = stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1"), timeout=30)
    assert stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1"), timeout=30) == older
    stocked.bury(DOCUMENT_ADMITTED, "document-sw0003")
    newer = stub.PublishRelease(pb.PublishReleaseRequest(request_id="r2"), timeout=30)
    first = stub.ListReleases(pb.ListReleasesRequest(page_size=1), timeout=5)
    second = stub.ListReleases(pb.ListReleasesRequest(page_size=1, page_token=first.next_page_token), timeout=5)
    assert [first.releases[0], second.releases[0]] == [newer, older] and not second.next_page_token
    assert stub.GetRelease(pb.GetReleaseRequest(name=older.name), timeout=5) == older
    check = stub.VerifyRelease(pb.VerifyReleaseRequest(name=older.name), timeout=5)
    assert (list(check.problems), check.files_count) == ([], 4)
    diff = stub.DiffReleases(pb.DiffReleasesRequest(name=newer.name, other_name=older.name), timeout=5)
    assert [list(item.removed_ids) for item in diff.languages] == [["pair-sw0003"], []]
    chunks = stub.ExportRelease(pb.ExportReleaseRequest(name=newer.name, format="jsonl", language="ur"), timeout=30)
    assert len(b"".join(chunk.content for chunk in chunks).splitlines()) == 4
    rebuild = pb.RebuildReleaseRequest(name=newer.name)
    refused(lambda: stub.RebuildRelease(rebuild, timeout=30), Conflict, "there already")
    odd = pb.ExportReleaseRequest(name=newer.name, format="x")
    refused(lambda: list(stub.ExportRelease(odd, timeout=5)), Invalid, "one of")


def test_publishing_without_an_evaluator_is_a_failed_precondition(house: House, stub: Stub) -> None:
    refused(lambda: stub.PublishRelease(pb.PublishReleaseRequest(request_id="r"), timeout=9), Conflict, "no evaluator")


def exported(stub: Stub, **request: Any) -> bytes:
    return b"".join(chunk.content for chunk in stub.ExportReviews(pb.ExportReviewsRequest(**request), timeout=30))


def test_two_reviewers_label_and_the_card_reports_their_agreement(stocked: House, stub: Stub) -> None:
    lines = [json.loads(line) for line in exported(stub, format="jsonl", rows_max=3).splitlines()]
    assert [line["language"] for line in lines] == ["sw"] * 3 + ["ur"] * 3
    assert {"pair_id", "instruction", "response", "url", "label", "tags"} <= lines[0].keys()
    for reviewer, labels in (("r-1", ["best"] * 6), ("r-2", ["best", "worst"] * 3)):
        content = "\n".join(json.dumps(line | {"label": label}) for line, label in zip(lines, labels, strict=True))
        stored = stub.ImportReviews(
            pb.ImportReviewsRequest(format="jsonl", reviewer=reviewer, content=content.encode()), timeout=5)
        assert stored.reviews_count == 6
    release = stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1"), timeout=30)
    card = (Path(release.location) / "README.md").read_text()
    assert "Not reviewed by speakers" not in card
    assert "- Reviewed, sw: 3 rows by 2 reader(s), labels: 5 best, 1 worst. Two raters on 3 rows: 67% equal" in card
    row = stub.GetRow(pb.GetRowRequest(pair_id=lines[1]["pair_id"]), timeout=5)
    assert {item.reviewer: item.label for item in row.reviews} == {"r-1": "best", "r-2": "worst"}
    again = exported(stub, format="jsonl", rows_max=3, release=release.name, language="sw")
    assert re.search(r"\| sw \| Swahili \| 5 \| \d \| 1 \| 2 \|", card) and "1 of them are left out." in card
    kept = [lines[0]["pair_id"], lines[2]["pair_id"], "pair-sw0003"]
    assert [json.loads(line)["pair_id"] for line in again.splitlines()] == kept


def test_a_file_with_mistakes_stores_nothing(stocked: House, stub: Stub) -> None:
    content = b"pair_id,label\npair-sw0000,best\npair-none,best\npair-sw0001,good\n"
    request = pb.ImportReviewsRequest(format="csv", reviewer="r-1", content=content)
    words = "line 3: no pair 'pair-none' in the catalog\nline 4:"
    refused(lambda: stub.ImportReviews(request, timeout=5), Invalid, words)
    stocked.settle()
    assert stocked.rows(tables.REVIEWS) == []


def test_a_file_without_a_row_to_review_is_refused(stocked: House, stub: Stub) -> None:
    refused(lambda: exported(stub, format="csv", release="none"), NotFound, "`xinstruct release list` shows")
    refused(lambda: exported(stub, format="x", language="fi"), Invalid, "format 'x'")
    refused(lambda: exported(stub, format="csv", language="fi"), NotFound, "no row of language 'fi' in what selection")
    release = stub.PublishRelease(pb.PublishReleaseRequest(request_id="r1"), timeout=30)
    words = f"no row of language 'fi' in release '{release.name}'"
    refused(lambda: exported(stub, format="csv", release=release.name, language="fi"), NotFound, words)


def test_half_a_character_in_a_file_is_a_mistake_of_its_line(stocked: House, stub: Stub) -> None:
    content = b'{"pair_id": "pair-sw0000", "label": "best"}\n{"pair_id": "\\ud83d", "label": "best"}\n'
    request = pb.ImportReviewsRequest(format="jsonl", reviewer="r-1", content=content)
    refused(lambda: stub.ImportReviews(request, timeout=5), Invalid, "line 2: half of a surrogate pair")
    stocked.settle()
    assert stocked.rows(tables.REVIEWS) == []


def test_labels_are_checked_one_by_one(stocked: House, stub: Stub) -> None:
    good = pb.Review(pair_id="pair-sw0000", reviewer="r-1", label="best", tags=["fluent"])
    assert stub.SubmitReviews(pb.SubmitReviewsRequest(reviews=[good]), timeout=5).reviews_count == 1
    bad = [good, pb.Review(pair_id="x", reviewer="Ann B", label="", tags=["A b"])]
    both = pb.SubmitReviewsRequest(reviews=bad)
    refused(lambda: stub.SubmitReviews(both, timeout=5), Invalid, "review 1: no pair 'x'")
    refused(lambda: stub.SubmitReviews(pb.SubmitReviewsRequest(), timeout=5), Invalid, "1–1000")


def submitted(stub: Stub, **changes: Any) -> Any:
    values: dict[str, Any] = {"request_id": "t1", "kind": 1, "target": "http://nyumbani.example/sw0001"}
    return stub.SubmitTakedown(pb.SubmitTakedownRequest(**(values | changes)), timeout=5)


def test_a_takedown_is_invisible_at_once_and_erased_soon(stocked: House, stub: Stub) -> None:
    answer = submitted(stub)
    assert (answer.state, answer.records_erased) == ("suppressed", 4)
    assert len(listed(stub)) == 11
    events = stub.WatchTakedown(pb.WatchTakedownRequest(request_id="t1"))
    seen = next(events)
    assert seen.takedown.state == "suppressed"
    stocked.settle()
    assert [event.takedown.state for event in events][-1] == "erased"
    resumed = list(stub.WatchTakedown(pb.WatchTakedownRequest(request_id="t1", page_token=seen.page_token)))
    assert [event.takedown.state for event in resumed] == ["erased"]
    done = pb.WatchTakedownRequest(request_id="t1", page_token=resumed[0].page_token)
    assert list(stub.WatchTakedown(done)) == []


def test_a_takedown_names_the_reports_that_hold_it(stocked: House, stub: Stub) -> None:
    reports = stocked.home / "reports"
    (reports / "run-1").mkdir(parents=True)
    (reports / "run-1" / "report.html").write_text("<td>http://nyumbani.example/sw0001</td>")
    (reports / "report.json").write_text('["http://nyumbani.example/sw0002"]')
    submitted(stub)
    stocked.settle()
    seen = stub.GetTakedown(pb.GetTakedownRequest(request_id="t1"), timeout=5)
    assert list(seen.reports_affected) == ["run-1/report.html"]


def test_a_takedown_request_is_repeatable_and_not_reusable(stocked: House, stub: Stub) -> None:
    submitted(stub)
    stocked.settle()
    assert submitted(stub).state == "erased"
    refused(lambda: submitted(stub, target="http://nyumbani.example/sw0002"), Conflict, "asked to take down")
    submitted(stub, request_id="t2", target="http://nyumbani.example/sw0003")
    page = stub.ListTakedowns(pb.ListTakedownsRequest(page_size=1), timeout=5)
    rest = stub.ListTakedowns(pb.ListTakedownsRequest(page_size=5, page_token=page.next_page_token), timeout=5)
    assert [item.request_id for item in (*page.takedowns, *rest.takedowns)] == ["t2", "t1"]
    assert stub.GetTakedown(pb.GetTakedownRequest(request_id="t1"), timeout=5).state == "erased"
    refused(lambda: stub.GetTakedown(pb.GetTakedownRequest(request_id="x"), timeout=5), NotFound, "no takedown")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"kind": 0}, "kind"), ({"target": " "}, "target"), ({"target": "no url"}, "absolute URL"),
     ({"request_id": ""}, "request_id"), ({"reason": "x" * 501}, "reason")],
)  # fmt: skip
def test_a_malformed_takedown_is_refused(stocked: House, stub: Stub, changes: dict[str, Any], words: str) -> None:
    refused(lambda: submitted(stub, **changes), Invalid, words)


def rejected(house: House, name: str) -> bytes:
    """A dead letter of backgen with its original; returns the original."""
    original = builders.document(document_id=name).encode()
    letter = builders.dead_letter(
        dead_letter_id=f"letter-{name}", input_id=name, input_key=name, input_digest=house.blobs.put(original))
    house.write(DEAD_LETTERS["backgen"], letter)
    return original


def test_a_dead_letter_is_listed_and_replayed_for_its_own_group(stocked: House, stub: Stub) -> None:
    originals = {name: rejected(stocked, name) for name in ("d1", "d2", "d3")}
    stocked.settle()
    first = stub.ListDeadLetters(pb.ListDeadLettersRequest(stage="backgen", page_size=2), timeout=5)
    rest = stub.ListDeadLetters(
        pb.ListDeadLettersRequest(stage="backgen", page_size=2, page_token=first.next_page_token), timeout=5)
    assert sorted(letter.input_id for letter in (*first.dead_letters, *rest.dead_letters)) == ["d1", "d2", "d3"]
    done = stub.ReplayDeadLetters(
        pb.ReplayDeadLettersRequest(stage="backgen", dead_letter_ids=["letter-d2"]), timeout=5)
    assert done.replayed_count == 1
    again = [record for record in stocked.log.read(DOCUMENT_ADMITTED, {}) if record.id == "d2"]
    assert [(record.value, record.headers) for record in again] == [(originals["d2"], {FOR_GROUP_HEADER: "backgen"})]
    stocked.settle()
    assert stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(stage="backgen"), timeout=5).replayed_count == 2
    stocked.settle()
    assert stub.ReplayDeadLetters(pb.ReplayDeadLettersRequest(stage="backgen"), timeout=5).replayed_count == 0


def test_unknown_stages_and_letters_are_refused(stocked: House, stub: Stub) -> None:
    refused(lambda: stub.ListDeadLetters(pb.ListDeadLettersRequest(stage="x"), timeout=5), Invalid, "one of fetch")
    request = pb.ReplayDeadLettersRequest(stage="backgen", dead_letter_ids=["x"])
    refused(lambda: stub.ReplayDeadLetters(request, timeout=5), Invalid, "no dead letter x")


def test_garbage_is_named_first_and_erased_then(stocked: House, stub: Stub) -> None:
    orphan = stocked.blobs.put(b"nobody's")
    days = 86_400_000
    stocked.clock.now_ms = int(Path(stocked.home / "log.sqlite").stat().st_mtime * 1000) + 2 * days
    body = stocked.rows(tables.PAGES)[0]["body_digest"]
    planned = stub.CollectGarbage(pb.CollectGarbageRequest(dry_run=True), timeout=5)
    assert stocked.blobs.has(orphan) and planned.blobs_orphaned == 1
    done = stub.CollectGarbage(pb.CollectGarbageRequest(), timeout=5)
    assert done == planned and not stocked.blobs.has(orphan)
    stocked.clock.now_ms = builders.NOW_MS + 400 * days
    stub.CollectGarbage(pb.CollectGarbageRequest(), timeout=5)
    assert not stocked.blobs.has(body)


def test_the_loop_is_done_when_it_says_so(house: House) -> None:
    (loop,) = house.app.loops
    assert not loop.pending() and not loop.step()
    house.write(PAIR_DRAFTED, builders.pair())
    house.log.append([Record(PAIR_SCORED.name, "gone", "gone", None)])
    assert loop.pending()
    house.settle()
    assert not loop.pending()
