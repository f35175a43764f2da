"""Training in pods of its own: the contract of job back ends on a real API, why jobs wait and fail, a whole release.

Jobs see the shared volume at the path at which this machine has it: so this needs the machine-local cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import new_client_from_config

from cluster.house import CHART, CLAIMS, FULL_NAME, HOME, RELEASE, TRAINER, Bed, merged, small
from cluster.kubectl import Cluster, Manifest, condition, until
from cluster.training import checkpointed, done, evicted, killed, pods_of, shared, submitted, trains
from contract.jobs.bench import base_in, checkpoint_steps, ended, spec_in
from contract.jobs.bench import until as until_look
from contract.jobs.test_jobs import (  # noqa: F401 - the contract, asked of this module's bench
    test_a_cancelled_job_ends_and_goes_on_from_its_checkpoint_when_it_is_started_again,
    test_a_job_that_cannot_be_done_fails_and_says_why,
    test_a_job_that_ends_without_a_result_fails_with_its_last_words,
    test_a_job_that_was_never_started_is_absent_and_may_be_cancelled,
    test_a_killed_job_goes_on_from_its_checkpoint_under_the_next_keeper,
)
from xinstruct.training.jobs import JobPhase
from xinstruct.training.kubernetes_api import Cluster as Api
from xinstruct.training.kubernetes_jobs import KubernetesJobs

RECIPE: Mapping[str, Any] = {
    "epochs": 40.0, "rows_per_batch": 4, "checkpoint_steps": 5, "tokens_max": 256, "learning_rate": 0.02,
}
RESOURCE = {"Job": "job", "TrainJob": "trainjob.trainer.kubeflow.org"}
BRIEF: Mapping[str, Any] = {"config": {"training": {"attempts_max": 1}}, "trainingJobs": {"ttlS": 5}}
"""Values of jobs that no failure is forgiven, and whose objects soon go."""

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class PodBench:
    """See contract.jobs.bench.Bench: jobs as pods of one namespace, made of the chart's own manifest."""

    folder: Path
    inside: Cluster
    manifest: Manifest

    def open(self) -> KubernetesJobs:
        client = new_client_from_config(str(self.inside.kubeconfig))
        return KubernetesJobs(self.folder, Api(client, self.inside.namespace), self.manifest)

    def kill(self, job_name: str) -> None:
        """What a failing node does, as the Job sees it. Another pod has its place then."""
        killed(self.inside, checkpointed(self.folder / job_name))


@pytest.fixture(scope="module", params=RESOURCE)
def bench(request: pytest.FixtureRequest, bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodBench]:
    """The manifest of the chart in a namespace of its own, without the release."""
    with prepared(bed, request.param, tmp_path_factory.mktemp("values")) as made:
        yield made


@pytest.fixture(scope="module", params=RESOURCE)
def brief(request: pytest.FixtureRequest, bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodBench]:
    """The same, with the manifest that the chart makes of BRIEF."""
    with prepared(bed, request.param, tmp_path_factory.mktemp("values"), BRIEF) as made:
        yield made


@contextmanager
def prepared(bed: Bed, kind: str, folder: Path, more: Mapping[str, Any] = {}) -> Iterator[PodBench]:
    """What the release would bring for jobs: their claim, and with the Trainer their runtime. `more`: values."""
    needed(bed, kind)
    assert bed.volumes is not None
    with shared(bed, CLAIMS[:1]) as (inside, volume):
        # A path that is the same here and there, and below no folder that only root may enter.
        place = folder / "data"
        place.symlink_to(volume)
        values = merged(small(bed), {"trainingJobs": {"trainJob": "always" if kind == "TrainJob" else "never"}})
        file = folder / f"{kind}.yaml"
        file.write_text(yaml.safe_dump(merged(values, more)), "utf-8")
        profile = str(CHART / "profiles" / "small.yaml")
        text = inside.helm("template", RELEASE, str(CHART), "-f", profile, "-f", str(file))
        items = [item for item in yaml.safe_load_all(text.replace(HOME, str(place))) if item]
        inside.apply(*(item for item in items if item["kind"] in ("PersistentVolumeClaim", "TrainingRuntime")))
        (config,) = [item for item in items if item["kind"] == "ConfigMap" and "job.json" in item["data"]]
        jobs = place / "jobs"
        readable(base_in(jobs))
        yield PodBench(jobs, inside, json.loads(config["data"]["job.json"]))


def needed(bed: Bed, kind: str) -> None:
    """Skip where jobs of the kind cannot be tried."""
    if bed.volumes is None:
        pytest.skip("jobs and this machine must share a folder: the machine-local cluster only")
    if kind == "TrainJob" and not bed.has(TRAINER):
        pytest.skip("the Kubeflow Trainer is not installed: ADDONS=trainer")


