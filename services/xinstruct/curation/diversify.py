"""Spreads the kept rows of one language over clusters of their instructions (docs/method.md).

k-means over unit vectors (Lloyd, one start, fixed seed, one thread: other thread counts give other sums and so other
clusters). The result depends on the rows and the settings only: rows are taken in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from xinstruct.curation.config import DiversifySettings
from xinstruct.curation.domain import Candidate, Decision, ReleaseOutcome, likelihood

Vectors = NDArray[np.float64]
_COSINE_SLACK = 1e-9


def diversify(rows: Sequence[Candidate], vectors: Vectors, settings: DiversifySettings) -> list[Decision]:
    """A decision about every row, PUBLISHED or why not, in the order of `rows`, which must be sorted by id.

    `vectors`: a unit vector of each row's instruction. Published are exactly min(rows, rows_per_language_max, clusters
    × cluster_quota) rows, fewer only where near_instructions is "drop".
    """
    if not rows:
        return []
    if settings.mode == "centroid":
        return _nearest_to_centroids(rows, vectors, settings)
    labels, _ = _clustered(vectors, clusters_count(len(rows), settings), settings)
    return _by_quota(rows, vectors, labels, settings)


def clusters_count(rows_count: int, settings: DiversifySettings) -> int:
    """How many clusters `rows_count` (≥ 1) rows are put in."""
    return max(1, min(settings.clusters_max, rows_count // settings.rows_per_cluster_min))


def water_fill(capacities: Sequence[int], total: int) -> list[int]:
    """Shares of `total` over buckets of `capacities`: as equal as they can be, none above its capacity.

    What a small bucket lacks, the others give; the sum is min(total, sum of capacities). A rest below one a bucket goes
    to the first buckets in their order.
    """
    shares = [0] * len(capacities)
    left = min(total, sum(capacities))
    open_buckets = [index for index, capacity in enumerate(capacities) if capacity > 0]
    while left:
        level = left // len(open_buckets)
        if level == 0:
            for index in open_buckets[:left]:
                shares[index] += 1
            return shares
        for index in open_buckets:
            given = min(level, capacities[index] - shares[index])
            shares[index] += given
            left -= given
        open_buckets = [index for index in open_buckets if shares[index] < capacities[index]]
    return shares


def _by_quota(
    rows: Sequence[Candidate], vectors: Vectors, labels: NDArray[np.int64], settings: DiversifySettings
) -> list[Decision]:
    """Up to a share a cluster by P(best): first those far from each other, then, if deferred, the near ones."""
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    ordered = [sorted(cluster.tolist(), key=lambda index: likelihood(rows[index])) for cluster in members]
    split = [_far_and_near(cluster, vectors, settings.cosine_max) for cluster in ordered]
    total = min(settings.rows_per_language_max, settings.cluster_quota * len(members))
    far_shares = water_fill([len(far) for far, _ in split], total)
    near_total = total - sum(far_shares) if settings.near_instructions == "defer" else 0
    near_shares = water_fill([len(near) for _, near in split], near_total)
    outcomes: dict[int, ReleaseOutcome] = {}
    for (far, near), far_share, near_share in zip(split, far_shares, near_shares, strict=True):
        for index in far[:far_share] + near[:near_share]:
            outcomes[index] = ReleaseOutcome.PUBLISHED
        outcomes |= dict.fromkeys(far[far_share:], ReleaseOutcome.CLUSTER_QUOTA)
        outcomes |= dict.fromkeys(near[near_share:], ReleaseOutcome.NEAR_INSTRUCTION)
    return [_decision(row, outcomes[index], int(labels[index])) for index, row in enumerate(rows)]


def _far_and_near(cluster: Sequence[int], vectors: Vectors, cosine_max: float) -> tuple[list[int], list[int]]:
    """Members in their order, without and with a better member at a cosine of `cosine_max` or above."""
    far: list[int] = []
    near: list[int] = []
    for index in cluster:
        cosines = vectors[far] @ vectors[index] if far else np.zeros(1)
        (far if float(cosines.max()) < cosine_max - _COSINE_SLACK or not far else near).append(index)
    return far, near


def _nearest_to_centroids(rows: Sequence[Candidate], vectors: Vectors, settings: DiversifySettings) -> list[Decision]:
    """As many clusters as rows are wanted, and of each the row nearest to its centroid."""
    count = min(settings.rows_per_language_max, len(rows))
    labels, centroids = _clustered(vectors, count, settings)
    distances = np.linalg.norm(vectors - centroids[labels], axis=1).round(9)
    order = sorted(range(len(rows)), key=lambda index: (distances[index], likelihood(rows[index])))
    best: dict[int, int] = {}
    for index in order:
        best.setdefault(int(labels[index]), index)
    outcome = {True: ReleaseOutcome.PUBLISHED, False: ReleaseOutcome.CLUSTER_QUOTA}
    return [
        _decision(row, outcome[best[int(labels[index])] == index], int(labels[index])) for index, row in enumerate(rows)
    ]


def _clustered(vectors: Vectors, count: int, settings: DiversifySettings) -> tuple[NDArray[np.int64], Vectors]:
    """Cluster of each vector, numbered in the order of first appearance, and the centroids in that numbering.

    Equal vectors can not be told apart, so there are never more clusters than distinct vectors.
    """
    from sklearn.cluster import KMeans  # three seconds of a service's start, and hours before it is needed

    count = min(count, len(np.unique(vectors, axis=0)))
    means = KMeans(count, n_init=1, max_iter=settings.iterations_max, random_state=settings.seed, algorithm="lloyd")
    with threadpool_limits(limits=1):
        labels = means.fit_predict(vectors)
    found, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(found), dtype=np.int64)
    rank[order] = np.arange(len(found))
    return rank[inverse.ravel()], means.cluster_centers_[found[order]]


def _decision(row: Candidate, outcome: ReleaseOutcome, cluster: int) -> Decision:
    return Decision(row.pair_id, row.document_id, row.language, outcome, cluster)
