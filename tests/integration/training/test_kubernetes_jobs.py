"""Jobs on Kubernetes: what is asked of its API, and what its answers are taken for. tests/cluster/ runs real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.training.kubernetes_stub import Item, Store, kubernetes, pod
from xinstruct.spine.errors import Invalid, Unavailable
from xinstruct.training.domain import JobSpec
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.kubernetes_api import MISFIT_RETRY_S, Cluster
from xinstruct.training.kubernetes_jobs import LOOK_S, RESULT_LAG_S, KubernetesJobs, object_name, read_manifest

NAME = "generator-r0-0123456789ab"
OBJECT = f"try-{NAME}"
JOB: Item = {
    "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "try", "labels": {"release": "try"}},
    "spec": {"template": {"spec": {"containers": [{"name": "job", "command": ["python"]}]}}},
}
TRAIN_JOB: Item = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "try"},
    "spec": {"runtimeRef": {"name": "try-training"}, "trainer": {"numNodes": 1}},
}
Api = tuple[Store, Cluster]


class Clock:
    """Seconds, set by the test."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def api() -> Iterator[Api]:
    with kubernetes() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(api: Api, clock: Clock, tmp_path: Path) -> KubernetesJobs:
    return KubernetesJobs(tmp_path, api[1], JOB, clock_s=clock)


def spec_in(folder: Path) -> JobSpec:
    return JobSpec(NAME, "generator", 0, "/base", "", "/rows", str(folder / NAME), {})


def condition(type_: str, **more: str) -> Item:
    return {"conditions": [{"type": type_, "status": "True", **more}]}


def test_a_job_becomes_an_object_of_its_name_with_its_spec_as_argument(
    api: Api, jobs: KubernetesJobs, tmp_path: Path
) -> None:
    store, _ = api
    jobs.start(spec_in(tmp_path))
    (made,) = store.of("jobs")
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (OBJECT, "lab")
    assert made["metadata"]["labels"] == {"release": "try", "xinstruct/job": NAME}
    (container,) = made["spec"]["template"]["spec"]["containers"]
    file = tmp_path / NAME / "spec.json"
    assert container["args"] == ["--spec", str(file)]
    assert JobSpec.from_json(file.read_text("utf-8")) == spec_in(tmp_path)
    created = next(query for method, _, query in store.calls if method == "POST")
    assert created["fieldValidation"] == ["Strict"]
    assert jobs.look(NAME) == JobLook(JobPhase.RUNNING)


def test_with_the_trainer_the_spec_is_the_trainers_argument(api: Api, tmp_path: Path) -> None:
    store, cluster = api
    KubernetesJobs(tmp_path, cluster, TRAIN_JOB).start(spec_in(tmp_path))
    (made,) = store.of("trainjobs")
    assert made["spec"]["trainer"]["args"] == ["--spec", str(tmp_path / NAME / "spec.json")]
    assert store.of("jobs") == []


def test_a_job_belongs_to_what_its_keepers_pod_belongs_to(
    api: Api, jobs: KubernetesJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = api
    monkeypatch.setattr("socket.gethostname", lambda: "try-training-0")
    keeper = pod("other", "Running")
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "try-training", "uid": "u"}
    keeper["metadata"] |= {"name": "try-training-0", "ownerReferences": [{**owner, "controller": True}]}
    store.put("pods", keeper)
    jobs.start(spec_in(tmp_path))
    assert store.of("jobs")[0]["metadata"]["ownerReferences"] == [owner]  # helm uninstall takes the job along


def test_a_job_that_an_earlier_keeper_started_is_found_and_not_made_again(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path
) -> None:
    store, cluster = api
    jobs.start(spec_in(tmp_path))
    jobs.close()
    later = KubernetesJobs(tmp_path, cluster, JOB, clock_s=clock)
    assert later.look(NAME).phase is JobPhase.RUNNING
    later.start(spec_in(tmp_path))
    assert len(store.of("jobs")) == 1


@pytest.mark.parametrize(("before", "after"), [(JOB, TRAIN_JOB), (TRAIN_JOB, JOB)])
def test_a_job_is_found_however_it_was_made(api: Api, tmp_path: Path, before: Item, after: Item) -> None:
    store, cluster = api
    KubernetesJobs(tmp_path, cluster, before).start(spec_in(tmp_path))
    later = KubernetesJobs(tmp_path, cluster, after)
    assert later.look(NAME).phase is JobPhase.RUNNING
    later.start(spec_in(tmp_path))
    assert len(store.of("jobs")) + len(store.of("trainjobs")) == 1
    later.cancel(NAME)
    assert store.of("jobs") == store.of("trainjobs") == []