@pytest.mark.parametrize(("change", "said"), [
    ({"nodeSelector": {"there-is": "no-such-node"}}, "Unschedulable: 0/1 nodes are available"),
    ({"image": "localhost/no-such-image:1"}, "no-such-image"),
])
def test_what_a_job_waits_for_is_told(bed: Bed, bench: PodBench, change: Manifest, said: str) -> None:
    if bench.manifest["kind"] == "TrainJob":
        pytest.skip("its pods are made by a Job as the plain one's are")
    manifest = json.loads(json.dumps(bench.manifest))
    pod = manifest["spec"]["template"]["spec"]
    pod |= {key: value for key, value in change.items() if key == "nodeSelector"}
    pod["containers"][0] |= {key: value for key, value in change.items() if key == "image"}
    trying = PodBench(bench.folder, bench.inside, manifest)
    spec, jobs = spec_in(trying, f"generator-r0-{len(said):012}"), trying.open()
    look = until_look(jobs, spec, lambda look: said in look.waiting_for)
    assert look.phase is JobPhase.RUNNING
    jobs.cancel(spec.job_name)
    until_look(jobs, spec, lambda look: look.phase is JobPhase.ABSENT)


def test_a_job_that_takes_more_memory_than_it_may_fails_and_says_so(bed: Bed, bench: PodBench) -> None:
    if bench.manifest["kind"] == "TrainJob":
        pytest.skip("its pods are made by a Job as the plain one's are")
    manifest = json.loads(json.dumps(bench.manifest))
    manifest["spec"]["backoffLimit"] = 0
    manifest["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "96Mi"}}
    trying = PodBench(bench.folder, bench.inside, manifest)
    spec, jobs = spec_in(trying, "generator-r0-eeeeeeeeeeee"), trying.open()
    failed = until_look(jobs, spec, ended)
    assert (failed.phase, failed.failure) == (
        JobPhase.FAILED, "OOMKilled: it took more memory than its limit of 96Mi"
    )


def test_an_evicted_pod_is_no_failure_and_the_next_goes_on_from_its_checkpoint(brief: PodBench) -> None:
    spec, jobs = spec_in(brief, "generator-r0-ffffffffffff", epochs=40.0), brief.open()
    until_look(jobs, spec, lambda _: checkpoint_steps(spec) > 0)
    stopped = evicted(brief.inside, spec)
    look = until_look(jobs, spec, ended)
    assert (look.phase, look.failure) == (JobPhase.DONE, "")
    stopped.went_on()


def test_what_ran_a_job_goes_when_its_time_is_over_and_the_job_stays_done(brief: PodBench) -> None:
    spec, jobs = spec_in(brief, "generator-r0-999999999999", epochs=1.0), brief.open()
    look = until_look(jobs, spec, ended)
    assert look.phase is JobPhase.DONE
    assert pods_of(brief.inside, spec.job_name)
    kind = brief.manifest["kind"]

    def gone() -> bool:
        names = [item["metadata"]["name"] for item in brief.inside.all("jobset" if kind == "TrainJob" else "job")]
        return f"{FULL_NAME}-{spec.job_name}" not in names and not pods_of(brief.inside, spec.job_name)

    seconds = until(gone, "what ran it is gone", within_s=60)
    print(f"{kind}: gone {seconds:.1f} s after it was seen to be done")
    if kind == "TrainJob":  # which has no time of its own, and is not run again
        left = brief.inside.get(RESOURCE[kind], f"{FULL_NAME}-{spec.job_name}")
        assert condition(left, "Complete")["status"] == "True"
    assert brief.open().look(spec.job_name) == look


@pytest.mark.parametrize("kind", RESOURCE)
def test_a_release_trains_in_pods_through_the_end_of_its_keeper_and_of_the_job_and_takes_jobs_along(
    bed: Bed, tmp_path: Path, kind: str
) -> None:
    needed(bed, kind)
    assert bed.volumes is not None
    resource = RESOURCE[kind]
    with shared(bed) as (inside, place):
        stocked(place)
        trains(inside, bed, tmp_path, {"trainJob": "always" if kind == "TrainJob" else "never"})
        name = submitted(inside, resource, role="generator", recipe=RECIPE)
        spec = checkpointed(place / "jobs" / name)
        keeper = f"{FULL_NAME}-training-0"
        first = inside.get("pod", keeper)["metadata"]["uid"]
        inside.kubectl("delete", "pod", keeper, "--wait=false")
        stopped = killed(inside, spec)
        until(lambda: inside.pod_replaced(keeper, first), "another keeper is ready", within_s=120)
        (model,) = done(inside, name)
        assert model["job_name"] == name
        # Promotions have a loop of their own, and this one a moment to look.
        until(lambda: done(inside, name)[0]["promoted"], "its model is promoted", within_s=60)
        stopped.went_on()
        (made,) = inside.all(resource, labels=f"xinstruct/job={name}")
        assert made["metadata"]["ownerReferences"][0]["name"] == f"{FULL_NAME}-training"
        inside.helm("uninstall", RELEASE, "--wait")
        until(lambda: not inside.all(resource, labels=f"xinstruct/job={name}"), "its job goes along", within_s=60)


def readable(base: Path) -> None:
    """Let the jobs' user read what this one wrote: weights are written for their owner alone."""
    for file in base.iterdir():
        file.chmod(0o644)


def stocked(place: Path) -> None:
    """Put a base model and seeds on the volume."""
    readable(base_in(place))
    rows = [{"instruction": "Describe the lake.", "response": f"Ziwa {n}\n\nNi ziwa.", "language": "sw"}
            for n in range(60)]
    (place / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
