"""KEDA scales backgen of the chart by the lag of its group: up to three pods, down to one, to none at rest and back.
A scoring slot without an evaluator, to which all that is drafted is lag, keeps its one pod. CPU scales the crawler.

The model is bound by latency, as one on a GPU of its own is: each answer takes a second however many are asked for at
once, and the machine has next to nothing to compute.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cluster.house import FULL_NAME, KEDA, METRICS, Bed, install, merged, models, namespace, small
from cluster.kubectl import Cluster, Manifest, Refused, ready, until
from cluster.work import COMMITTED, feed, figure, rows

ANSWER_S = 1.0
IN_FLIGHT_MAX = 4
PODS_MAX = 3
LAG_RECORDS = 20
COOLDOWN_S = 15
SPEEDUP_MIN = 2.5
RATE_WINDOW_S = 45.0
ADMITTED_S_MAX = 240
SCALED_S_MAX = 90
DRAFTED_S_MAX = 420
TEXTS_COUNT = 1_200
"""Enough for both windows, the start of three pods between them, and some lag after that."""

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Scaled:
    """A release whose backgen KEDA scales."""

    inside: Cluster
    values: dict[str, Any]
    folder: Path

    def pods(self) -> list[Manifest]:
        """Backgen's pods that do not leave."""
        return self.inside.staying("backgen")

    def has_pods(self, count: int) -> bool:
        """Whether there are exactly so many, all at work."""
        return self.inside.has_ready("backgen", count)

    def scale(self, **scaling: int) -> None:
        """Another scaling of backgen, by an upgrade."""
        values = merged(self.values, {"services": {"backgen": {"scaling": scaling}}})
        install(self.inside, values, self.folder)

    def committed(self) -> float:
        """Documents that the pods of now have done, since each of them started."""
        return figure(self.inside, [pod["metadata"]["name"] for pod in self.pods()], COMMITTED, stage="backgen")

    def waiting(self) -> int:
        """Documents without a pair."""
        return rows(self.inside, "documents") - rows(self.inside, "pairs")

    def drafted_per_s(self) -> float:
        """Throughput of the pods of now, over a window in which more waits than they can do."""
        begin, first = time.monotonic(), self.committed()
        until(lambda: time.monotonic() - begin >= RATE_WINDOW_S, "the window ends", within_s=2 * RATE_WINDOW_S)
        rate = (self.committed() - first) / (time.monotonic() - begin)
        assert self.waiting() > 0, "the pods ran out of work: nothing was measured"
        return rate


