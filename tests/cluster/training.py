"""A training job in pods: asked for, stopped in the middle by the end of its pod, gone on with, and done."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.house import CLAIMS, FULL_NAME, HOME, Bed, install, merged, namespace, small
from cluster.kubectl import Cluster, Manifest, Refused, until
from cluster.work import asked
from contract.jobs.bench import checkpoint_steps, steps_told
from xinstruct.training.domain import JobSpec

JOB_S_MAX = 420
REPLACED_S_MAX = 120
"""A Job waits ten seconds before it makes another pod."""
SUBMIT_S = 8
"""The command waits for the job's end: so long that the job is asked for, and no longer."""
POD_LABELS = ("batch.kubernetes.io/job-name", "jobset.sigs.k8s.io/jobset-name")


@dataclass(frozen=True)
class Stopped:
    """A job whose pod was ended in the middle, when another pod had its place."""

    spec: JobSpec
    steps: int
    """In the last checkpoint."""
    told: int
    """Lines of progress that were there."""

    def went_on(self) -> None:
        """Fail unless what was told next is behind the checkpoint: from the start again it would be before it."""
        following = steps_told(self.spec)[self.told :]
        print(f"a checkpoint of {self.steps} steps, then told {following[:1]}, at the end {following[-1:]}")
        assert following and following[0] > self.steps > 0


@contextmanager
def shared(bed: Bed, claims: tuple[str, ...] = CLAIMS) -> Iterator[tuple[Cluster, Path]]:
    """A namespace, and its first volume as a folder of this machine: who runs jobs may write what is put there."""
    assert bed.volumes is not None
    before = os.umask(0)
    try:
        with namespace(bed, claims=claims) as inside:
            yield inside, bed.volumes / inside.namespace / CLAIMS[0]
    finally:
        os.umask(before)


def trains(inside: Cluster, bed: Bed, folder: Path, jobs: Mapping[str, Any]) -> None:
    """Install a release of which training is wanted alone, with these `trainingJobs`, and wait for that."""
    # No server whose model training would wait for, and put to use in the place of a job's.
    scripted = {"inference": {role: {"kind": "scripted"} for role in ("generator", "evaluator")}}
    install(inside, merged(small(bed), {"config": scripted, "trainingJobs": jobs}), folder)
    until(lambda: inside.pod_ready(f"{FULL_NAME}-training-0"), "training is ready", within_s=240)


def submitted(inside: Cluster, resource: str, *, role: str, recipe: Mapping[str, Any]) -> str:
    """Name of a job on the base and seeds on the volume, asked for in another pod of the release than training's."""
    def made() -> bool:
        with suppress(Refused):  # the command is ended while it waits; again it is the same job
            asked(inside, "train", role, "--base", f"{HOME}/base", "--seeds", f"{HOME}/seeds.jsonl", "--promote",
                  "--recipe", json.dumps(recipe), within_s=SUBMIT_S)
        return bool(inside.all(resource, labels="xinstruct/job"))

    until(made, "the job has its object", within_s=120)
    (job,) = inside.all(resource, labels="xinstruct/job")
    return str(job["metadata"]["labels"]["xinstruct/job"])


def checkpointed(work: Path) -> JobSpec:
    """The job of a folder on the shared volume, as this machine sees it, as soon as it has a checkpoint."""
    until(lambda: (work / "spec.json").exists(), "the job is started", within_s=JOB_S_MAX)
    spec = replace(JobSpec.from_json((work / "spec.json").read_text("utf-8")), work_folder=str(work))
    until(lambda: checkpoint_steps(spec) > 0, "the job has a checkpoint", within_s=JOB_S_MAX)
    return spec


def killed(inside: Cluster, spec: JobSpec) -> Stopped:
    """End the job's pod as a failing node does, and wait for the next."""
    return _stopped(spec, inside, lambda pod: inside.kubectl("delete", "pod", pod, "--force", "--grace-period=0"))


def evicted(inside: Cluster, spec: JobSpec) -> Stopped:
    """End the job's pod as a drain of its node, or a pod of higher priority, does, and wait for the next."""
    return _stopped(spec, inside, inside.evict)


def pods_of(inside: Cluster, job_name: str) -> list[Manifest]:
    """The job's pods."""
    pods = inside.all("pod", labels="app.kubernetes.io/component=training-job")
    named = f"{FULL_NAME}-{job_name}"
    return [pod for pod in pods if named in [pod["metadata"]["labels"].get(label) for label in POD_LABELS]]


def done(inside: Cluster, job_name: str) -> list[dict[str, Any]]:
    """The models that there are when the job has ended."""
    end_s = time.monotonic() + JOB_S_MAX
    while time.monotonic() < end_s:
        try:
            listed = asked(inside, "models", "list", "--json")
        except Refused:  # training's pod is being replaced
            listed = ""
        if listed.strip():
            return [json.loads(line) for line in listed.splitlines()]
        time.sleep(1.0)
    raise AssertionError(f"the job {job_name} did not end within {JOB_S_MAX} s")


def _stopped(spec: JobSpec, inside: Cluster, end: Callable[[str], object]) -> Stopped:
    """End the one pod of a job that is at work: `end` takes its name, and is refused where there is no such pod."""
    (pod,) = [pod for pod in pods_of(inside, spec.job_name) if pod["status"]["phase"] == "Running"]
    uid = pod["metadata"]["uid"]
    end(pod["metadata"]["name"])

    def replaced() -> bool:
        uids = {pod["metadata"]["uid"] for pod in pods_of(inside, spec.job_name)}
        return bool(uids - {uid})

    seconds = until(replaced, "the job has another pod", within_s=REPLACED_S_MAX)
    print(f"{pod['metadata']['name']} ended, another one after {seconds:.1f} s")
    return Stopped(spec, checkpoint_steps(spec), len(steps_told(spec)))
