"""The loop and records that nobody answers: whether the port is down, or the record is to blame."""

from __future__ import annotations

from runner_world import World
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.messages import DeadLetter
from xinstruct.spine.runner import WINDOWS_MAX
from xinstruct.spine.topics import DEAD_LETTERS


def test_one_record_that_keeps_failing_while_others_do_not_is_rejected_as_unanswerable(world: World) -> None:
    world.port.respond = lambda request: Unavailable("crashed") if request == "poison" else f"re {request}"
    world.put("poison")
    runner = world.runner(attempts_max=3)
    for number in range(30):
        world.put(f"good {number}")
        runner.turn(wait_s=0.0)
        world.clock.now_ms += 20_000
    world.settle(runner)
    (record,) = world.read(DEAD_LETTERS["backgen"])
    letter = DeadLetter.decode(record.value or b"")
    assert (letter.reason, letter.attempts_count) == ("unanswerable", 3)
    assert len(world.instructions()) == 30


def test_a_record_that_keeps_failing_is_rejected_also_when_a_full_window_waits_behind_it(world: World) -> None:
    world.port.respond = lambda request: Unavailable("crashed") if request == "poison" else f"re {request}"
    world.put("poison", *(f"good {number}" for number in range(60)), key="one")
    runner = world.runner(attempts_max=3, window_records_max=8)
    while not runner.idle() and world.clock.now_ms < 1_060_000:
        runner.turn(wait_s=0.0)
        world.clock.now_ms += 250
    (record,) = world.read(DEAD_LETTERS["backgen"])
    assert DeadLetter.decode(record.value or b"").reason == "unanswerable"
    assert len(world.instructions()) == 60


def test_finished_records_behind_one_that_is_not_are_bounded_too(world: World) -> None:
    world.port.respond = lambda request: None if request == "slow" else f"re {request}"
    world.put("slow", *(f"good {number}" for number in range(60)), key="one")
    runner = world.runner(window_records_max=4)
    for _ in range(60):
        runner.turn(wait_s=0.0)
    assert runner.in_flight() == 4 * WINDOWS_MAX
    world.port.answer("slow", "re slow")
    world.settle(runner)
    assert len(world.instructions()) == 61


def test_the_last_record_of_a_topic_that_keeps_failing_is_rejected_in_the_end_but_not_while_nobody_is_answered(
    world: World,
) -> None:
    down = {"poison", "other"}
    world.port.respond = lambda request: Unavailable("crashed") if request in down else f"re {request}"
    world.put("poison", "other", "good", key="one")
    runner = world.runner(attempts_max=3, alone_s_max=600.0)
    for _ in range(200):
        runner.turn(wait_s=0.0)
        world.clock.now_ms += 10_000
    assert world.read(DEAD_LETTERS["backgen"]) == [], "two unanswered records are a port that is down"
    down.remove("other")
    for _ in range(10):
        runner.turn(wait_s=0.0)
        world.clock.now_ms += 10_000
    (record,) = world.read(DEAD_LETTERS["backgen"])
    assert DeadLetter.decode(record.value or b"").reason == "unanswerable"
    assert world.instructions() == ["re good", "re other"]


def test_a_lone_record_that_nobody_was_answered_beside_is_kept_however_long_it_takes(world: World) -> None:
    world.port.respond = lambda request: Unavailable("the server is away")
    world.put("lone")
    runner = world.runner(attempts_max=3, alone_s_max=600.0)
    for _ in range(400):
        runner.turn(wait_s=0.0)
        world.clock.now_ms += 10_000
    assert world.read(DEAD_LETTERS["backgen"]) == []
    assert len(world.port.asked) > 50