def test_an_object_of_the_jobs_name_that_somebody_else_made_is_left_alone(
    api: Api, jobs: KubernetesJobs, tmp_path: Path
) -> None:
    store, _ = api
    theirs = store.put("jobs", {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": OBJECT, "labels": {"xinstruct/job": "another"}},
        "status": condition("Failed", reason="DeadlineExceeded", message="it took too long"),
    })
    assert jobs.look(NAME) == JobLook(JobPhase.ABSENT)
    with pytest.raises(Unavailable, match=f"a Job {OBJECT} that this service did not make"):
        jobs.start(spec_in(tmp_path))
    jobs.cancel(NAME)
    assert store.of("jobs") == [theirs] and "deletionTimestamp" not in theirs["metadata"]


def test_a_cancelled_job_is_started_again_only_when_the_first_is_gone(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path
) -> None:
    store, _ = api
    store.slow_deletion = True
    jobs.start(spec_in(tmp_path))
    jobs.cancel(NAME)
    deleted = [query for method, _, query in store.calls if method == "DELETE"]
    assert deleted[0] == {"propagationPolicy": ["Foreground"]}
    assert "is being deleted" in jobs.look(NAME).waiting_for
    with pytest.raises(Unavailable, match="is being deleted"):
        jobs.start(spec_in(tmp_path))
    store.items.clear()
    clock.now_s += LOOK_S
    assert jobs.look(NAME).phase is JobPhase.ABSENT
    jobs.start(spec_in(tmp_path))
    assert jobs.look(NAME).phase is JobPhase.RUNNING
    jobs.cancel("never-started")


def test_progress_and_result_are_read_in_the_jobs_folder_whatever_the_cluster_says(
    api: Api, jobs: KubernetesJobs, tmp_path: Path
) -> None:
    jobs.start(spec_in(tmp_path))
    work = tmp_path / NAME
    (work / "progress.jsonl").write_text('{"steps_done": 5, "steps_count": 20, "loss": 2.5}\n{"steps_do')
    assert jobs.look(NAME) == JobLook(JobPhase.RUNNING, 5, 20, 2.5)
    (work / "result.json").write_text(json.dumps({"steps_done": 20, "steps_count": 20, "loss": 1.5, "metrics": {}}))
    api[0].refuses = 500
    done = jobs.look(NAME)
    assert (done.phase, done.steps_done, done.model_folder) == (JobPhase.DONE, 20, str(work / "model"))
    (work / "result.json").write_text('{"failure": "the snapshot holds no pairs"}')
    assert jobs.look(NAME).failure == "the snapshot holds no pairs"


def test_one_object_is_not_looked_at_more_often_than_every_two_seconds(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path
) -> None:
    jobs.start(spec_in(tmp_path))
    asked = len(api[0].calls)
    for _ in range(50):
        jobs.look(NAME)
    assert len(api[0].calls) == asked
    clock.now_s += LOOK_S
    jobs.look(NAME)
    jobs.look(NAME)
    assert len(api[0].calls) == asked + 2  # the object, and its pods


