"""Ids and partitions: names in, the same place for ever out."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from xinstruct.spine.record import partition_of, slot_id

NAMES = st.text(st.characters(codec="utf-8"), max_size=12)
SLOTS = st.tuples(NAMES, NAMES, NAMES, st.integers(0, 10**6))


def test_a_slot_id_never_changes_between_versions_of_the_code() -> None:
    # Ids are in logs, catalogs and releases: another value here would orphan all of them.
    assert slot_id("backgen", "1+ab", "d" * 32, 0) == "5e528804c240966ad7610e8505b7957a"


def test_parts_that_read_alike_when_joined_have_different_ids() -> None:
    assert slot_id("ab", "c", "d", 0) != slot_id("a", "bc", "d", 0)
    assert slot_id("a", "b", "c1", 0) != slot_id("a", "b", "c", 10)
    assert slot_id("a", "", "b", 0) != slot_id("", "a", "b", 0)


@settings(derandomize=True, deadline=None)
@given(one=SLOTS, other=SLOTS)
def test_two_slots_have_equal_ids_only_when_they_are_the_same_slot(
    one: tuple[str, str, str, int], other: tuple[str, str, str, int]
) -> None:
    assert (slot_id(*one) == slot_id(*other)) == (one == other)


def test_a_key_never_changes_its_partition_between_versions_of_the_code() -> None:
    assert [partition_of(key, 12) for key in ("", "a", "nyumbani.example", "ไทย")] == [0, 11, 5, 0]


@settings(derandomize=True, deadline=None)
@given(key=NAMES, partitions=st.integers(1, 64))
def test_a_partition_is_one_of_the_topics_own(key: str, partitions: int) -> None:
    assert 0 <= partition_of(key, partitions) < partitions


def test_keys_spread_over_all_partitions_without_crowding_one() -> None:
    counts = [0] * 12
    for number in range(12_000):
        counts[partition_of(slot_id("s", "1", str(number), 0), 12)] += 1

    assert min(counts) > 850
    assert max(counts) < 1150
