"""Models that training made in pods are put to use by it, in InferenceServices that KServe runs: one for each slot.

The first evaluator comes out of a Job and gets the first slot; the next one comes out of a TrainJob, labels all pairs
again in the other slot and is promoted then. What served the one before rests. The pod of either job is killed once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.house import (
    CLAIMS,
    FULL_NAME,
    KSERVE,
    MODEL_POD,
    MODELS_CHART,
    ROOT,
    RUNS_AS,
    TRAINER,
    Bed,
    install,
    install_chart,
    merged,
    models,
    small,
)
from cluster.kubectl import Cluster, Manifest, Refused, ready, until
from cluster.training import Stopped, checkpointed, killed, shared, submitted
from cluster.work import asked, feed, rows

BASE = ROOT / "models" / "tiny-base"
PAIRS_COUNT = 24
RECIPE = {"steps_max": 80, "rows_per_batch": 4, "checkpoint_steps": 10, "tokens_max": 256}
TRAIN_JOBS = "trainjob.trainer.kubeflow.org"
READY_S_MAX = 240
PROMOTED_S_MAX = 300

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Promoting:
    """Both charts in one namespace."""

    bed: Bed
    inside: Cluster
    volume: Path
    folder: Path

    def service(self, slot: str) -> Manifest:
        """The InferenceService of a slot."""
        return self.inside.get("inferenceservice", evaluator_of(slot))

    def digest(self, slot: str) -> str:
        """The model that a slot's InferenceService serves; "" while it rests or is not ready."""
        item = self.service(slot)
        notes = item["metadata"]["annotations"]
        resting = notes.get("serving.kserve.io/stop") == "true"
        return "" if resting or not ready(item) else str(notes["xinstruct/model-digest"])

    def pods(self, slot: str) -> list[Manifest]:
        """Pods of a slot's InferenceService."""
        return self.inside.all("pod", labels=f"app.kubernetes.io/component=evaluator-{slot}")

    def train(self, resource: str, *, seed: int) -> Stopped:
        """Have an evaluator trained, and kill its pod once when it has a checkpoint."""
        name = submitted(self.inside, resource, role="evaluator", recipe=RECIPE | {"seed": seed})
        return killed(self.inside, checkpointed(self.volume / "jobs" / name))

    def gone(self, resource: str) -> bool:
        """Whether no job has an object of the kind any more."""
        return not self.inside.all(resource, labels="xinstruct/job")

    def promoted(self, but: str = "") -> str:
        """Digest of the evaluator that is promoted, if it is another one than `but`; "" otherwise."""
        try:
            rows = [json.loads(line) for line in asked(self.inside, "models", "list", "--json").splitlines()]
        except Refused:  # training's pod is being replaced
            return ""
        found = [row["model_digest"] for row in rows if row["role"] == "evaluator" and row.get("promoted")]
        return str(found[0]) if found and found[0] != but else ""

    def labelled_by(self, digest: str) -> int:
        """Pairs with a label of that evaluator."""
        return rows(self.inside, "scores", f"evaluator_digest = '{digest}'")


@pytest.fixture(scope="module")
def promoting(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promoting]:
    """Drafted pairs, two InferenceServices, and no evaluator."""
    if bed.volumes is None:
        pytest.skip("seeds and base are put on the volume from this machine: the machine-local cluster only")
    if not bed.has(KSERVE):
        pytest.skip("KServe is not installed: ADDONS=kserve")
    folder = tmp_path_factory.mktemp("values")
    with shared(bed) as (inside, volume):
        found = Promoting(bed, inside, volume, folder)
        stocked(found.volume)
        inside.apply(*models(bed))
        install(inside, house_values(bed, train_job="never"), folder)
        install_chart(inside, "models", MODELS_CHART, model_values(bed), folder)
        names = [f"{FULL_NAME}-{name}-0" for name in ("crawler", "backgen", "training", "curation")]
        until(lambda: all(inside.pod_ready(name) for name in names), "the release is ready", within_s=READY_S_MAX)
        feed(inside, "Mbasi", PAIRS_COUNT, within_s=120)
        until(lambda: rows(inside, "pairs") == PAIRS_COUNT, "all pairs are drafted", within_s=120)
        yield found


