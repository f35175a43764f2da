"""Jobs as Jobs of Kubernetes, or as TrainJobs of the Kubeflow Trainer: one pod each, made of the chart's manifest.

A job's object is named after it, so that a service that was started again finds what the one before made. The pod works
in the job's folder on the shared volume, where its progress and result are read. Kubernetes starts a pod again that was
killed or moved, and it goes on from its last checkpoint; how often is the manifest's to say.

Not covered: a cluster that forgets a Job while its pod runs. Then the folder's lock keeps a second pod waiting.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xinstruct.spine.errors import Conflict, Invalid, Unavailable, require
from xinstruct.training.domain import FAILURE_CHARS_MAX, JobSpec
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.kubernetes_api import JOB, MISFIT_RETRY_S, TRAIN_JOB, Cluster, Kind, Manifest
from xinstruct.training.kubernetes_pods import conditions, failure_of, waiting_for
from xinstruct.training.work_folder import ended, last_words, steps, write_spec

JOB_LABEL = "xinstruct/job"
"""Label of every object with the name of its job."""
NAME_CHARS_MAX = 48
"""The Trainer's JobSet puts "-node-0-0-" and five characters behind a name to make a pod's, which has 63 at most."""
LOOK_S = 2.0
"""Seconds between two looks at one object."""
RESULT_LAG_S = 120.0
"""Seconds in which what a pod wrote is seen on the shared volume: NFS keeps what it knows of a folder for 60."""
_DIGEST_CHARS = 8
_ARGUMENTS = {JOB: ("spec", "template", "spec", "containers"), TRAIN_JOB: ("spec", "trainer")}
_POD_LABEL = {JOB: "batch.kubernetes.io/job-name", TRAIN_JOB: "jobset.sigs.k8s.io/jobset-name"}


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an object said when it was looked at. `end_s`: when its end was first seen."""

    look_s: float
    phase: JobPhase
    words: str = ""
    end_s: float | None = None


class KubernetesJobs:
    """Jobs of one namespace, each with a folder under `folder`, which is on the volume that pods mount too."""

    def __init__(
        self, folder: Path, cluster: Cluster, manifest: Manifest, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        """`manifest`: as read_manifest gives it; its name is what the names of objects begin with."""
        self._folder = folder.absolute()
        self._cluster = cluster
        self._manifest = manifest
        self._kind = _kind_of(manifest)
        self._clock_s = clock_s
        self._seen: dict[str, _Seen] = {}

    def start(self, spec: JobSpec) -> None:
        """See the port."""
        try:
            file = write_spec(spec)
        except OSError as error:
            raise Unavailable(f"cannot start the job {spec.job_name}: {error.strerror}") from error
        made = made_of(self._manifest, spec, file)
        made["metadata"] |= {"namespace": self._cluster.namespace, "ownerReferences": self._cluster.owners()}
        if next(self._own(spec.job_name), None) is None:
            try:
                self._cluster.create(self._kind, made)
            except Conflict:
                self._adopt(spec.job_name)
        else:
            self._adopt(spec.job_name)
        self._seen[spec.job_name] = _Seen(self._clock_s(), JobPhase.RUNNING)

    def look(self, job_name: str) -> JobLook:
        """See the port."""
        work = self._folder / job_name
        if (end := ended(work)) is not None:
            return end
        seen = self._seen.get(job_name)
        if seen is None or self._clock_s() - seen.look_s >= LOOK_S:
            seen = self._seen[job_name] = self._observe(job_name, seen)
        if seen.phase is JobPhase.FAILED:
            return JobLook(seen.phase, *steps(work), failure=seen.words)
        return JobLook(seen.phase, *steps(work), waiting_for=seen.words)

    def cancel(self, job_name: str) -> None:
        """See the port."""
        for kind, item in self._own(job_name):
            self._cluster.delete(kind, item["metadata"]["name"])
        self._seen.pop(job_name, None)

    def close(self) -> None:
        """See the port. Pods work on."""
        self._cluster.close()

    def _name(self, job_name: str) -> str:
        return object_name(self._manifest["metadata"]["name"], job_name)

    def _own(self, job_name: str) -> Iterator[tuple[Kind, Manifest]]:
        """The job's objects: one of the other kind, made before the Trainer came or went, is still the job.

        One of its name without its label is a stranger's: that is no job of ours, and nothing is done to it.
        """
        for kind in (self._kind, TRAIN_JOB if self._kind is JOB else JOB):
            item = self._cluster.get(kind, self._name(job_name))
            if item is not None and item["metadata"].get("labels", {}).get(JOB_LABEL) == job_name:
                yield kind, item

    def _adopt(self, job_name: str) -> None:
        """Unavailable when the object of the job's name is another's, or about to go."""
        name = self._name(job_name)
        found = next(self._own(job_name), None)
        if found is None and self._cluster.get(self._kind, name) is None:
            raise Unavailable(f"the {self._kind.name} {name} has just gone", LOOK_S)
        if found is None:
            said = f"there is a {self._kind.name} {name} that this service did not make: delete it"
            raise Unavailable(said, MISFIT_RETRY_S)
        kind, item = found
        if "deletionTimestamp" in item["metadata"]:
            raise Unavailable(f"the {kind.name} {name} is being deleted", LOOK_S)

    def _observe(self, job_name: str, before: _Seen | None) -> _Seen:
        now_s = self._clock_s()
        found = next(self._own(job_name), None)
        if found is None:
            return _Seen(now_s, JobPhase.ABSENT)
        kind, item = found
        true = conditions(item)
        pods = self._cluster.pods(_POD_LABEL[kind], self._name(job_name))
        if "Failed" in true:
            condition = true["Failed"]
            words = f"{condition.get('reason', '')}: {condition.get('message', '')}"
            said = failure_of(pods) or f"{words} {last_words(self._folder / job_name)}".strip()
            return _Seen(now_s, JobPhase.FAILED, said[:FAILURE_CHARS_MAX])
        if "Complete" not in true:
            return _Seen(now_s, JobPhase.RUNNING, waiting_for(item, pods))
        end_s = before.end_s if before and before.end_s is not None else now_s
        if now_s - end_s < RESULT_LAG_S:
            return _Seen(now_s, JobPhase.RUNNING, "", end_s)
        return _Seen(now_s, JobPhase.FAILED, (
            f"the pod has ended, but its result is not in {self._folder / job_name}: it must mount the volume of this "
            "service at the same path"
        ), end_s)


def read_manifest(file: Path) -> Manifest:
    """The manifest that every job's object is made of: JSON of a Job or TrainJob. Invalid when it is neither."""
    try:
        manifest: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"training.jobs.manifest_file: cannot read {file}: {error}") from error
    require(isinstance(manifest, dict), f"{file} holds no object")
    _kind_of(manifest)
    require(bool(manifest.get("metadata", {}).get("name")), f"{file} names nothing: set metadata.name")
    return dict(manifest)


