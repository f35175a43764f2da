"""What only a cluster can show: members that share a topic, members that were away, topics."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from contract.log.backends import (
    EVENTS,
    NUMBERS,
    PATIENCE_S,
    SUMS,
    TOPICS,
    Backend,
    eventually,
    next_offsets,
    number,
    poll_all,
    poll_until,
    raising,
    total,
    totals,
    values,
)
from xinstruct.spine.errors import Conflict, Fenced, NotFound, Unavailable
from xinstruct.spine.log import Log, Subscription
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
from xinstruct.spine.log.kafka_subscription import KafkaSubscription
from xinstruct.spine.record import Record
from xinstruct.spine.topics import Topic

pytestmark = pytest.mark.kafka
NO_SUCH_NAME = kafka_errors.KafkaConnectionError("no such name")


@contextmanager
def polled(member: Subscription) -> Iterator[list[Record]]:
    """Another process's part: `member` is polled by a thread of its own; what it read is in the list."""
    records: list[Record] = []
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            records.extend(member.poll(100, 0.1))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield records
    finally:
        over.set()
        thread.join()
        member.close()


def poll_until_shared(first: Subscription, second: Subscription) -> tuple[list[Record], set[int]]:
    """Poll the first until both own something and all is owned; what it read and what it lost meanwhile."""
    records: list[Record] = []
    lost: set[int] = set()
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        records += first.poll(100, 0.1)
        lost |= first.lost()
        owned = [set(member.positions()) for member in (first, second)]
        if all(owned) and not owned[0] & owned[1] and owned[0] | owned[1] == set(range(NUMBERS.partitions)):
            return records, lost
        assert time.monotonic() < deadline_s, f"not shared: {owned}"


# ── two members ─────────────────────────────────────────────────────────────────────────────────────────────────────


def two_members(backend: Backend) -> tuple[Log, Subscription, list[Record], Subscription]:
    """A log, a member that has read its thirty numbers, those, and a second member that joins from another process."""
    log = backend.open("0")
    log.append([number(i) for i in range(30)])
    first = log.subscribe("adder", NUMBERS, "1")
    window = poll_all(first, log, NUMBERS)
    return log, first, window, backend.open("1").subscribe("adder", NUMBERS, "1")


def test_a_second_member_takes_some_partitions_and_the_first_keeps_its_place_in_the_others(
    kafka_backend: Backend,
) -> None:
    log, first, window, second = two_members(kafka_backend)
    with polled(second) as others:
        again, lost = poll_until_shared(first, second)
        assert again == [], "a kept partition was read twice"
        assert lost == set(second.positions())
        moved = [record for record in window if record.partition in lost]
        eventually(lambda: len(others) >= len(moved))
        kept = [record for record in window if record.partition not in lost]
        first.commit(next_offsets(kept), totals(kept))
    assert sorted(values(others)) == sorted(values(moved))
    assert sorted(values(list(log.read(SUMS, {})))) == sorted(values(kept))
    first.close()


def test_a_commit_for_a_partition_that_moved_names_it_and_writes_nothing(kafka_backend: Backend) -> None:
    log, first, window, second = two_members(kafka_backend)
    with polled(second):
        _, lost = poll_until_shared(first, second)
        with pytest.raises(Fenced) as caught:
            first.commit(next_offsets(window), [total(1)])
        assert caught.value.partitions == lost
        assert list(log.read(SUMS, {})) == []
        kept = {partition: offset for partition, offset in next_offsets(window).items() if partition not in lost}
        first.commit(kept, [total(2)])
    assert values(list(log.read(SUMS, {}))) == [2]
    first.close()


def test_commits_during_a_rebalance_succeed_for_what_is_kept_and_name_what_is_not(kafka_backend: Backend) -> None:
    log, first, window, second = two_members(kafka_backend)
    committed: list[int] = []
    with polled(second) as others:
        fenced: set[int] = set()
        for partition in range(NUMBERS.partitions):  # no poll between: the commits have to notice
            mine = [record for record in window if record.partition == partition]
            while partition not in fenced and not set(values(mine)) <= set(committed):
                try:
                    first.commit(next_offsets(mine), totals(mine))
                    committed += values(mine)
                except Fenced as error:
                    fenced |= error.partitions
        poll_until_shared(first, second)
        eventually(lambda: len(others) >= 30 - len(committed))
    assert sorted(committed + values(others)) == list(range(30))
    assert sorted(values(list(log.read(SUMS, {})))) == sorted(committed)
    first.close()