def evaluator_of(slot: str) -> str:
    """Name of a slot's InferenceService."""
    return f"xinstruct-evaluator-{slot}"


def stocked(place: Path) -> None:
    """Put the base model and seeds on the volume."""
    shutil.copytree(BASE, place / "base", copy_function=shutil.copyfile)
    rows = [{"instruction": f"Describe Lake {n}.", "response": f"Ziwa {n}\n\nNi ziwa la {n}.", "language": "sw"}
            for n in range(60)]
    (place / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for path in (place / "base", *place.rglob("*")):
        os.chown(path, RUNS_AS, RUNS_AS)


def house_values(bed: Bed, *, train_job: str) -> dict[str, Any]:
    """Each slot has an evaluator of its own, which training sees to."""
    return merged(small(bed), {
        "config": {
            "inference": {"evaluator": {"kind": "kserve", "url": f"http://{evaluator_of('{slot}')}"}},
            "scoring": {"prompt_family": "tiny"},
            "training": {
                "evaluator": {"prompt_family": "tiny"}, "serving": {"evaluator": evaluator_of("{slot}")},
            },
        },
        "trainingJobs": {"trainJob": train_job, "ttlS": 5},
    })


def model_values(bed: Bed) -> dict[str, Any]:
    """An InferenceService for each slot, without a model."""
    return {
        "imageRegistry": bed.registry, "kserve": {"enabled": "always"}, "images": {"model": {"tag": bed.tag}},
        "defaults": {"resources": MODEL_POD, "startupS": READY_S_MAX, "graceS": 10},
        "models": {
            "generator": {"enabled": False}, "evaluator": {"enabled": False},
            **{f"evaluator-{slot}": {"role": "evaluator", "promoted": True} for slot in ("a", "b")},
        },
    }


def test_the_model_of_a_killed_job_is_promoted_into_an_inferenceservice_and_labels_all_pairs(
    promoting: Promoting,
) -> None:
    until(lambda: not promoting.pods("a") and not promoting.pods("b"), "both rest: there is no model", within_s=120)
    stopped = promoting.train("job", seed=0)
    seconds = until(lambda: bool(promoting.promoted()), "the model is promoted", within_s=PROMOTED_S_MAX)
    stopped.went_on()
    digest = promoting.promoted()
    model = promoting.service("a")["spec"]["predictor"]["model"]
    assert promoting.digest("a") == digest
    assert model["storageUri"] == f"pvc://{CLAIMS[0]}/models/{digest.removeprefix('sha256:')}"
    until(lambda: promoting.labelled_by(digest) == PAIRS_COUNT, "all pairs are labelled", within_s=120)
    assert not promoting.pods("b")
    until(lambda: promoting.gone("job"), "what ran it is gone", within_s=60)
    assert promoting.promoted() == digest
    print(f"promoted {seconds:.1f} s after the kill")


def test_the_model_of_a_killed_trainjob_labels_all_pairs_in_the_other_slot_which_scoring_moves_to(
    promoting: Promoting,
) -> None:
    if not promoting.bed.has(TRAINER):
        pytest.skip("the Kubeflow Trainer is not installed: ADDONS=trainer")
    first = promoting.promoted()
    install(promoting.inside, house_values(promoting.bed, train_job="always"), promoting.folder, "--wait")
    stopped = promoting.train(TRAIN_JOBS, seed=1)
    seconds = until(lambda: bool(promoting.promoted(but=first)), "the next one is promoted", within_s=PROMOTED_S_MAX)
    stopped.went_on()
    second = promoting.promoted(but=first)
    assert promoting.digest("b") == second
    until(lambda: promoting.labelled_by(second) == PAIRS_COUNT, "the catalog has the new labels", within_s=30)
    until(lambda: not promoting.pods("a"), "what served the first one rests", within_s=120)
    assert promoting.service("a")["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    feed(promoting.inside, "Tolemba", 6, within_s=120)
    until(lambda: promoting.labelled_by(second) == PAIRS_COUNT + 6, "the new slot labels what is new", within_s=120)
    assert promoting.labelled_by(first) == PAIRS_COUNT
    until(lambda: promoting.gone(TRAIN_JOBS), "training deletes what ran it", within_s=60)
    assert promoting.promoted() == second
    print(f"labelled all again and promoted {seconds:.1f} s after the kill")