def made_of(manifest: Manifest, spec: JobSpec, spec_file: Path) -> Manifest:
    """The object of one job: the manifest with its name, its label, and the spec's file as last arguments."""
    made = copy.deepcopy(manifest)
    metadata = made["metadata"]
    metadata["name"] = object_name(metadata["name"], spec.job_name)
    metadata.setdefault("labels", {})[JOB_LABEL] = spec.job_name
    place: Any = made
    for key in _ARGUMENTS[_kind_of(manifest)]:
        place = place[key]
    container = place[0] if isinstance(place, list) else place
    container["args"] = [*container.get("args", ()), "--spec", str(spec_file)]
    return made


def object_name(prefix: str, job_name: str) -> str:
    """A DNS label of at most 48 characters that follows from both and begins with a letter.

    What does not fit is cut off the prefix, and a digest tells it from others that begin alike: releases of one
    namespace must not take each other's jobs for their own. So is a job name that is no DNS label itself.
    """
    fits = re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", job_name) and len(job_name) <= NAME_CHARS_MAX - 2
    tail = job_name
    if not fits:
        plain = re.sub(r"[^a-z0-9]+", "-", job_name.lower()).strip("-")[: NAME_CHARS_MAX // 2]
        tail = f"{plain}-{_digest(job_name)}".strip("-")
    head, room = prefix.strip("-"), NAME_CHARS_MAX - 1 - len(tail)
    if len(head) > room:
        head = f"{head[: max(0, room - _DIGEST_CHARS - 1)]}-{_digest(head)}"[-room:].strip("-") if room > 0 else ""
    name = f"{head}-{tail}".strip("-")
    return name if name[0].isalpha() else f"x{name}"[:NAME_CHARS_MAX]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARS]


def _kind_of(manifest: Manifest) -> Kind:
    for kind in (JOB, TRAIN_JOB):
        if (manifest.get("apiVersion"), manifest.get("kind")) == (kind.api, kind.name):
            return kind
    raise Invalid(f"a job's manifest is a {JOB.api} {JOB.name} or a {TRAIN_JOB.api} {TRAIN_JOB.name}")

