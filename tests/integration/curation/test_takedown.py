"""Takedowns: invisible at once, erased soon, and no byte left in the data folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import builders
from curation_house import CATALOG, EVALUATOR, House
from xinstruct.curation import folder, tables
from xinstruct.curation.app import build
from xinstruct.spine.inference import Decoding, Embed, Generate, Generated, answer_to_json, request_digest
from xinstruct.spine.journal import ANSWERS
from xinstruct.spine.messages import AdmittedDocument, DraftedPair, TakedownKind
from xinstruct.spine.sql import transaction
from xinstruct.spine.topics import (
    DEAD_LETTERS,
    DOCUMENT_ADMITTED,
    MODEL_TRAINED,
    PAGE_FETCHED,
    PAIR_DRAFTED,
    PAIR_REVIEWED,
    PAIR_SCORED,
    RECORD_DROPPED,
    TAKEDOWN_REQUESTED,
)
from xinstruct.training.tables import JOBS


def take_down(house: House, kind: TakedownKind, target: str, **changes: Any) -> dict[str, Any]:
    """Ask for it, let curation work, and return the row of the takedown."""
    request = builders.takedown(kind=kind, target=target, **changes)
    house.write(TAKEDOWN_REQUESTED, request)
    house.settle()
    (row,) = [row for row in house.rows(tables.TAKEDOWNS) if row["request_id"] == request.request_id]
    return row


def texts_of(house: House, name: str) -> list[bytes]:
    """Every piece of text that belongs to one page: body, response, instruction."""
    (document,) = [row for row in house.rows(tables.DOCUMENTS) if row["document_id"] == f"document-{name}"]
    (pair,) = [row for row in house.rows(tables.PAIRS) if row["pair_id"] == f"pair-{name}"]
    return [document["text"][-40:].encode(), pair["instruction"].encode()]


def files_with(house: House, needles: list[bytes]) -> list[str]:
    """Files of the data folder that hold one of `needles`, whatever they are."""
    files = [path for path in house.home.rglob("*") if path.is_file()]
    contents = {path.relative_to(house.home).as_posix(): path.read_bytes() for path in files}
    return sorted(name for name, content in contents.items() if any(needle in content for needle in needles))


def journaled(house: House, name: str) -> None:
    """An answer of the generator about the document of `name`, as the journal keeps it."""
    request = Generate("generator", "m", f"prompt {name}", Decoding(10), subject=f"document-{name}")
    (pair,) = [row for row in house.rows(tables.PAIRS) if row["pair_id"] == f"pair-{name}"]
    answer = Generated(pair["instruction"], "stop", -0.1, 5, 5)
    row = {"request_digest": request_digest(request), "subject": request.subject, "role": "generator", "model": "m"}
    with transaction(house.database) as connection:
        connection.execute(ANSWERS.insert().values(**row, answer=answer_to_json(answer)))


@pytest.fixture
def stocked(house: House) -> House:
    """Forty pages, one of them with everything that can hang on a page."""
    house.promote()
    house.publishable(40)
    house.settle()
    journaled(house, "sw0007")
    journaled(house, "sw0008")
    house.write(PAIR_REVIEWED, builders.review(review_id="review-7", pair_id="pair-sw0007"))
    house.write(RECORD_DROPPED, builders.drop(drop_id="drop-7", subject_id="document-sw0007", url=""))
    letter = builders.dead_letter(
        dead_letter_id="letter-7", input_id="pair-sw0007", input_key="pair-sw0007", stage="scoring-a",
        input_digest=house.blobs.put(b"original of " + texts_of(house, "sw0007")[0]),
    )
    house.write(DEAD_LETTERS["scoring-a"], letter)
    house.settle()
    return house


def test_no_byte_of_a_taken_down_page_is_left(stocked: House) -> None:
    needles = texts_of(stocked, "sw0007")
    assert len(files_with(stocked, needles)) >= 3
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert row["state"] == "erased" and row["blobs_erased"] == 2
    assert files_with(stocked, needles) == []
    for table in (*CATALOG, tables.REVIEWS, tables.DROPS, tables.DEAD_LETTERS, tables.TAKEDOWN_SUBJECTS):
        assert not [row for row in stocked.rows(table) if "sw0007" in json.dumps(row, default=str)]


@pytest.mark.parametrize("typed", ["http://{}/käytä", "HTTP://{}:80/k%c3%a4yt%C3%A4#top", "http://{}/x/../käytä"])
def test_a_page_and_the_rows_that_name_it_are_found_however_the_url_is_typed(house: House, typed: str) -> None:
    url = f"http://{builders.HOST}/k%C3%A4yt%C3%A4"
    for number, own in enumerate((url, f"{url}#row=2", f"{url}x")):
        house.write(PAGE_FETCHED, builders.page(fetch_id=f"fetch-{number}", page_id=f"page-{number}", url=own))
    house.settle()
    take_down(house, TakedownKind.URL, typed.format(builders.HOST))
    assert [row["page_id"] for row in house.rows(tables.PAGES)] == ["page-2"]


def test_the_neighbours_of_a_taken_down_page_stay(stocked: House) -> None:
    neighbours = texts_of(stocked, "sw0008")
    take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert len(stocked.ids(tables.PAIRS)) == len(stocked.ids(tables.SCORES)) == 39
    assert any(name.startswith("blobs/") for name in files_with(stocked, neighbours))
    assert [row["subject"] for row in stocked.rows(ANSWERS)] == ["document-sw0008"]


def test_every_derived_key_has_a_tombstone(stocked: House) -> None:
    take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    for topic, key in (
        (PAGE_FETCHED, "page-sw0007"), (DOCUMENT_ADMITTED, "document-sw0007"), (PAIR_DRAFTED, "pair-sw0007"),
        (PAIR_SCORED, "score-sw0007"), (PAIR_REVIEWED, "review-7"), (RECORD_DROPPED, "drop-7"),
        (DEAD_LETTERS["scoring-a"], "letter-7"),
    ):
        assert stocked.values(topic)[key] is None, topic.name


@pytest.mark.parametrize("target", ["document-sw0007", "pair-sw0007", "page-sw0007"])
def test_a_takedown_can_name_a_document_a_pair_or_a_page(stocked: House, target: str) -> None:
    needles = texts_of(stocked, "sw0007")
    take_down(stocked, TakedownKind.DOCUMENT, target)
    assert files_with(stocked, needles) == []
    assert "document-sw0007" not in stocked.ids(tables.DOCUMENTS) and "document-sw0008" in stocked.ids(tables.DOCUMENTS)


def test_a_host_covers_its_pages_on_every_port_and_no_other_host(stocked: House) -> None:
    stocked.publishable(3, first=50, host="gone.example")
    stocked.publishable(3, first=60, host="gone.example:8080")
    stocked.publishable(3, first=70, host="not-gone.example")
    stocked.settle()
    take_down(stocked, TakedownKind.HOST, "Gone.example")
    hosts = {row["host"] for row in stocked.rows(tables.DOCUMENTS)}
    assert hosts == {builders.HOST, "not-gone.example"}


def test_a_body_that_another_page_shares_stays_until_that_one_goes_too(stocked: House) -> None:
    (page,) = [row for row in stocked.rows(tables.PAGES) if row["page_id"] == "page-sw0007"]
    mirror = builders.page(fetch_id="m", page_id="mirror", url="http://mirror.example/", host="mirror.example",
                           body_digest=page["body_digest"])
    stocked.write(PAGE_FETCHED, mirror)
    take_down(stocked, TakedownKind.URL, page["url"])
    assert stocked.blobs.has(page["body_digest"])
    take_down(stocked, TakedownKind.HOST, "mirror.example", request_id="second")
    assert not stocked.blobs.has(page["body_digest"])


def test_what_arrives_after_a_takedown_is_erased_too(stocked: House) -> None:
    (row,) = [row for row in stocked.rows(tables.DOCUMENTS) if row["document_id"] == "document-sw0007"]
    (pair_row,) = [row for row in stocked.rows(tables.PAIRS) if row["pair_id"] == "pair-sw0007"]
    document = tables.payload_of(AdmittedDocument, row)
    pair = tables.payload_of(DraftedPair, pair_row)
    needles = texts_of(stocked, "sw0007")
    take_down(stocked, TakedownKind.URL, document.url)
    body = stocked.blobs.put(b"<html>again " + needles[0])
    page = builders.page(fetch_id="again", page_id=document.page_id, url=document.url, body_digest=body)
    stocked.write(PAGE_FETCHED, page)
    stocked.write(DOCUMENT_ADMITTED, document, replace(document, document_id="document-again"))
    stocked.write(PAIR_DRAFTED, replace(pair, pair_id="pair-again", document_id="document-again"))
    score = builders.score(score_id="score-again", pair_id="pair-again", document_id="document-again")
    stocked.write(PAIR_SCORED, score)
    stocked.settle()
    assert files_with(stocked, needles) == []
    assert stocked.values(PAIR_SCORED)["score-again"] is None
    assert [row["state"] for row in stocked.rows(tables.TAKEDOWNS)] == ["erased"]


def test_a_taken_down_page_is_absent_from_the_next_release(stocked: House) -> None:
    releases = stocked.app.loops[0]._releases  # type: ignore[attr-defined]
    first = releases.publish("r1")
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert json.loads(row["releases_affected"]) == [first.name]
    second = releases.publish("r2")
    assert second.pairs_count == first.pairs_count - 1
    assert "pair-sw0007" not in [row["id"] for row in folder.read_rows(second.location, "sw")]


def trained_on(house: House, name: str) -> str:
    """A model whose training snapshot holds the pair of `name`."""
    row = {"id": f"pair-{name}", "response": texts_of(house, name)[0].decode()}
    snapshot = house.blobs.put(json.dumps(row).encode())
    house.write(MODEL_TRAINED, builders.trained_model(snapshot_digest=snapshot, model_digest=EVALUATOR))
    house.write(MODEL_TRAINED, builders.trained_model(job_name="other", snapshot_digest=house.blobs.put(b"{}")))
    house.settle()
    return snapshot


def reported(house: House, name: str) -> Path:
    report = house.home / "reports" / "run-1" / "report.html"
    report.parent.mkdir(parents=True)
    report.write_bytes(b"<p id='pair-" + name.encode() + b"'>" + texts_of(house, name)[0])
    (report.parent / "report.json").write_text("pair-sw0001")
    return report


def test_affected_releases_snapshots_models_and_reports_are_listed(stocked: House) -> None:
    needles = texts_of(stocked, "sw0007")
    release = stocked.app.loops[0]._releases.publish("r1")  # type: ignore[attr-defined]
    snapshot = trained_on(stocked, "sw0007")
    reported(stocked, "sw0007")
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert json.loads(row["releases_affected"]) == [release.name]
    assert json.loads(row["snapshots_affected"]) == [snapshot]
    assert json.loads(row["models_affected"]) == [EVALUATOR]
    assert json.loads(row["reports_affected"]) == ["run-1/report.html"]
    left = files_with(stocked, needles)
    hexed = snapshot.removeprefix("sha256:")
    assert set(left) <= {f"blobs/{hexed[:2]}/{hexed}", "reports/run-1/report.html"}


def test_a_purge_deletes_what_is_affected(stocked: House) -> None:
    needles = texts_of(stocked, "sw0007")
    releases = stocked.app.loops[0]._releases  # type: ignore[attr-defined]
    release = releases.publish("r1")
    stocked.settle()
    trained_on(stocked, "sw0007")
    report = reported(stocked, "sw0007")
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007", purge=True)
    assert json.loads(row["releases_affected"]) == [release.name]
    assert files_with(stocked, needles) == []
    assert not Path(release.location).exists() and not report.exists()
    assert (report.parent / "report.json").exists()
    assert releases.newest_first() == []


def test_a_repeated_request_changes_nothing(stocked: House) -> None:
    before = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007") == before


def test_a_takedown_of_the_unknown_is_remembered_for_later(stocked: House) -> None:
    row = take_down(stocked, TakedownKind.HOST, "later.example")
    assert (row["state"], row["records_erased"]) == ("erased", 0)
    stocked.publishable(2, first=90, host="later.example")
    stocked.settle()
    assert len(stocked.ids(tables.DOCUMENTS)) == 40


def test_a_kill_between_any_two_steps_loses_nothing(stocked: House) -> None:
    """Each step of the loop is done by a loop that knows nothing of the one before."""
    needles = texts_of(stocked, "sw0007")
    stocked.write(TAKEDOWN_REQUESTED, builders.takedown(target=f"http://{builders.HOST}/sw0007"))
    for _ in range(1000):
        loop = build(stocked.settings, stocked.deps).loops[0]
        if not loop.pending():
            break
        loop.step()
    assert files_with(stocked, needles) == []


def test_the_embedding_of_a_taken_down_instruction_leaves_the_journal(stocked: House) -> None:
    asked = Embed("encoder", "m", "text", subject="document-sw0007")
    row = {"request_digest": request_digest(asked), "subject": asked.subject, "role": "encoder", "model": "m"}
    with transaction(stocked.database) as connection:
        connection.execute(ANSWERS.insert().values(**row, answer="[]"))
    take_down(stocked, TakedownKind.DOCUMENT, "document-sw0007")
    assert [row["subject"] for row in stocked.rows(ANSWERS)] == ["document-sw0008"]


def edit(house: House, name: str, *, body: bytes, **changes: Any) -> AdmittedDocument:
    """Fetch the page of `name` again with another body, and admit its one document; returns it."""
    (row,) = [row for row in house.rows(tables.DOCUMENTS) if row["document_id"] == f"document-{name}"]
    old = tables.payload_of(AdmittedDocument, row)
    digest, at_ms = house.blobs.put(body), builders.NOW_MS + 1000
    changes = {"document_id": f"document-new-{name}", "body_digest": digest, "fetch_time_ms": at_ms, **changes}
    new = replace(old, **changes)
    house.write(PAGE_FETCHED, builders.page(
        fetch_id=f"fetch-new-{name}", page_id=old.page_id, url=old.url, fetch_number=2, fetch_time_ms=at_ms,
        body_digest=digest, superseded_body_digest=old.body_digest,
    ))  # fmt: skip
    house.write(DOCUMENT_ADMITTED, new)
    house.settle()
    return new


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (TakedownKind.URL, f"http://{builders.HOST}/sw0007"), (TakedownKind.HOST, builders.HOST),
        (TakedownKind.DOCUMENT, "pair-sw0007"),
    ],
)  # fmt: skip
def test_a_second_takedown_can_purge_what_the_first_one_only_listed(
    stocked: House, kind: TakedownKind, target: str
) -> None:
    needles = texts_of(stocked, "sw0007")
    release = stocked.app.loops[0]._releases.publish("r1")  # type: ignore[attr-defined]
    snapshot = trained_on(stocked, "sw0007")
    reported(stocked, "sw0007")
    first = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    again = take_down(stocked, kind, target, request_id="second", purge=True)
    assert json.loads(again["releases_affected"]) == json.loads(first["releases_affected"]) == [release.name]
    assert json.loads(again["snapshots_affected"]) == [snapshot]
    assert "run-1/report.html" in json.loads(again["reports_affected"])
    assert files_with(stocked, needles) == [] and not Path(release.location).exists()


@pytest.mark.parametrize(
    ("kind", "target"),
    [(TakedownKind.URL, f"http://{builders.HOST}/sw0007"), (TakedownKind.DOCUMENT, "pair-sw0007")],
)
def test_a_takedown_reaches_what_an_edit_had_superseded_before(
    stocked: House, kind: TakedownKind, target: str
) -> None:
    needles = texts_of(stocked, "sw0007")
    release = stocked.app.loops[0]._releases.publish("r1")  # type: ignore[attr-defined]
    stocked.settle()
    edit(stocked, "sw0007", body=b"other", text="Another text.", text_digest=builders.digest("8"))
    assert "document-sw0007" not in stocked.ids(tables.DOCUMENTS)
    row = take_down(stocked, kind, target, purge=True)
    assert json.loads(row["releases_affected"]) == [release.name]
    assert [row["subject"] for row in stocked.rows(ANSWERS)] == ["document-sw0008"]
    assert files_with(stocked, needles) == []


def test_a_text_that_was_taken_down_by_id_does_not_return_with_a_new_fetch_of_its_page(stocked: House) -> None:
    text = texts_of(stocked, "sw0007")[0]
    document = next(row for row in stocked.rows(tables.DOCUMENTS) if row["document_id"] == "document-sw0007")
    take_down(stocked, TakedownKind.DOCUMENT, "pair-sw0007")
    body = stocked.blobs.put(b"<html>a new menu, and again " + text)
    old = tables.payload_of(AdmittedDocument, document)
    stocked.write(PAGE_FETCHED, builders.page(
        fetch_id="again", page_id=old.page_id, url=old.url, fetch_time_ms=builders.NOW_MS + 1000, body_digest=body))
    again = replace(old, document_id="again", ordinal=3, body_digest=body, fetch_time_ms=builders.NOW_MS + 1000)
    other = replace(again, document_id="other", ordinal=4, text="Another text.", text_digest=builders.digest("8"))
    mirror = replace(again, document_id="mirror", page_id="mirror", url="http://mirror.example/", body_digest="")
    stocked.write(DOCUMENT_ADMITTED, again, other, mirror)
    stocked.write(PAIR_DRAFTED, builders.pair(pair_id="pair-again", document_id="again", page_id=old.page_id))
    stocked.settle()
    assert {"other", "mirror"} <= set(stocked.ids(tables.DOCUMENTS)) and "again" not in stocked.ids(tables.DOCUMENTS)
    assert "pair-again" not in stocked.ids(tables.PAIRS) and stocked.values(DOCUMENT_ADMITTED)["again"] is None
    assert not stocked.blobs.has(body)


def test_a_takedown_by_an_old_id_takes_the_equal_text_of_a_newer_fetch_along(stocked: House) -> None:
    needles = texts_of(stocked, "sw0007")
    edit(stocked, "sw0007", body=b"<html>a new menu, and again " + needles[0])
    assert "document-new-sw0007" in stocked.ids(tables.DOCUMENTS)
    take_down(stocked, TakedownKind.DOCUMENT, "document-sw0007")
    assert "document-new-sw0007" not in stocked.ids(tables.DOCUMENTS) and files_with(stocked, needles) == []


def test_files_of_a_release_that_never_was_go_with_what_they_hold(stocked: House) -> None:
    needles = texts_of(stocked, "sw0007")
    release = stocked.app.loops[0]._releases.publish("r1")  # type: ignore[attr-defined]
    with transaction(stocked.database) as connection:  # the process was killed between the files and these rows
        connection.execute(tables.RELEASES.delete())
        connection.execute(tables.RELEASE_ROWS.delete())
    take_down(stocked, TakedownKind.URL, "http://other.example/", request_id="other")
    assert Path(release.location).exists()
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert json.loads(row["releases_affected"]) == []
    assert files_with(stocked, needles) == [] and not Path(release.location).exists()


def at_work(house: House, **snapshots: str) -> None:
    """Training jobs that run, by name, each on its snapshot."""
    blank = {"request_id": "", "role": "evaluator", "round": 0, "state": "running", "command": b"", "steps_done": 0}
    blank |= {"steps_count": 0, "model_digest": "", "failure": "", "metrics": "{}", "attempts_count": 1, "owner": ""}
    blank |= {"promotion_open": False, "owned_until_ms": 0, "change_time_ms": 0, "change_number": 1}
    with transaction(house.database) as connection:
        for job_name, digest in snapshots.items():
            connection.execute(JOBS.insert().values(job_name=job_name, snapshot_digest=digest, **blank))


def test_the_snapshot_of_a_job_that_still_runs_is_listed_and_purged(stocked: House) -> None:
    needles = texts_of(stocked, "sw0007")
    content = json.dumps({"id": "pair-sw0007", "response": needles[0].decode()}).encode()
    snapshot, other = stocked.blobs.put(content), stocked.blobs.put(b"{}")
    own_copy = stocked.home / "jobs" / "job1" / "snapshot.jsonl"
    own_copy.parent.mkdir(parents=True)
    own_copy.write_bytes(content)
    at_work(stocked, job1=snapshot, job2=other, job3="")
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007")
    assert json.loads(row["snapshots_affected"]) == [snapshot] and own_copy.exists()
    take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007", request_id="second", purge=True)
    assert files_with(stocked, needles) == [] and not own_copy.exists() and stocked.blobs.has(other)


@pytest.mark.parametrize("purge", [False, True])
def test_the_model_of_a_job_that_was_at_work_is_listed_when_it_is_trained(stocked: House, purge: bool) -> None:
    snapshot = stocked.blobs.put(b'{"id": "pair-sw0007"}')
    at_work(stocked, job1=snapshot)
    row = take_down(stocked, TakedownKind.URL, f"http://{builders.HOST}/sw0007", purge=purge)
    assert json.loads(row["models_affected"]) == []
    trained = builders.trained_model(job_name="job1", model_digest=EVALUATOR, snapshot_digest=snapshot)
    stocked.write(MODEL_TRAINED, trained, builders.trained_model(job_name="job2"))
    stocked.settle()
    (after,) = stocked.rows(tables.TAKEDOWNS)
    assert json.loads(after["models_affected"]) == [EVALUATOR]
    assert (after["state"], after["change_number"] > row["change_number"]) == ("erased", True)
