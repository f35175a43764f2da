"""Ingress and reading without a group."""

from __future__ import annotations

import pytest

from contract.log.backends import NUMBERS, SUMS, number, values
from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.spine.log import Log
from xinstruct.spine.log.wire import RECORD_BYTES_MAX
from xinstruct.spine.record import RECORD_ID_HEADER, Record, partition_of


def test_a_record_comes_back_whole_and_placed(log: Log) -> None:
    value = bytes(range(256))
    log.append([Record(NUMBERS.name, "ключ/การ", "id-ñ", value, {"traceparent": "00-1", "leer": ""})])
    partition = partition_of("ключ/การ", NUMBERS.partitions)
    expected = Record(NUMBERS.name, "ключ/การ", "id-ñ", value, {"traceparent": "00-1", "leer": ""}, partition, 0)
    assert list(log.read(NUMBERS, {})) == [expected]


def test_a_tombstone_and_an_empty_value_stay_apart(log: Log) -> None:
    log.append([Record(NUMBERS.name, "k", "1", None), Record(NUMBERS.name, "k", "2", b"")])
    assert [record.value for record in log.read(NUMBERS, {})] == [None, b""]


def test_records_of_a_key_keep_their_order_and_their_partition(log: Log) -> None:
    log.append([number(i, key=f"key-{i % 7}") for i in range(70)])
    records = list(log.read(NUMBERS, {}))
    assert sorted(values(records)) == list(range(70))
    for key in {record.key for record in records}:
        of_key = [record for record in records if record.key == key]
        assert values(of_key) == sorted(values(of_key))
        assert {record.partition for record in of_key} == {partition_of(key, NUMBERS.partitions)}


def test_a_repeat_is_kept_and_visible_by_its_id(log: Log) -> None:
    log.append([number(1)])
    log.append([number(1)])
    assert [record.id for record in log.read(NUMBERS, {})] == ["id-1", "id-1"]


def test_reading_ends_where_the_log_ended_at_the_call(log: Log) -> None:
    log.append([number(1)])
    reading = log.read(NUMBERS, {})
    log.append([number(2)])
    assert values(list(reading)) == [1]


def test_reading_starts_at_the_given_offsets_and_at_the_beginning_where_none_is_given(log: Log) -> None:
    log.append([number(i) for i in range(30)])
    everything = list(log.read(NUMBERS, {}))
    rest = list(log.read(NUMBERS, {0: 3}))
    assert sorted(values(rest)) == sorted(values([r for r in everything if r.partition != 0 or r.offset >= 3]))


def test_one_reading_after_another_and_two_at_once_are_whole(log: Log) -> None:
    log.append([number(i) for i in range(30)])
    assert sorted(values(list(log.read(NUMBERS, {})))) == list(range(30))
    one, other = log.read(NUMBERS, {}), log.read(NUMBERS, {})
    first = [next(one), next(other)]
    assert sorted(values([first[0], *one])) == list(range(30))
    assert sorted(values([first[1], *other])) == list(range(30))
    next(log.read(NUMBERS, {}))  # left unfinished
    assert sorted(values(list(log.read(NUMBERS, {})))) == list(range(30))


def test_reading_beyond_the_end_is_an_error_and_not_an_empty_answer(log: Log) -> None:
    log.append([number(1)])
    with pytest.raises(NotFound):
        list(log.read(NUMBERS, {0: 1_000}))


def test_an_empty_topic_has_an_end_and_nothing_to_read(log: Log) -> None:
    assert log.end_offsets(SUMS) == {0: 0, 1: 0}
    assert list(log.read(SUMS, {})) == []


def test_end_offsets_count_what_was_appended(log: Log) -> None:
    log.append([number(i) for i in range(30)])
    assert sum(log.end_offsets(NUMBERS).values()) == 30


def test_many_records_are_read_in_order_over_several_fetches(log: Log) -> None:
    log.append([number(i, key="one") for i in range(1_700)])
    assert values(list(log.read(NUMBERS, {}))) == list(range(1_700))


def test_the_largest_record_comes_back(log: Log) -> None:
    overhead_bytes = len("k") + len(RECORD_ID_HEADER) + len("i")
    log.append([Record(NUMBERS.name, "k", "i", b"x" * (RECORD_BYTES_MAX - overhead_bytes))])
    assert [len(record.value or b"") for record in log.read(NUMBERS, {})] == [RECORD_BYTES_MAX - overhead_bytes]


@pytest.mark.parametrize(
    "bad",
    [
        Record("nobody-knows-v1", "k", "i", b""),
        Record(NUMBERS.name, "", "i", b""),
        Record(NUMBERS.name, "k", "", b""),
        Record(NUMBERS.name, "k", "\ud800", b""),
        Record(NUMBERS.name, "\ud800", "i", b""),
        Record(NUMBERS.name, "k", "i", b"", {"h": "\ud800"}),
        Record(NUMBERS.name, "k", "i", b"", {RECORD_ID_HEADER: "other"}),
        Record(NUMBERS.name, "k", "i", b"x" * RECORD_BYTES_MAX),
    ],
    ids=["topic", "no key", "no id", "id no text", "key no text", "header no text", "reserved header", "too large"],
)
def test_a_record_that_no_log_can_hold_is_refused_with_all_its_neighbours(log: Log, bad: Record) -> None:
    with pytest.raises(Invalid):
        log.append([number(1), bad])
    assert list(log.read(NUMBERS, {})) == []