def test_partitions_that_come_while_paused_are_not_read_until_asked_for(kafka_backend: Backend) -> None:
    log, other_log = kafka_backend.open("0"), kafka_backend.open("1")
    first, second = log.subscribe("adder", NUMBERS, "1"), other_log.subscribe("adder", NUMBERS, "1")
    with polled(second):
        poll_until_shared(first, second)
    log.append([number(i) for i in range(30)])
    deadline_s = time.monotonic() + PATIENCE_S
    while len(first.positions()) < NUMBERS.partitions:
        assert first.poll(0, 0.2) == []
        assert time.monotonic() < deadline_s
    assert first.poll(0, 0.5) == []
    assert sorted(values(poll_all(first, log, NUMBERS))) == list(range(30))
    first.close()


# ── members that were away ──────────────────────────────────────────────────────────────────────────────────────────

_STOPPED_MEMBER = """
import sys
from contract.log.backends import *
from xinstruct.spine.errors import Fenced
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
log = KafkaLog(KafkaSettings.model_validate_json(sys.argv[1]), instance=sys.argv[2], topics=TOPICS)
member = log.subscribe("adder", NUMBERS, "1")
records = poll_all(member, log, NUMBERS)
print("polled", flush=True)
sys.stdin.readline()
some = records[0].partition
try:
    member.commit({some: next_offsets(records)[some]}, [total(99)])
    print("committed", flush=True)
except Fenced:
    print("fenced", flush=True)
try:
    member.poll(100, 0.0)
    print(sorted(member.lost() | {some}), flush=True)
except Fenced:
    print("fenced for good", flush=True)
"""


@pytest.mark.parametrize(
    ("instance", "then"), [("0", "fenced for good"), ("1", "[0, 1, 2]")], ids=["replaced in its place", "expired"]
)
def test_the_late_commit_of_a_member_that_was_stopped_is_fenced_and_all_it_lost_is_told(
    kafka_backend: Backend, kafka_settings: KafkaSettings, instance: str, then: str
) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(5)])
    command = [sys.executable, "-c", _STOPPED_MEMBER, kafka_settings.model_dump_json(), instance]
    away = subprocess.Popen(
        command, env={"PYTHONPATH": ":".join(sys.path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert away.stdout is not None
    assert away.stdout.readline() == "polled\n"
    away.send_signal(signal.SIGSTOP)
    member = log.subscribe("adder", NUMBERS, "1")
    records = poll_until(member, lambda found: len(found) == 5)
    member.commit(next_offsets(records), [total(1)])
    with polled(member):
        away.send_signal(signal.SIGCONT)
        answer, _ = away.communicate("go\n", timeout=PATIENCE_S)
    assert answer.splitlines() == ["fenced", then]
    assert values(list(log.read(SUMS, {}))) == [1]


_DIES_GIVING_UP = """
import os, signal, sys
from contract.log.backends import *
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
log = KafkaLog(KafkaSettings.model_validate_json(sys.argv[1]), instance="0", topics=TOPICS)
member = log.subscribe("adder", NUMBERS, "1")
poll_all(member, log, NUMBERS)
print("polled", flush=True)
member._moves.on_partitions_revoked = lambda revoked: os.kill(os.getpid(), signal.SIGKILL)
while True:
    member.poll(100, 0.1)
"""


def test_partitions_that_a_killed_member_had_just_given_up_find_an_owner(
    kafka_backend: Backend, kafka_settings: KafkaSettings
) -> None:
    # A partition moves in two rebalances: its owner gives it up in the first and asks for the second. Killed between
    # the two and back in its place, it is given what it kept, and the group sees no reason for another rebalance.
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(30)])
    command = [sys.executable, "-c", _DIES_GIVING_UP, kafka_settings.model_dump_json()]
    owner = subprocess.Popen(command, env={"PYTHONPATH": ":".join(sys.path)}, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "polled\n"
    second = kafka_backend.open("1").subscribe("adder", NUMBERS, "1")
    with polled(second):
        assert owner.wait(PATIENCE_S) == -signal.SIGKILL
        back = log.subscribe("adder", NUMBERS, "1")
        poll_until_shared(back, second)
    back.close()


def test_a_member_whose_join_was_answered_while_it_did_not_look_joins_again(kafka_backend: Backend) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(9)])
    member = log.subscribe("adder", NUMBERS, "1")
    assert isinstance(member, KafkaSubscription)
    poll_all(member, log, NUMBERS)
    coordinator = member._consumer._coordinator
    # What kafka-python 3.0 is left with (seen on a busy machine, in one new group of four): it takes an answer only
    # while it sees a reason to join, and has stopped its heartbeats.
    coordinator.rejoining, coordinator.rejoin_needed = True, False
    coordinator._disable_heartbeat()
    poll_until(member, lambda _: not coordinator.rejoining)
    log.append([number(i) for i in range(9, 12)])
    assert set(values(poll_all(member, log, NUMBERS))) >= {9, 10, 11}
    member.close()