WAITING: dict[str, Any] = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
CREATING: dict[str, Any] = {"state": {"waiting": {"reason": "ContainerCreating"}}}
OOM: dict[str, Any] = {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
ERROR: dict[str, Any] = {"state": {"terminated": {"exitCode": 1, "reason": "Error", "message": "ValueError: bad\n"}}}
UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes fit"}


@pytest.mark.parametrize(("pods", "status", "said"), [
    ([], {}, f"no pod yet; if it stays so, kubectl describe job {OBJECT} says why"),
    ([pod(OBJECT, "Pending", conditions=[UNSCHEDULABLE])], {}, "Unschedulable: 0/3 nodes fit"),
    ([pod(OBJECT, "Pending", containerStatuses=[{"name": "job", **WAITING}])], {}, "ImagePullBackOff: no such image"),
    ([pod(OBJECT, "Pending", containerStatuses=[{"name": "job", **CREATING}])], {}, ""),
    ([pod(OBJECT, "Running")], {}, ""),
    ([pod(OBJECT, "Failed", containerStatuses=[{"name": "job", **OOM}])], {},
     "to be started again after OOMKilled: it took more memory than its limit of 8Gi"),
    ([pod(OBJECT, "Failed", containerStatuses=[{"name": "job", **OOM}]), pod(OBJECT, "Running")], {}, ""),
    ([], condition("Suspended"), f"Job {OBJECT} is suspended: a queue, or somebody, lets it go on"),
])
def test_what_keeps_a_job_from_going_on_is_said(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path, pods: list[Item], status: Item, said: str
) -> None:
    store, _ = api
    jobs.start(spec_in(tmp_path))
    store.of("jobs")[0]["status"] = status
    for number, item in enumerate(json.loads(json.dumps(pods))):
        item["metadata"]["name"] += str(number)
        store.put("pods", item)
    clock.now_s += LOOK_S
    assert jobs.look(NAME) == JobLook(JobPhase.RUNNING, waiting_for=said)


@pytest.mark.parametrize(("status", "said"), [
    ({"containerStatuses": [{"name": "job", **OOM}]}, "OOMKilled: it took more memory than its limit of 8Gi"),
    ({"containerStatuses": [{"name": "job", **ERROR}]}, "exit code 1: ValueError: bad"),
    ({"reason": "Evicted", "message": "the node was low on disk"}, "Evicted: the node was low on disk"),
])
def test_a_job_that_the_cluster_gave_up_failed_and_says_why(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path, status: Item, said: str
) -> None:
    store, _ = api
    jobs.start(spec_in(tmp_path))
    store.of("jobs")[0]["status"] = condition("Failed", reason="BackoffLimitExceeded", message="too often")
    store.put("pods", pod(OBJECT, "Failed", **status))
    clock.now_s += LOOK_S
    assert jobs.look(NAME) == JobLook(JobPhase.FAILED, failure=said)


def test_a_job_whose_pods_are_gone_failed_with_its_own_last_words(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path
) -> None:
    jobs.start(spec_in(tmp_path))
    (tmp_path / NAME / "job.log").write_text("Traceback …\nOSError: no space left\n")
    api[0].of("jobs")[0]["status"] = condition("Failed", reason="DeadlineExceeded", message="it took too long")
    clock.now_s += LOOK_S
    assert jobs.look(NAME).failure == "DeadlineExceeded: it took too long Traceback …\nOSError: no space left"


def test_a_result_may_come_late_over_the_volume_but_not_for_ever(
    api: Api, jobs: KubernetesJobs, clock: Clock, tmp_path: Path
) -> None:
    jobs.start(spec_in(tmp_path))
    api[0].of("jobs")[0]["status"] = condition("Complete")
    clock.now_s += LOOK_S
    assert jobs.look(NAME) == JobLook(JobPhase.RUNNING)
    clock.now_s += RESULT_LAG_S - LOOK_S
    assert jobs.look(NAME).phase is JobPhase.RUNNING
    clock.now_s += LOOK_S
    assert "must mount the volume of this service" in jobs.look(NAME).failure


@pytest.mark.parametrize(("status", "said"), [
    (403, r"does not let training get jobs .*rbac\.enabled"), (401, r"rbac\.enabled"), (422, "refuses to"),
    (500, "cannot get jobs"),
])
def test_an_api_that_refuses_is_waited_for_with_a_sentence(
    api: Api, jobs: KubernetesJobs, tmp_path: Path, status: int, said: str
) -> None:
    store, _ = api
    store.refuses = status
    with pytest.raises(Unavailable, match=said) as refused:
        jobs.look(NAME)
    assert refused.value.retry_after_s
    with pytest.raises(Unavailable, match=r"Kubernetes API"):
        jobs.start(spec_in(tmp_path))


def test_a_job_of_a_kind_that_nothing_brought_waits_and_says_what_to_install(api: Api, tmp_path: Path) -> None:
    store, cluster = api
    store.unknown.add("trainjobs")
    jobs = KubernetesJobs(tmp_path, cluster, TRAIN_JOB)
    with pytest.raises(Unavailable, match=r"no TrainJob .*Kubeflow Trainer.*trainingJobs\.trainJob") as waits:
        jobs.start(spec_in(tmp_path))
    assert waits.value.retry_after_s == MISFIT_RETRY_S
    assert jobs.look(NAME).phase is JobPhase.ABSENT
    store.unknown.clear()
    jobs.start(spec_in(tmp_path))
    assert len(store.of("trainjobs")) == 1


def test_an_api_that_is_away_is_waited_for(tmp_path: Path) -> None:
    with kubernetes() as (_, cluster):
        jobs = KubernetesJobs(tmp_path, cluster, JOB)
    with pytest.raises(Unavailable, match="does not answer"):
        jobs.look(NAME)


def test_a_process_in_no_pod_is_told_what_to_change() -> None:
    with pytest.raises(Invalid, match=r"no account of the Kubernetes API.*training\.jobs\.kind to local"):
        Cluster.of_this_pod()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}',
                                  json.dumps(JOB | {"metadata": {}})])
def test_a_file_that_holds_no_job_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(Invalid):
        read_manifest(tmp_path / "job.json")


@given(st.text(max_size=80), st.text(alphabet="abc0129-", max_size=80))
def test_the_name_of_an_object_is_a_label_that_follows_from_its_job(job_name: str, prefix: str) -> None:
    name = object_name(prefix, job_name)
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,46}[a-z0-9])?", name), name
    assert name == object_name(prefix, job_name)


def test_names_of_different_jobs_differ_also_where_they_have_to_be_cut() -> None:
    names = ["generator-r0-0123456789ab", "Generator-r0-0123456789ab", "x" * 70, "x" * 71, "a_b", "a-b", ""]
    assert len({object_name("a-release-with-a-rather-long-name", name) for name in names}) == len(names)
    assert object_name("xinstruct", NAME) == f"xinstruct-{NAME}"
    assert object_name("a-release-with-a-rather-long-name", NAME).endswith(NAME)


def test_equal_jobs_of_releases_whose_long_names_begin_alike_are_two_objects() -> None:
    releases = ["xinstruct-experiments-one", "xinstruct-experiments-two", "xinstruct-experiments"]
    assert len({object_name(release, NAME) for release in releases}) == len(releases)
