"""Quotas, water-filling and k-means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xinstruct.curation.config import DiversifySettings
from xinstruct.curation.diversify import diversify, water_fill
from xinstruct.curation.domain import Candidate, Decision, ReleaseOutcome


def rows(count: int) -> list[Candidate]:
    """Pairs sorted by id; P(best) falls with the id."""
    best = [0.99 - i / 10_000 for i in range(count)]
    return [Candidate(f"{i:04d}", f"d{i:04d}", "sw", f"Describe {i}.", 500, best[i], 0.01, 0.0) for i in range(count)]


def blobs_of_vectors(sizes: list[int], spread: float) -> Any:
    """Unit vectors around as many orthogonal axes as there are sizes."""
    noise = np.random.default_rng(3)
    parts = [np.eye(16)[axis] + noise.normal(0, spread, (size, 16)) for axis, size in enumerate(sizes)]
    vectors = np.concatenate(parts)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def published(decisions: list[Decision]) -> list[str]:
    return [d.pair_id for d in decisions if d.outcome is ReleaseOutcome.PUBLISHED]


def test_shares_are_equal_where_they_can_be() -> None:
    assert water_fill([10, 10, 10], 9) == [3, 3, 3]
    assert water_fill([1, 10, 10], 9) == [1, 4, 4]
    assert water_fill([2, 2], 9) == [2, 2]
    assert water_fill([5, 5], 3) == [2, 1]
    assert water_fill([0, 4], 3) == [0, 3]
    assert water_fill([], 3) == []


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 400))
def test_the_total_is_exact_and_no_bucket_overflows(capacities: list[int], total: int) -> None:
    shares = water_fill(capacities, total)
    assert sum(shares) == min(total, sum(capacities))
    assert all(0 <= share <= capacity for share, capacity in zip(shares, capacities, strict=True))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.integers(0, 400))
@settings(max_examples=50)
def test_a_bucket_below_its_capacity_is_no_poorer_than_another(capacities: list[int], total: int) -> None:
    shares = water_fill(capacities, total)
    hungry = [share for share, capacity in zip(shares, capacities, strict=True) if share < capacity]
    assert not hungry or max(shares) <= min(hungry) + 1


def test_near_instructions_are_taken_only_to_reach_the_total() -> None:
    vectors = blobs_of_vectors([8, 8], spread=1e-4)
    deferred = DiversifySettings(rows_per_cluster_min=8, cosine_max=0.9, rows_per_language_max=4)
    found = diversify(rows(16), vectors, deferred)
    assert published(found) == ["0000", "0001", "0008", "0009"]
    assert {d.outcome for d in found if d.pair_id not in published(found)} == {ReleaseOutcome.NEAR_INSTRUCTION}


def test_near_instructions_can_be_dropped_for_good() -> None:
    strict = DiversifySettings(rows_per_cluster_min=8, cosine_max=0.9, near_instructions="drop")
    assert published(diversify(rows(16), blobs_of_vectors([8, 8], spread=1e-4), strict)) == ["0000", "0008"]


def test_without_a_binding_limit_every_row_is_published() -> None:
    assert len(published(diversify(rows(60), blobs_of_vectors([50, 10], spread=1e-4), DiversifySettings()))) == 60


def test_small_clusters_give_their_share_to_large_ones() -> None:
    vectors = blobs_of_vectors([4, 36], spread=0.9)
    setting = DiversifySettings(rows_per_cluster_min=20, cosine_max=1.0, cluster_quota=10)
    found = diversify(rows(40), vectors, setting)
    assert len(published(found)) == 20


def test_within_a_cluster_the_likeliest_are_published() -> None:
    setting = DiversifySettings(clusters_max=1, cosine_max=1.0, rows_per_language_max=3)
    assert published(diversify(rows(10), blobs_of_vectors([10], spread=0.3), setting)) == ["0000", "0001", "0002"]


def test_the_other_mode_publishes_one_row_a_cluster() -> None:
    setting = DiversifySettings(mode="centroid", rows_per_language_max=3)
    found = diversify(rows(30), blobs_of_vectors([10, 10, 10], spread=0.05), setting)
    assert len(published(found)) == 3
    assert len({d.cluster for d in found if d.outcome is ReleaseOutcome.PUBLISHED}) == 3


def test_equal_instructions_vectors_do_not_break_the_clustering() -> None:
    vectors = np.tile(np.eye(16)[0], (20, 1))
    assert len(published(diversify(rows(20), vectors, DiversifySettings()))) == 20


@pytest.mark.parametrize("mode", ["quota", "centroid"])
def test_the_same_rows_give_the_same_decisions(mode: Any) -> None:
    setting = DiversifySettings(mode=mode, rows_per_language_max=40)
    vectors = blobs_of_vectors([30, 30, 30], spread=0.3)
    assert diversify(rows(90), vectors, setting) == diversify(rows(90), vectors.copy(), setting)


def test_no_rows_give_no_decisions() -> None:
    assert diversify([], np.empty((0, 16)), DiversifySettings()) == []
