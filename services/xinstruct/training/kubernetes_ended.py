"""The loop that deletes TrainJobs whose time is over: Kubernetes does that for Jobs, and the Trainer for nobody."""

from __future__ import annotations

from collections.abc import Callable, Set
from datetime import datetime

from xinstruct.spine.errors import Unavailable
from xinstruct.spine.telemetry import logger
from xinstruct.training.kubernetes_api import TRAIN_JOB, Cluster, Manifest
from xinstruct.training.kubernetes_jobs import JOB_LABEL
from xinstruct.training.kubernetes_pods import conditions

TTL_ANNOTATION = "xinstruct/ttl-s"
"""Seconds for which an ended TrainJob is kept; the manifest brings it. One without it, or with a word, stays."""
OWNER_LABEL = "app.kubernetes.io/managed-by"
LOOK_S, LOOK_S_MIN = 60.0, 1.0
"""Seconds between two looks, at most and at least: a shorter time to live is looked at as often as it is long."""


class EndedTrainJobs:
    """TrainJobs of one release, those with its manifest's label, also when jobs are made as Jobs by now.

    One whose end its keeper has not seen yet stays. What jobs wrote stays in their folders.
    """

    name = "training-ended"

    def __init__(
        self, cluster: Cluster, manifest: Manifest, open_jobs: Callable[[], Set[str]], clock: Callable[[], int]
    ) -> None:
        """`manifest`: what jobs are made of. `open_jobs`: names of those that have not ended as far as their keepers
        know. `clock`: milliseconds since 1970."""
        metadata = manifest["metadata"]
        self._cluster = cluster
        self._owner = str(metadata.get("labels", {}).get(OWNER_LABEL, ""))
        ttl_s = _ttl_s(manifest)
        self._look_each_s = LOOK_S if ttl_s is None else max(LOOK_S_MIN, min(LOOK_S, ttl_s))
        self._open_jobs = open_jobs
        self._clock = clock
        self._look_ms = 0

    def step(self) -> bool:
        """Delete what is over. An API that is away or refuses is said, and asked again at the next look."""
        now_ms = self._clock()
        if now_ms < self._look_ms:
            return False
        self._look_ms = now_ms + int(self._look_each_s * 1000)
        try:
            return self._delete(now_ms)
        except Unavailable as error:  # training works all the same: nobody is to find it not ready for this
            logger().warning("ended_trainjobs_stay", reason=error.message)
            return False

    def _delete(self, now_ms: int) -> bool:
        ended = [item for item in self._cluster.labelled(TRAIN_JOB, OWNER_LABEL, self._owner) if _over(item, now_ms)]
        open_jobs = self._open_jobs()
        over = [item for item in ended if item["metadata"]["labels"][JOB_LABEL] not in open_jobs]
        for item in over:
            self._cluster.delete(TRAIN_JOB, item["metadata"]["name"])
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
    ttl_s = _ttl_s(item)
    end_ms = datetime.fromisoformat(end["lastTransitionTime"]).timestamp() * 1000
    return ttl_s is not None and now_ms >= end_ms + ttl_s * 1000


def _ttl_s(item: Manifest) -> float | None:
    """The time to live; None where it is no number, as somebody may have written who wants to keep one."""
    annotations = item["metadata"].get("annotations") or {}
    try:
        return float(annotations[TTL_ANNOTATION])
    except (KeyError, ValueError):
        return None
