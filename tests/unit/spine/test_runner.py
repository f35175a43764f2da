"""The loop: what each outcome and each failure means, on the real SQLite log with a clock that tests own."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from builders import document, pair
from runner_world import World
from xinstruct.spine.errors import Fenced, Invalid, Unavailable
from xinstruct.spine.messages import AdmittedDocument, DeadLetter, DraftedPair, DroppedRecord
from xinstruct.spine.record import FOR_GROUP_HEADER, Record
from xinstruct.spine.runner import TooManyRejected
from xinstruct.spine.stage import Drop, Emit, Outcome, Reject
from xinstruct.spine.topics import DEAD_LETTERS, DOCUMENT_ADMITTED, PAIR_DRAFTED, RECORD_DROPPED


class Reason(StrEnum):
    TOO_PLAIN = "too_plain"
    BROKEN = "broken"


def test_every_record_is_answered_once_and_the_stage_ends_idle(world: World) -> None:
    world.put("a", "b", "c")
    world.settle(world.runner())
    assert world.instructions() == ["re a", "re b", "re c"]
    assert sorted(world.port.asked) == ["a", "b", "c"]


def test_a_second_runner_finds_nothing_to_do(world: World) -> None:
    world.put("a", "b")
    first = world.runner()
    world.settle(first)
    first.close()
    world.settle(world.runner())
    assert len(world.port.asked) == 2


def test_a_scrape_shows_what_is_in_flight_and_what_waits_and_nothing_once_the_runner_is_gone(world: World) -> None:
    world.port.respond = lambda request: None
    world.put("a", "b", "c")
    runner = world.runner()
    runner.turn(wait_s=0.0)
    labels = {"stage": "backgen"}
    assert REGISTRY.get_sample_value("xinstruct_in_flight_records", labels) == 3
    assert REGISTRY.get_sample_value("xinstruct_lag_records", labels) == 3
    runner.close()
    assert REGISTRY.get_sample_value("xinstruct_lag_records", labels) is None


def test_scrapes_in_other_threads_do_not_disturb_the_runner(world: World) -> None:
    world.put(*(f"d{number}" for number in range(300)))
    runner = world.runner(commit_records_max=1)
    settled, failures = threading.Event(), []

    def scrape() -> None:
        while not settled.is_set():
            try:
                REGISTRY.get_sample_value("xinstruct_lag_records", {"stage": "backgen"})
            except sqlite3.Error as error:
                failures.append(error)

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        world.settle(runner, turns_max=2_000)
    finally:
        settled.set()
        scraping.join()
    assert failures == []
    assert len(world.instructions()) == 300


def test_a_runner_that_dies_before_its_commit_leaves_the_record_to_the_next(world: World) -> None:
    world.put("a")
    first = world.runner(commit_interval_s=99.0, commit_records_max=99)
    world.port.respond = lambda request: None
    first.turn(wait_s=0.0)
    first.close()
    world.port.respond = lambda request: f"re {request}"
    world.settle(world.runner())
    assert world.instructions() == ["re a"]


def test_outputs_wait_for_the_slow_record_before_them_but_its_calls_do_not(world: World) -> None:
    world.port.respond = lambda request: None if request == "slow" else f"re {request}"
    world.put("slow", "b", "c", key="same partition")
    runner = world.runner()
    for _ in range(5):
        runner.turn(wait_s=0.0)
    assert sorted(world.port.asked) == ["b", "c", "slow"]
    assert world.instructions() == []
    world.port.answer("slow", "re slow")
    world.settle(runner)
    assert [DraftedPair.decode(r.value or b"").document_id for r in world.read(PAIR_DRAFTED)
            ].count("slow") == 1
    assert world.instructions() == ["re b", "re c", "re slow"]


def test_a_drop_is_a_record_with_its_reason(world: World) -> None:
    def decide(source: AdmittedDocument, _answers: Sequence[Any]) -> Sequence[Outcome]:
        return [Drop(Reason.TOO_PLAIN, source.document_id, {"rule": "x"}, source.url, "sw")]

    world.put("a")
    world.settle(world.runner(world.stage(decide)))
    (record,) = world.read(RECORD_DROPPED)
    payload = DroppedRecord.decode(record.value or b"")
    assert (payload.stage, payload.subject_id, payload.reason) == ("backgen", "a", "too_plain")
    assert (payload.evidence, payload.language) == ({"rule": "x"}, "sw")


def test_a_rejected_record_stands_in_the_dead_letters_with_its_original(world: World) -> None:
    world.put("a")
    world.settle(world.runner(world.stage(lambda source, answers: [Reject(Reason.BROKEN, "no good")])))
    (record,) = world.read(DEAD_LETTERS["backgen"])
    letter = DeadLetter.decode(record.value or b"")
    assert (letter.reason, letter.detail, letter.input_id) == ("broken", "no good", "a")
    assert AdmittedDocument.decode(world.blobs.get(letter.input_digest)).document_id == "a"


def test_a_value_that_is_no_payload_is_rejected_and_its_neighbours_go_on(world: World) -> None:
    world.log.append([Record(DOCUMENT_ADMITTED.name, "k", "bad", b"\xff\xff\xff")])
    world.put("b")
    world.settle(world.runner())
    (record,) = world.read(DEAD_LETTERS["backgen"])
    assert DeadLetter.decode(record.value or b"").reason == "invalid"
    assert world.instructions() == ["re b"]


def test_invalid_from_the_port_is_the_records_fault(world: World) -> None:
    world.port.respond = lambda request: Invalid("cannot be asked")
    world.put("a")
    world.settle(world.runner())
    (record,) = world.read(DEAD_LETTERS["backgen"])
    assert DeadLetter.decode(record.value or b"").detail == "cannot be asked"


def test_a_port_that_is_down_loses_nothing_and_says_so(world: World) -> None:
    world.port.respond = lambda request: Unavailable("the endpoint is down")
    world.put("a", "b")
    runner = world.runner()
    for _ in range(200):
        runner.turn(wait_s=0.0)
        world.clock.now_ms += 1000
    assert runner.waiting_for == "the endpoint is down"
    assert world.read(DEAD_LETTERS["backgen"]) == []
    world.port.respond = lambda request: f"re {request}"
    world.clock.now_ms += 60_000
    world.settle(runner)
    assert world.instructions() == ["re a", "re b"]
    assert runner.waiting_for == ""


def test_a_blob_store_that_is_full_holds_the_stage_up_and_loses_nothing(world: World, tmp_path: Path) -> None:
    world.put("a", "b", "c")
    runner = world.runner(world.stage(lambda source, answers: [Reject(Reason.BROKEN)]), rejected_window_records=9)
    (tmp_path / "blobs").write_text("not a folder")
    thread = threading.Thread(target=runner.run)
    thread.start()
    while not runner.waiting_for and thread.is_alive():
        thread.join(0.01)
    (tmp_path / "blobs").unlink()
    while thread.is_alive() and len(world.read(DEAD_LETTERS["backgen"])) < 3:
        thread.join(0.01)
        world.clock.now_ms += 100
    runner.stop()
    thread.join()
    assert len(world.read(DEAD_LETTERS["backgen"])) == 3


@pytest.mark.parametrize(("passed_s", "drafted"), [(29.0, ["re a"]), (31.0, [])])
def test_a_stage_that_ends_waits_for_answers_as_long_as_it_is_told(
    world: World, passed_s: float, drafted: list[str]
) -> None:
    world.port.respond = lambda request: None
    world.put("a")
    runner = world.runner()
    runner.turn(wait_s=0.0)
    thread = threading.Thread(target=runner.run)
    runner.stop(drain_s=30)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    world.clock.now_ms += int(passed_s * 1000)
    thread.join(0.2)
    assert thread.is_alive() is bool(drafted)
    ((request, future),) = world.port.open
    future.set_result(f"re {request}")
    thread.join()
    assert world.instructions() == drafted


def test_a_stage_that_rejects_nearly_everything_stops_before_its_commit(world: World) -> None:
    world.put(*(str(number) for number in range(12)))
    stage = world.stage(lambda source, answers: [Reject(Reason.BROKEN)])
    runner = world.runner(stage, rejected_window_records=10, commit_records_max=99)
    with pytest.raises(TooManyRejected, match="dlq list backgen"):
        world.settle(runner)
    assert world.read(DEAD_LETTERS["backgen"]) == []


def test_a_tombstone_is_passed_over(world: World) -> None:
    world.log.append([Record(DOCUMENT_ADMITTED.name, "a", "a", None)])
    world.settle(world.runner())
    assert world.port.asked == []


def test_a_dead_letter_replayed_for_another_group_is_passed_over(world: World) -> None:
    payload = document(document_id="a", title="a")
    world.log.append([payload.record(DOCUMENT_ADMITTED.name, {FOR_GROUP_HEADER: "other"}),
                      payload.record(DOCUMENT_ADMITTED.name, {FOR_GROUP_HEADER: "backgen"})])
    world.settle(world.runner())
    assert world.port.asked == ["a"]


def test_the_window_bounds_what_is_in_flight(world: World) -> None:
    world.port.respond = lambda request: None
    world.put(*(str(number) for number in range(20)))
    runner = world.runner(window_records_max=4)
    for _ in range(10):
        runner.turn(wait_s=0.0)
    assert runner.in_flight() == 4
    assert len(world.port.asked) == 4


def test_the_byte_bound_stops_polling(world: World) -> None:
    world.port.respond = lambda request: None
    world.put(*(str(number) for number in range(20)))
    runner = world.runner(window_bytes_max=1, window_records_max=5)
    for _ in range(10):
        runner.turn(wait_s=0.0)
    assert runner.in_flight() <= 5


def test_a_member_that_was_replaced_ends_and_leaves_everything_to_the_new_one(world: World) -> None:
    world.port.respond = lambda request: None
    world.put("a", "b")
    old = world.runner()
    old.turn(wait_s=0.0)
    assert old.in_flight() == 2
    new = world.runner()
    open_before = list(world.port.open)
    world.port.respond = lambda request: f"re {request}"
    world.settle(new)
    new.close()
    for request, future in open_before:
        future.set_result(f"late {request}")
    with pytest.raises(Fenced):
        old.run()
    assert world.instructions() == ["re a", "re b"]


def test_ids_are_equal_whatever_the_port_answers(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other", lambda request: f"else {request}")
    for made in (world, other):
        made.put("a", "b")
        made.settle(made.runner())
    assert {r.id for r in world.read(PAIR_DRAFTED)} == {r.id for r in other.read(PAIR_DRAFTED)}
    assert world.instructions() != other.instructions()
    other.log.close()


def test_a_page_may_give_many_outputs_and_they_keep_their_order(world: World) -> None:
    def decide(source: AdmittedDocument, _answers: Sequence[Any]) -> Sequence[Outcome]:
        return [Emit(PAIR_DRAFTED, pair(pair_id=f"{source.document_id}-{n}", document_id="d")) for n in range(3)]

    world.put("a", key="one")
    world.settle(world.runner(world.stage(decide)))
    assert sorted(record.id for record in world.read(PAIR_DRAFTED)) == ["a-0", "a-1", "a-2"]