def test_positions_that_the_client_cannot_make_sure_of_are_an_outage_and_what_came_with_them_is_read_again(
    kafka_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kafka_backend.open("0")
    member = log.subscribe("adder", NUMBERS, "1")
    assert isinstance(member, KafkaSubscription)
    poll_until(member, lambda _: len(member.positions()) == NUMBERS.partitions)
    log.append([number(i) for i in range(9)])
    with monkeypatch.context() as patch:
        # As it was on a cluster whose broker's pod was killed, and its name with it: the client asks who leads.
        patch.setattr(member._consumer, "position", lambda _: raising(NO_SUCH_NAME))
        with pytest.raises(Unavailable, match="Kafka does not answer"):
            poll_until(member, lambda _: False)
    member.rewind(range(NUMBERS.partitions))
    assert sorted(values(poll_all(member, log, NUMBERS))) == list(range(9))
    member.close()


def test_reading_is_an_outage_too_where_the_client_cannot_make_sure_of_its_position(
    kafka_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(9)])
    with monkeypatch.context() as patch:
        patch.setattr(KafkaConsumer, "position", lambda *_: raising(NO_SUCH_NAME))
        with pytest.raises(Unavailable, match="Kafka does not answer"):
            list(log.read(NUMBERS, {}))
    assert sorted(values(list(log.read(NUMBERS, {})))) == list(range(9))


# ── topics ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_topics_are_made_as_the_table_says_and_only_once(
    kafka_settings: KafkaSettings, opened: Callable[[Log], Log]
) -> None:
    opened(KafkaLog(kafka_settings, instance="0", topics=TOPICS))
    opened(KafkaLog(kafka_settings, instance="1", topics=TOPICS))
    admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
    configs = {}
    for topic in (NUMBERS, EVENTS):
        name = kafka_settings.prefix + topic.name
        described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)], config_filter="all")
        configs[topic.name] = {key: value["value"] for key, value in described["topic"][name].items()}
    (numbers,) = admin.describe_topics([kafka_settings.prefix + NUMBERS.name])
    admin.close()
    assert len(numbers["partitions"]) == NUMBERS.partitions
    assert configs[NUMBERS.name]["cleanup.policy"] == "compact"
    assert int(configs[NUMBERS.name]["delete.retention.ms"]) == 7 * 24 * 3_600_000
    assert int(configs[NUMBERS.name]["max.compaction.lag.ms"]) == 24 * 3_600_000
    assert configs[EVENTS.name]["cleanup.policy"] == "delete"
    assert int(configs[EVENTS.name]["retention.ms"]) == EVENTS.retention_ms


def test_a_topic_with_another_number_of_partitions_is_refused(kafka_backend: Backend) -> None:
    wider = Topic(NUMBERS.name, NUMBERS.payload, NUMBERS.key, NUMBERS.producers, NUMBERS.consumers, 6, "compact")
    with pytest.raises(Conflict):
        kafka_backend.open("0").subscribe("adder", wider, "1")


def test_a_missing_topic_that_somebody_else_should_make_is_named(
    kafka_settings: KafkaSettings, opened: Callable[[Log], Log]
) -> None:
    log = opened(KafkaLog(kafka_settings.model_copy(update={"topics": "expect"}), instance="0", topics=TOPICS))
    with pytest.raises(NotFound, match=r"numbers-added-v1"):
        log.end_offsets(NUMBERS)


def test_what_a_commit_without_outputs_stored_is_found_by_the_next_member(kafka_backend: Backend) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(5)])
    member = log.subscribe("adder", NUMBERS, "1")
    member.commit(next_offsets(poll_all(member, log, NUMBERS)), [])
    eventually(lambda: log.lag("adder", NUMBERS, "1") == 0)
    member.close()
    again = log.subscribe("adder", NUMBERS, "1")
    assert poll_all(again, log, NUMBERS) == []
    again.close()
