"""KEDA scales a model of charts/inference by the rows that wait in its predictors, behind KServe and without it.

The evaluator is models/tiny-base, and alone in its namespace: a whole release beside it has no room on two processors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.house import (
    KEDA,
    KSERVE,
    MODEL_POD,
    MODELS_CHART,
    ROOT,
    Bed,
    claim,
    install_chart,
    namespace,
    probe,
    put,
)
from cluster.kubectl import Cluster, ready, until
from cluster.work import figure
from xinstruct.inference.model_folder import model_digest

BASE = ROOT / "models" / "tiny-base"
CLAIM, RELEASE, MODEL = "models", "models", "xinstruct-evaluator"
PODS_MAX = 2
ROWS_WAITING_BORNE = 8
ROWS_ASKED = 200
"""At once, always: far above what is borne, of one pod as of two."""
READY_S_MAX, SCALED_S_MAX, SHARED_S_MAX = 240, 150, 90
ANSWERED_MIN = 100
"""Rows of a pod that has its share: more than one call's."""
FLOODS = f"""
from collections import deque
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.spine.inference import Classified, Classify
judge = KServeInference("http://{MODEL}", attempts_max=1)
digest = judge.probe().model
asked, number = deque(), 0
while True:
    while len(asked) < {ROWS_ASKED}:
        number += 1
        asked.append(judge.submit(Classify("evaluator", digest, f"Ziwa {{number}}.", (" best", " worst"))))
    answer = asked.popleft().result()
    assert isinstance(answer, Classified), answer
"""
"""Asks for ever; ends with an error when a call fails, for none is tried again."""

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Scaled:
    """An evaluator that KEDA scales."""

    bed: Bed
    inside: Cluster

    def has_pods(self, count: int) -> bool:
        """Whether there are exactly so many, all of them ready."""
        return self.inside.has_ready("evaluator", count)

    def answered(self) -> list[float]:
        """Rows that each pod has answered."""
        return [
            figure(self.inside, [pod["metadata"]["name"]], "xinstruct_predictor_rows_total", 8080, outcome="answered")
            for pod in self.inside.staying("evaluator")
        ]


@pytest.fixture(scope="module", params=["KServe", "Deployments"])
def scaled(
    request: pytest.FixtureRequest, bed: Bed, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scaled]:
    """One pod at first, whose queue KEDA reads."""
    by_kserve = request.param == "KServe"
    if not bed.has(KEDA):
        pytest.skip("KEDA is not installed: ADDONS=keda")
    if by_kserve and not bed.has(KSERVE):
        pytest.skip("KServe is not installed: ADDONS=kserve")
    with namespace(bed, claims=(CLAIM,)) as inside:
        inside.apply(claim(bed, CLAIM))
        put(bed, inside, BASE, below="evaluator", claim=CLAIM)
        install_chart(inside, RELEASE, MODELS_CHART, values(bed, by_kserve), tmp_path_factory.mktemp("values"))
        found = Scaled(bed, inside)
        until(lambda: found.has_pods(1), "the evaluator is ready", within_s=READY_S_MAX)
        until(lambda: ready(inside.get("scaledobject", MODEL)), "KEDA reads the queue", within_s=60)
        yield found


def values(bed: Bed, by_kserve: bool) -> dict[str, Any]:
    anybody = {"from": [{"namespaceSelector": {}}]}
    return {
        "imageRegistry": bed.registry, "images": {"model": {"tag": bed.tag}},
        "kserve": {"enabled": "always" if by_kserve else "never"},
        "keda": {"scaledObject": "always", "pollingIntervalS": 2},
        "networkPolicy": {"monitoring": anybody},
        "defaults": {"resources": MODEL_POD, "startupS": READY_S_MAX, "graceS": 10},
        "models": {
            "generator": {"enabled": False},
            "evaluator": {
                "storageUri": f"pvc://{CLAIM}/evaluator", "modelDigest": model_digest(BASE),
                "scaling": {"kind": "keda", "replicasMax": PODS_MAX, "queuedRequests": ROWS_WAITING_BORNE,
                            "cooldownS": 5},
            },
        },
    }


def test_rows_that_wait_bring_a_second_pod_which_answers_its_share_and_leaves_with_them(scaled: Scaled) -> None:
    flood = probe("flood", scaled.bed, FLOODS)
    flood["metadata"]["labels"]["app.kubernetes.io/part-of"] = "xinstruct"
    scaled.inside.apply(flood)
    grown_s = until(lambda: scaled.has_pods(PODS_MAX), "the queue brings a second pod", within_s=SCALED_S_MAX)
    shared_s = until(lambda: min(scaled.answered()) >= ANSWERED_MIN, "each pod answers", within_s=SHARED_S_MAX)
    assert scaled.has_pods(PODS_MAX)
    assert scaled.inside.get("pod", "flood")["status"]["phase"] == "Running", scaled.inside.kubectl("logs", "flood")
    scaled.inside.kubectl("delete", "pod", "flood", "--now")
    shrunk_s = until(lambda: scaled.has_pods(1), "one pod is left", within_s=SCALED_S_MAX)
    print(f"two pods {grown_s:.1f} s after the first question, the second answers {shared_s:.1f} s later; "
          f"one {shrunk_s:.1f} s after the last")