@pytest.fixture(scope="module")
def scaled(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    """The small profile with one pod of backgen at first, whose ScaledObject KEDA has taken."""
    if not bed.has(KEDA):
        pytest.skip("KEDA is not installed: ADDONS=keda")
    folder = tmp_path_factory.mktemp("values")
    values = merged(small(bed), {
        "keda": {"scaledObject": "always", "pollingIntervalS": 2},
        "config": {"inference": {
            "generator": {"in_flight_max": IN_FLIGHT_MAX},
            # Nothing is scored: this machine's processors are for the pods that are measured.
            "evaluator": {"kind": "kserve", "url": "http://nobody"},
        }},
        "services": {"backgen": {"scaling": scaling(1)}, "scoring-b": {"scaling": scaling(PODS_MAX)}},
    })
    with namespace(bed) as inside:
        inside.apply(*models(bed, answer_s=ANSWER_S))
        install(inside, values, folder)
        found = Scaled(inside, values, folder)
        until(lambda: found.has_pods(1), "backgen is ready", within_s=240)
        until(lambda: inside.pod_ready(f"{FULL_NAME}-crawler-0"), "the crawler is ready", within_s=60)
        for service in ("backgen", "scoring-b"):
            until(partial(taken, inside, service), f"KEDA reads the lag of {service}", within_s=60)
        yield found


def scaling(pods_max: int) -> dict[str, Any]:
    """One pod, up to `pods_max` by lag."""
    return {
        "kind": "keda", "replicasMin": 1, "replicasMax": pods_max, "lagRecords": LAG_RECORDS, "cooldownS": COOLDOWN_S,
    }


def taken(inside: Cluster, service: str) -> bool:
    """Whether KEDA has made a scaler of the ScaledObject and reads its source."""
    try:
        item = inside.get("scaledobject", f"{FULL_NAME}-{service}")
    except Refused:
        return False
    return ready(item)


def test_three_pods_that_lag_has_brought_draft_two_and_a_half_times_what_one_does(scaled: Scaled) -> None:
    feed(scaled.inside, "Mbasi", TEXTS_COUNT, within_s=ADMITTED_S_MAX)
    until(lambda: scaled.committed() > 3 * IN_FLIGHT_MAX, "one pod is at work", within_s=60)
    alone = scaled.drafted_per_s()
    scaled.scale(replicasMax=PODS_MAX)
    grown_s = until(lambda: scaled.has_pods(PODS_MAX), "lag brings three pods", within_s=SCALED_S_MAX)
    until(lambda: all_draft(scaled), "all three draft", within_s=60)
    together = scaled.drafted_per_s()
    print(f"one pod: {alone:.2f}/s; three, {grown_s:.1f} s after they were allowed: {together:.2f}/s; "
          f"{together / alone:.2f} times as much")
    assert together / alone >= SPEEDUP_MIN


def test_when_nothing_waits_one_pod_is_left(scaled: Scaled) -> None:
    until(lambda: scaled.waiting() == 0, "all is drafted", within_s=DRAFTED_S_MAX)
    shrunk_s = until(lambda: scaled.has_pods(1), "one pod is left", within_s=SCALED_S_MAX + COOLDOWN_S)
    print(f"one pod {shrunk_s:.1f} s after the last draft")


def test_a_slot_without_an_evaluator_keeps_its_one_pod_beside_all_that_was_drafted(scaled: Scaled) -> None:
    pairs = rows(scaled.inside, "pairs")
    status = scaled.inside.get("horizontalpodautoscaler", f"keda-hpa-{FULL_NAME}-scoring-b")["status"]
    print(f"{pairs} pairs; {status.get('desiredReplicas')} pods asked for, by {status.get('currentMetrics')}")
    assert pairs > 10 * LAG_RECORDS
    assert {"type": "ScalingActive", "status": "True"}.items() <= next(
        item for item in status["conditions"] if item["type"] == "ScalingActive").items()
    assert status["desiredReplicas"] == 1 and "lastScaleTime" not in status, "it was scaled"


def test_backgen_that_may_rest_has_no_pod_without_work_and_one_again_with_it(scaled: Scaled) -> None:
    scaled.scale(replicasMin=0, replicasMax=PODS_MAX)
    rested_s = until(lambda: not scaled.pods(), "no pod is left", within_s=SCALED_S_MAX + COOLDOWN_S)
    feed(scaled.inside, "Tolemba", 40, within_s=ADMITTED_S_MAX)
    woken_s = until(lambda: len(scaled.pods()) > 0, "work brings a pod", within_s=SCALED_S_MAX)
    until(lambda: scaled.waiting() == 0, "all is drafted", within_s=DRAFTED_S_MAX)
    again_s = until(lambda: not scaled.pods(), "no pod is left again", within_s=SCALED_S_MAX + 2 * COOLDOWN_S)
    print(f"none after {rested_s:.1f} s of rest, one {woken_s:.1f} s after work, none {again_s:.1f} s after its end")


def test_a_crawler_at_work_gets_a_second_pod_by_its_cpu_and_gives_it_back(scaled: Scaled, bed: Bed) -> None:
    if not bed.has(METRICS):
        pytest.skip("no metrics API: ADDONS=metrics")
    by_cpu = {"kind": "hpa", "replicasMin": 1, "replicasMax": 2, "cooldownS": COOLDOWN_S}
    install(scaled.inside, merged(scaled.values, {"services": {"crawler": {"scaling": by_cpu}}}), scaled.folder)
    until(lambda: measured(scaled.inside), "the CPU of the crawler is measured", within_s=SCALED_S_MAX)
    feed(scaled.inside, "Lusimba", TEXTS_COUNT, within_s=ADMITTED_S_MAX)
    grown_s = until(lambda: rescaled(scaled.inside, 2), "CPU brings a second crawler", within_s=SCALED_S_MAX)
    shrunk_s = until(
        lambda: rescaled(scaled.inside, 1) and scaled.inside.has_ready("crawler", 1), "one crawler is left",
        within_s=2 * SCALED_S_MAX,
    )
    print(f"a second crawler {grown_s:.1f} s after the last text was admitted, or before; one {shrunk_s:.1f} s later")


def measured(inside: Cluster) -> bool:
    """Whether the crawler's HorizontalPodAutoscaler knows a figure."""
    try:
        status = inside.get("horizontalpodautoscaler", f"{FULL_NAME}-crawler")["status"]
    except Refused:
        return False
    figures = [item.get("resource", {}).get("current", {}) for item in status.get("currentMetrics") or ()]
    return any("averageUtilization" in figure for figure in figures)


def rescaled(inside: Cluster, count: int) -> bool:
    """Whether the crawler's HorizontalPodAutoscaler has said that it wants so many pods."""
    said = [
        item["message"] for item in inside.all("event")
        if item["reason"] == "SuccessfulRescale" and item["involvedObject"]["name"] == f"{FULL_NAME}-crawler"
    ]
    return any(message.startswith(f"New size: {count};") for message in said)


def all_draft(scaled: Scaled) -> bool:
    """Whether each pod has drafted since it is there: each has partitions of its own."""
    names = [pod["metadata"]["name"] for pod in scaled.pods()]
    return all(figure(scaled.inside, [name], COMMITTED, stage="backgen") for name in names)
