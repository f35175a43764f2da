"""Training on Kubernetes: the manifest of a job, and exactly the rights that the code uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from charts.rendering import (
    KUBERNETES,
    OPTIONAL_APIS,
    Manifest,
    Values,
    changed,
    job_manifest,
    manifests,
    named,
    of_kind,
    profile,
    rendered,
    training_jobs,
)
from charts.schemas import faults
from xinstruct.training.config import TrainingSettings
from xinstruct.training.domain import JobSpec
from xinstruct.training.kubernetes_api import INFERENCE_SERVICE, JOB, TRAIN_JOB
from xinstruct.training.kubernetes_ended import TTL_ANNOTATION
from xinstruct.training.kubernetes_jobs import made_of, read_manifest

PODS = changed(profile("small"), "config.training.jobs.kind", "kubernetes")
SERVED = changed(profile("small"), "config.training.serving", {"evaluator": "judge-{slot}", "encoder": "near"})
TRAINER = [TRAIN_JOB.api]
SPEC = JobSpec("generator-r0-0123456789ab", "generator", 0, "/b", "", "/w/rows", "/w", {})

ways = pytest.mark.parametrize("apis", [(), TRAINER], ids=["Job", "TrainJob"])


def made(apis: Any, tmp_path: Path, values: Values = PODS) -> Manifest:
    """The object of one job, as the service makes it of what the chart mounts."""
    file = tmp_path / "job.json"
    file.write_text(json.dumps(job_manifest(manifests(values, apis=apis))), "utf-8")
    return made_of(read_manifest(file), SPEC, Path("/w/spec.json"))


@ways
def test_the_service_makes_jobs_of_the_charts_manifest_by_the_name_of_the_release(apis: Any, tmp_path: Path) -> None:
    job = made(apis, tmp_path)
    assert (job["apiVersion"], job["kind"]) == ((TRAIN_JOB if apis else JOB).api, (TRAIN_JOB if apis else JOB).name)
    assert job["metadata"]["name"] == "try-xinstruct-generator-r0-0123456789ab"
    assert job["metadata"]["labels"]["xinstruct/job"] == SPEC.job_name
    container = job["spec"]["trainer"] if apis else job["spec"]["template"]["spec"]["containers"][0]
    assert container["args"] == ["--spec", "/w/spec.json"]


@pytest.mark.parametrize("version", KUBERNETES)
@ways
def test_kubernetes_knows_each_field_of_a_job(apis: Any, version: str, tmp_path: Path) -> None:
    items = manifests(PODS, apis=apis)
    (spec,) = training_jobs(items)
    whole = {"apiVersion": JOB.api, "kind": JOB.name, "metadata": {"name": "one"}, "spec": spec}
    assert faults(whole, version) == []
    if not apis:
        assert faults(made(apis, tmp_path), version) == []


def test_the_trainers_job_is_the_plain_one_with_another_name_of_its_container() -> None:
    plain, trainers = (training_jobs(manifests(PODS, apis=apis))[0] for apis in ((), TRAINER))
    text = json.dumps(trainers, sort_keys=True).replace('"node"', '"job"')
    ttl = {key: plain.pop(key) for key in ("ttlSecondsAfterFinished",)}
    assert json.loads(text) == plain
    (runtime,) = of_kind(manifests(PODS, apis=TRAINER), "TrainingRuntime")
    assert runtime["spec"]["template"]["spec"].items() >= ttl.items()


def test_a_train_job_uses_plain_fields_and_a_runtime_of_the_release(tmp_path: Path) -> None:
    job = made(TRAINER, tmp_path)
    assert set(job["spec"]) == {"runtimeRef", "trainer"}
    # The Trainer has no time to live for it: training reads this one.
    assert job["metadata"]["annotations"][TTL_ANNOTATION] == "86400"
    (runtime,) = of_kind(manifests(PODS, apis=TRAINER), "TrainingRuntime")
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": runtime["metadata"]["name"],
    }
    (replicated,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    (container,) = replicated["template"]["spec"]["template"]["spec"]["containers"]
    assert (replicated["name"], container["name"]) == ("node", "node")  # the names that the Trainer looks for


@ways
def test_a_job_has_no_more_starts_than_the_configuration_says_and_a_move_is_none(apis: Any) -> None:
    (spec,) = training_jobs(manifests(PODS, apis=apis))
    assert spec["backoffLimit"] == TrainingSettings().attempts_max - 1
    (other,) = training_jobs(manifests(changed(PODS, "config.training.attempts_max", 7), apis=apis))
    assert other["backoffLimit"] == 6
    moved, fault = spec["podFailurePolicy"]["rules"]
    assert (moved["action"], moved["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget", "status": "True"}])
    assert (fault["action"], fault["onExitCodes"]["operator"]) == ("FailJob", "NotIn")
    assert {137, 143} <= set(fault["onExitCodes"]["values"])  # killed, and asked to end
    assert (spec["podReplacementPolicy"], spec["template"]["spec"]["restartPolicy"]) == ("Failed", "Never")


@ways
def test_a_job_sees_the_shared_volume_where_the_service_does(apis: Any) -> None:
    items = manifests(PODS, apis=apis)
    service = named(items, "StatefulSet", "training")["spec"]["template"]["spec"]
    (job,) = (spec["template"]["spec"] for spec in training_jobs(items))
    for pod in (service, job):
        assert {"name": "data", "persistentVolumeClaim": {"claimName": "try-xinstruct-data"}} in pod["volumes"]
        assert {"name": "data", "mountPath": "/var/lib/xinstruct"} in pod["containers"][0]["volumeMounts"]
    assert not [volume for volume in job["volumes"] if {"secret", "configMap"} & set(volume)]


def test_a_jobs_pod_reaches_nothing_but_names() -> None:
    items = manifests(PODS)
    labels = training_jobs(items)[0]["template"]["metadata"]["labels"]
    reached = [policy for policy in of_kind(items, "NetworkPolicy") if _selects(policy["spec"]["podSelector"], labels)]
    assert [policy["metadata"]["name"] for policy in reached] == ["try-xinstruct-deny", "try-xinstruct-dns"]


JOBS = {"jobs": ["create", "get", "delete"], "trainjobs": ["get", "list", "delete"], "pods": ["get", "list"]}
TRAIN_JOBS = {"jobs": ["get", "delete"], "trainjobs": ["create", "get", "list", "delete"], "pods": ["get", "list"]}


@pytest.mark.parametrize(("values", "apis", "rights"), [
    (profile("small"), (), {}),
    (PODS, (), JOBS),
    (PODS, TRAINER, TRAIN_JOBS),
    (SERVED, OPTIONAL_APIS, {"inferenceservices": ["get", "patch"]}),
    (changed(SERVED, "config.training.jobs.kind", "kubernetes"), (), JOBS | {"inferenceservices": ["get", "patch"]}),
])
def test_training_may_do_what_it_does_and_no_more(values: Values, apis: Any, rights: dict[str, list[str]]) -> None:
    items = manifests(values, apis=apis)
    rules = [rule for role in of_kind(items, "Role") for rule in role["rules"]]
    assert {resource: rule["verbs"] for rule in rules for resource in rule["resources"]} == rights
    groups = {resource: rule["apiGroups"] for rule in rules for resource in rule["resources"]}
    for kind in (JOB, TRAIN_JOB, INFERENCE_SERVICE):
        assert groups.get(kind.plural, [kind.api.partition("/")[0]]) == [kind.api.partition("/")[0]]
    token = named(items, "StatefulSet", "training")["spec"]["template"]["spec"]["automountServiceAccountToken"]
    own = named(items, "NetworkPolicy", "training")["spec"]["egress"]
    edges = [rule for rule in own if {"port": 6443} in rule["ports"]]
    assert (token, len(edges)) == (bool(rights), bool(rights))


def test_training_may_patch_the_inference_services_that_it_is_told_and_no_others() -> None:
    (role,) = of_kind(manifests(SERVED), "Role")
    (rule,) = role["rules"]
    assert rule["resourceNames"] == ["judge-a", "judge-b", "near"]
    config = named(manifests(SERVED), "ConfigMap", "training")["data"]["config.yaml"]
    assert "volume_claim: try-xinstruct-data" in config


def test_another_manifest_of_jobs_replaces_the_pod_that_reads_it_and_no_other() -> None:
    before, after = (manifests(changed(PODS, "trainingJobs.ttlS", seconds)) for seconds in (60, 120))
    same = [item["metadata"]["name"] for item in of_kind(before, "StatefulSet") if item in after]
    names = {item["metadata"]["name"] for item in of_kind(after, "StatefulSet")}
    assert names - set(same) == {"try-xinstruct-training"}


def test_the_light_image_keeps_jobs_that_run_elsewhere() -> None:
    values = changed(PODS, "services.training.image", "light")
    (container,) = named(manifests(values), "StatefulSet", "training")["spec"]["template"]["spec"]["containers"]
    (job,) = training_jobs(manifests(values))
    assert container["image"] == "xinstruct:0.1.0"
    assert job["template"]["spec"]["containers"][0]["image"] == "xinstruct-model:0.1.0"


def test_where_jobs_are_local_nothing_of_the_cluster_is_made() -> None:
    files = rendered(profile("small"), apis=OPTIONAL_APIS)
    assert not files["trainingruntimes.yaml"].strip() and "job.json" not in files["configmaps.yaml"]


def _selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a selector of labels and of "In" and "NotIn" picks a pod."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    return all(
        (labels.get(rule["key"]) in rule["values"]) is (rule["operator"] == "In")
        for rule in selector.get("matchExpressions", ())
    )
