"""The loop that deletes TrainJobs whose time is over: Kubernetes does that for Jobs, and the Trainer for nobody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from xinstruct.training.kubernetes_api import TRAIN_JOB, Cluster, Manifest
from xinstruct.training.kubernetes_jobs import JOB_LABEL
from xinstruct.training.kubernetes_pods import conditions

TTL_ANNOTATION = "xinstruct/ttl-s"
"""Seconds for which an ended TrainJob is kept; the manifest brings it, and one without it stays."""
OWNER_LABEL = "app.kubernetes.io/managed-by"
LOOK_S, LOOK_S_MIN = 60.0, 1.0
"""Seconds between two looks, at most and at least: a shorter time to live is looked at as often as it is long."""


class EndedTrainJobs:
    """TrainJobs of one release: those with its manifest's label. What their jobs wrote stays in their folders."""

    name = "training-ended"

    def __init__(self, cluster: Cluster, manifest: Manifest, clock: Callable[[], int]) -> None:
        """`manifest`: what TrainJobs are made of. `clock`: milliseconds since 1970."""
        metadata = manifest["metadata"]
        self._cluster = cluster
        self._owner = str(metadata.get("labels", {}).get(OWNER_LABEL, ""))
        self._look_each_s = max(LOOK_S_MIN, min(LOOK_S, _ttl_s(manifest, LOOK_S)))
        self._clock = clock
        self._look_ms = 0

    def step(self) -> bool:
        """Delete what is over. Unavailable, with a sentence, when the API is away or refuses."""
        now_ms = self._clock()
        if now_ms < self._look_ms:
            return False
        over = [item for item in self._cluster.labelled(TRAIN_JOB, OWNER_LABEL, self._owner) if _over(item, now_ms)]
        for item in over:
            self._cluster.delete(TRAIN_JOB, item["metadata"]["name"])
        self._look_ms = now_ms + int(self._look_each_s * 1000)
        return bool(over)

    def pending(self) -> bool:
        """Nothing that anybody waits for."""
        return False

    def close(self) -> None:
        """Release connections."""
        self._cluster.close()


def _over(item: Manifest, now_ms: int) -> bool:
    """Whether a TrainJob that a job was made as has ended, and its time to live since then is over."""
    true = conditions(item)
    end = true.get("Complete") or true.get("Failed")
    if end is None or "deletionTimestamp" in item["metadata"] or JOB_LABEL not in item["metadata"]["labels"]:
        return False
    end_ms = datetime.fromisoformat(end["lastTransitionTime"]).timestamp() * 1000
    return now_ms >= end_ms + _ttl_s(item, float("inf")) * 1000


def _ttl_s(item: Manifest, otherwise: float) -> float:
    annotations = item["metadata"].get("annotations") or {}
    return float(annotations.get(TTL_ANNOTATION, otherwise))
