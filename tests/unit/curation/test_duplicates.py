"""Clusters of near and exact duplicates."""

from __future__ import annotations

import random

import numpy as np
import pytest

from xinstruct.curation.duplicates import SIGNATURE_VALUES, clusters
from xinstruct.spine.errors import Invalid


def signature(seed: int, *, changed: int = 0) -> bytes:
    """A random signature; `changed` of its values, spread evenly, differ from that of the same seed without change."""
    values = np.random.default_rng(seed).integers(0, 1 << 62, SIGNATURE_VALUES, dtype=np.uint64)
    places = np.linspace(0, SIGNATURE_VALUES - 1, changed, dtype=int) if changed else []
    values[places] += np.uint64(1)
    return values.astype("<u8").tobytes()


def groups(documents: dict[str, bytes], digests: dict[str, str] | None = None) -> set[frozenset[str]]:
    """The clusters as sets of document ids."""
    ids = list(documents)
    found = clusters(ids, list(documents.values()), [(digests or {}).get(i, "") for i in ids], equal_ratio=0.7)
    return {frozenset(i for i in ids if found[i] == label) for label in found.values()}


def test_unlike_documents_stay_apart() -> None:
    assert groups({"a": signature(1), "b": signature(2)}) == {frozenset("a"), frozenset("b")}


def test_equal_text_is_one_cluster_whatever_the_signature() -> None:
    assert groups({"a": signature(1), "b": signature(2)}, {"a": "x", "b": "x"}) == {frozenset("ab")}


def test_empty_digests_are_not_equal_texts() -> None:
    assert len(groups({"a": signature(1), "b": signature(2)}, {"a": "", "b": ""})) == 2


def test_the_ratio_is_the_border() -> None:
    # 33 of 112 values differ: 0.705 agree; 34: 0.696.
    assert len(groups({"a": signature(1), "b": bunched(1, 33)})) == 1
    assert len(groups({"a": signature(1), "b": bunched(1, 34)})) == 2


def bunched(seed: int, changed: int) -> bytes:
    """As signature, with the changes side by side: the other bands stay whole."""
    values = np.frombuffer(signature(seed), dtype="<u8").copy()
    values[:changed] += np.uint64(1)
    return values.tobytes()


def test_clusters_are_closed_over_chains() -> None:
    first, last = np.frombuffer(bunched(1, 30), dtype="<u8").copy(), None
    last = first.copy()
    last[-30:] += np.uint64(1)
    documents = {"a": signature(1), "b": first.tobytes(), "c": last.tobytes()}
    assert groups(documents) == {frozenset("abc")}
    assert len(groups({"a": documents["a"], "c": documents["c"]})) == 2


def test_order_of_arrival_changes_neither_clusters_nor_numbers() -> None:
    documents = {f"{i:03d}": signature(i // 3, changed=i % 3) for i in range(90)}
    ids = list(documents)
    expected = clusters(ids, list(documents.values()), [""] * 90, equal_ratio=0.7)
    random.Random(2).shuffle(ids)
    assert clusters(ids, [documents[i] for i in ids], [""] * 90, equal_ratio=0.7) == expected
    assert len(set(expected.values())) == 30 and expected["000"] == 0


def test_a_thousand_copies_are_one_cluster() -> None:
    assert len(groups({f"{i:04d}": signature(7) for i in range(1000)})) == 1


def test_nearly_all_pairs_at_nine_tenths_are_found() -> None:
    documents = {f"{i:03d}-{side}": random_change(i, 11 * side) for i in range(200) for side in (0, 1)}
    assert sum(len(group) == 2 for group in groups(documents)) >= 198


def random_change(seed: int, changed: int) -> bytes:
    values = np.frombuffer(signature(seed), dtype="<u8").copy()
    values[np.random.default_rng(seed).permutation(SIGNATURE_VALUES)[:changed]] += np.uint64(1)
    return values.tobytes()


def test_no_documents_have_no_clusters() -> None:
    assert clusters([], [], [], equal_ratio=0.7) == {}


def test_a_signature_of_another_size_is_refused() -> None:
    with pytest.raises(Invalid, match="8 bytes, not 896"):
        clusters(["a"], [b"12345678"], [""], equal_ratio=0.7)
