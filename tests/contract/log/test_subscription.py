"""Groups: polls, positions, commits with outputs, versions, lag."""

from __future__ import annotations

import pytest

from contract.log.backends import (
    EVENTS,
    NUMBERS,
    SUMS,
    Backend,
    event,
    eventually,
    next_offsets,
    number,
    poll_all,
    poll_until,
    total,
    values,
)
from xinstruct.spine.errors import Fenced, Invalid, NotFound
from xinstruct.spine.log import Log
from xinstruct.spine.record import Record


def test_a_new_group_begins_with_the_first_record(log: Log) -> None:
    log.append([number(i) for i in range(10)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    assert sorted(values(poll_all(subscription, log, NUMBERS))) == list(range(10))
    subscription.close()


def test_records_of_a_partition_arrive_in_order_and_each_once(log: Log) -> None:
    log.append([number(i) for i in range(200)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_until(subscription, lambda found: len(found) >= 200, records_max=7)
    assert sorted(values(records)) == list(range(200))
    for partition in range(NUMBERS.partitions):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == sorted(offsets)
    subscription.close()


def test_a_poll_returns_no_more_than_asked_for(log: Log) -> None:
    log.append([number(i) for i in range(50)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    sizes: list[int] = []
    while sum(sizes) < 50:
        sizes.append(len(subscription.poll(4, 0.2)))
    assert max(sizes) <= 4
    subscription.close()


def test_what_is_appended_while_a_poll_waits_is_returned(log: Log) -> None:
    subscription = log.subscribe("adder", NUMBERS, "1")
    poll_all(subscription, log, NUMBERS)
    log.append([number(1)])
    assert values(poll_until(subscription, bool)) == [1]
    subscription.close()


def test_polling_for_nothing_moves_nothing(log: Log) -> None:
    log.append([number(i) for i in range(10)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    first = poll_until(subscription, bool, records_max=1)
    before = dict(subscription.positions())
    assert subscription.poll(0, 0.3) == []
    assert dict(subscription.positions()) == before
    assert sorted(values(first + poll_all(subscription, log, NUMBERS))) == list(range(10))
    subscription.close()


def test_a_member_that_returns_begins_after_what_was_committed(log: Log) -> None:
    log.append([number(i) for i in range(20)])
    first = log.subscribe("adder", NUMBERS, "1")
    done = poll_until(first, lambda found: len(found) >= 5, records_max=5)
    first.commit(next_offsets(done), [])
    poll_until(first, bool)  # read, but not committed
    first.close()
    second = log.subscribe("adder", NUMBERS, "1")
    assert sorted(values(done + poll_all(second, log, NUMBERS))) == list(range(20))
    second.close()


def test_groups_do_not_know_of_each_other(log: Log) -> None:
    log.append([number(i) for i in range(5)])
    adder, counter = log.subscribe("adder", NUMBERS, "1"), log.subscribe("counter", NUMBERS, "1")
    adder.commit(next_offsets(poll_all(adder, log, NUMBERS)), [])
    assert sorted(values(poll_all(counter, log, NUMBERS))) == list(range(5))
    adder.close()
    counter.close()


def test_outputs_and_positions_of_a_commit_appear_together_and_in_order(log: Log) -> None:
    log.append([number(i) for i in range(10)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(subscription, log, NUMBERS)
    subscription.commit(next_offsets(records), [total(i, key="one") for i in range(10)])
    assert values(list(log.read(SUMS, {}))) == list(range(10))
    eventually(lambda: log.committed("adder", NUMBERS, "1") == next_offsets(records))
    subscription.close()


def test_a_commit_with_a_record_that_cannot_be_written_writes_and_advances_nothing(log: Log) -> None:
    log.append([number(1)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(subscription, log, NUMBERS)
    with pytest.raises(Invalid):
        subscription.commit(next_offsets(records), [total(1), Record(SUMS.name, "k", "", b"")])
    assert list(log.read(SUMS, {})) == []
    assert log.committed("adder", NUMBERS, "1") == {}
    subscription.commit(next_offsets(records), [total(1)])
    assert values(list(log.read(SUMS, {}))) == [1]
    subscription.close()


def test_a_commit_beyond_what_was_polled_is_refused(log: Log) -> None:
    log.append([number(1)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    (record,) = poll_all(subscription, log, NUMBERS)
    with pytest.raises(Invalid):
        subscription.commit({record.partition: record.offset + 2}, [])
    assert log.committed("adder", NUMBERS, "1") == {}
    subscription.close()


def test_rewinding_reads_again_from_the_last_commit_and_only_those_partitions(log: Log) -> None:
    log.append([number(i) for i in range(30)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(subscription, log, NUMBERS)
    halves = {p: [r for r in records if r.partition == p] for p in range(NUMBERS.partitions)}
    subscription.commit({0: halves[0][1].offset}, [])
    subscription.rewind([0, 1])
    again = poll_all(subscription, log, NUMBERS)
    assert sorted(values(again)) == sorted(values(halves[0][1:] + halves[1]))
    subscription.close()


def test_a_position_of_another_version_counts_as_none(log: Log) -> None:
    log.append([number(i) for i in range(6)])
    old = log.subscribe("adder", NUMBERS, "evaluator-1")
    old.commit(next_offsets(poll_all(old, log, NUMBERS)), [])
    old.close()
    assert log.committed("adder", NUMBERS, "evaluator-2") == {}
    assert log.lag("adder", NUMBERS, "evaluator-2") == 6
    new = log.subscribe("adder", NUMBERS, "evaluator-2")
    records = poll_all(new, log, NUMBERS)
    assert sorted(values(records)) == list(range(6))
    new.commit(next_offsets(records), [])
    assert log.committed("adder", NUMBERS, "evaluator-2") == next_offsets(records)
    assert log.committed("adder", NUMBERS, "evaluator-1") == {}
    new.close()


def test_positions_and_lag_pass_the_markers_that_commits_leave(log: Log) -> None:
    log.append([number(i) for i in range(8)])
    adder = log.subscribe("adder", NUMBERS, "1")
    for record in poll_until(adder, lambda found: len(found) >= 8):
        adder.commit({record.partition: record.offset + 1}, [total(int(record.value or b""))])
    reader = log.subscribe("reader", SUMS, "1")
    records = poll_all(reader, log, SUMS)
    reader.commit(next_offsets(records), [])
    assert reader.lag() > 0, "the last record of a transactional topic is not its end"
    assert log.lag("reader", SUMS, "1") == reader.lag()
    reader.commit(dict(reader.positions()), [])
    eventually(lambda: reader.lag() == 0)
    assert log.lag("reader", SUMS, "1") == 0
    assert sorted(values(records)) == list(range(8))
    adder.close()
    reader.close()


def test_lag_counts_all_partitions_from_the_committed_positions(log: Log) -> None:
    log.append([number(i) for i in range(9)])
    assert log.lag("adder", NUMBERS, "1") == 9
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(subscription, log, NUMBERS)
    assert subscription.lag() == 9
    subscription.commit({records[0].partition: records[0].offset + 1}, [])
    assert subscription.lag() == 8
    assert log.lag("adder", NUMBERS, "1") == 8
    subscription.close()


def test_nothing_is_lost_at_a_first_poll(log: Log) -> None:
    log.append([number(1)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    poll_all(subscription, log, NUMBERS)
    assert subscription.lost() == set()
    subscription.close()


def test_a_newer_member_of_the_same_place_fences_the_older_at_once(backend: Backend) -> None:
    older_log, newer_log = backend.open("0"), backend.open("0")
    older_log.append([number(i) for i in range(5)])
    older = older_log.subscribe("adder", NUMBERS, "1")
    records = poll_all(older, older_log, NUMBERS)
    newer = newer_log.subscribe("adder", NUMBERS, "1")
    taken = poll_all(newer, newer_log, NUMBERS)
    assert sorted(values(taken)) == list(range(5))
    with pytest.raises(Fenced):
        older.commit(next_offsets(records), [total(99)])
    with pytest.raises(Fenced):
        older.poll(10, 5.0)
    newer.commit(next_offsets(taken), [total(1)])
    assert values(list(newer_log.read(SUMS, {}))) == [1]
    older.close()
    newer.close()


def test_a_position_that_has_aged_out_is_an_error_except_for_a_new_group(backend: Backend) -> None:
    log = backend.open("0")
    log.append([event(i) for i in range(10)])
    subscription = log.subscribe("reader", EVENTS, "1")
    poll_all(subscription, log, EVENTS)
    subscription.commit({0: 1, 1: 1}, [])
    subscription.close()
    backend.forget_before(log, EVENTS, log.end_offsets(EVENTS))
    log.append([event(i) for i in range(10, 20)])
    again = log.subscribe("reader", EVENTS, "1")
    with pytest.raises(NotFound):
        poll_until(again, bool)
    again.close()
    fresh = log.subscribe("counter", EVENTS, "1")
    assert sorted(values(poll_all(fresh, log, EVENTS))) == list(range(10, 20))
    assert log.lag("counter", EVENTS, "1") == 10
    with pytest.raises(NotFound):
        list(log.read(EVENTS, {0: 1, 1: 1}))
    assert sorted(values(list(log.read(EVENTS, {})))) == list(range(10, 20))
    fresh.close()
