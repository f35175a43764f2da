"""Kubernetes and operators take what the charts give for many sets of values, not for the profiles alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest

from charts import crds
from charts.rendering import (
    INFERENCE,
    KUBERNETES,
    OPTIONAL_APIS,
    XINSTRUCT,
    Manifest,
    OurChart,
    Values,
    changed,
    lint_faults,
    manifests,
    merged,
    of_kind,
    pods,
    profile,
    training_jobs,
)
from charts.schemas import faults, is_custom
from charts.test_inference import RUNTIMES, with_all
from charts.test_invariants import WHOLE
from charts.test_values import BASES

TOLERATION = {"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]}}}
PLACED: Values = {
    "nodeSelector": {"disk": "fast"}, "tolerations": [TOLERATION], "affinity": AFFINITY, "priorityClassName": "high",
    "runtimeClassName": "nvidia", "podLabels": {"team": "ours"}, "podAnnotations": {"example.org/on": "yes"},
}
"""Everything that says where a pod goes, and what it says of itself."""
COMMON: Values = {
    "imagePullSecrets": ["pull", "pull-too"], "commonLabels": {"house": "ours"},
    "commonAnnotations": {"example.org/by": "us"},
}
ACCOUNT = {"serviceAccountAnnotations": {"example.org/role": "reader"}, "spreadOver": "topology.kubernetes.io/zone"}
NO_USER: Values = {"podSecurity": {"runAsUser": None, "fsGroup": None}}

SERVICES_PLACED = merged(WHOLE["main job"], {
    **COMMON, "defaults": PLACED | ACCOUNT, "trainingJobs": PLACED | {"labels": {"queue": "ours"}},
    "config": {"training": {"jobs": {"kind": "kubernetes"}}},
})
MODELS_PLACED = merged(profile("small", INFERENCE), {
    **COMMON, "defaults": {**PLACED, **ACCOUNT, "filesConfigMap": "templates"},
    "models": {"generator": {"storageUri": "s3://bucket/model"}, "evaluator": {"scaling": {"kind": "keda"}}},
})
MATRIX: Mapping[str, tuple[OurChart, Values]] = {
    # What the profiles give is compared for each version in test_profiles.py.
    **{name: (XINSTRUCT, WHOLE[name]) for name in ("main job", "tls")},
    **{f"{of.name}: {make.__name__}": (of, make()) for of in BASES for make in BASES[of]},
    **{f"{runtime}, kserve {choice}": (INFERENCE, with_all(
        changed(profile("small", INFERENCE), "kserve.enabled", choice), RUNTIMES[runtime]))
       for runtime in RUNTIMES for choice in ("always", "never")},
    "services placed": (XINSTRUCT, SERVICES_PLACED),
    "models placed, by KServe": (INFERENCE, changed(MODELS_PLACED, "kserve.enabled", "always")),
    "models placed, deployed": (INFERENCE, changed(MODELS_PLACED, "kserve.enabled", "never")),
    "no user": (XINSTRUCT, merged(profile("standard"), NO_USER)),
    "models without a user": (INFERENCE, merged(profile("small", INFERENCE), NO_USER)),
    "existing claim, autoscalers by CPU": (XINSTRUCT, merged(profile("small"), {
        "storage": {"existingClaim": "ours"},
        "services": {name: {"scaling": {"kind": "hpa"}} for name in ("crawler", "backgen", "scoring-a", "scoring-b")},
    })),
    "no shared volume": (XINSTRUCT, merged(profile("standard"), {
        "storage": {"enabled": False}, "services": {"training": {"enabled": False}},
    })),
}
matrix = pytest.mark.parametrize("name", MATRIX)


@cache
def made(name: str) -> list[Manifest]:
    """Every object, operators' kinds among them."""
    of, values = MATRIX[name]
    return manifests(values, apis=OPTIONAL_APIS, of=of)


@matrix
def test_helm_lint_has_nothing_against_these_values_for_the_newest_kubernetes(name: str) -> None:
    # Kinds that it has given up since the oldest, for which the profiles are linted, are named, too.
    of, values = MATRIX[name]
    assert lint_faults(values, KUBERNETES[-1], of) == []


@matrix
def test_kubernetes_takes_every_manifest_of_these_values_and_knows_each_field(name: str) -> None:
    items = [item for item in made(name) if not is_custom(item)]
    items += [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "training"}, "spec": spec}
              for spec in training_jobs(made(name))]
    assert [fault for version in KUBERNETES for item in items for fault in faults(item, version)] == []


@matrix
def test_operators_take_every_manifest_of_these_values_and_know_each_field(name: str) -> None:
    crds.need_crds()
    items = [item for item in made(name) if is_custom(item)]
    assert [fault for item in items for fault in crds.faults(item, KUBERNETES[-1])] == []


# ── Where pods go ─────────────────────────────────────────────────────────────────────────────────────────────────────

placed = pytest.mark.parametrize("name", [name for name in MATRIX if "placed" in name])


@placed
def test_every_pod_is_pulled_with_the_secrets_and_goes_where_it_is_told(name: str) -> None:
    wanted = {key: PLACED[key] for key in PLACED if not key.startswith("pod")}
    wanted["imagePullSecrets"] = [{"name": secret} for secret in COMMON["imagePullSecrets"]]
    owners = pods(made(name))
    assert len(owners) == (12 if name == "services placed" else 2)
    for owner, pod in owners:
        assert {key: pod["spec"].get(key) for key in wanted} == wanted, owner


@placed
def test_pods_that_may_be_several_are_spread_over_nodes_by_their_own_labels(name: str) -> None:
    found = made(name)
    alone = ("-kafka", "-postgres", "-migrate", "-topics", "-test", "a training job")
    for owner, pod in pods(found):
        constraints = pod["spec"].get("topologySpreadConstraints", [])
        if owner.endswith(alone):
            assert constraints == [], owner
            continue
        (spread,) = constraints
        assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (ACCOUNT["spreadOver"], "ScheduleAnyway")
        chosen = spread["labelSelector"]["matchLabels"]
        assert [other for other, template in pods(found)
                if chosen.items() <= template["metadata"]["labels"].items()] == [owner]


@placed
def test_what_is_said_of_pods_is_on_them_and_what_is_said_of_all_on_everything(name: str) -> None:
    servers = of_kind(made(name), "StatefulSet", "Deployment")
    for item in servers:
        if item["metadata"]["name"].endswith(("-kafka", "-postgres")):
            continue
        metadata = item["spec"]["template"]["metadata"]
        assert metadata["labels"]["team"] == "ours", item["metadata"]["name"]
        assert metadata["annotations"]["example.org/on"] == "yes", item["metadata"]["name"]
    for item in made(name):
        assert item["metadata"]["labels"]["house"] == "ours", item["metadata"]["name"]
        assert item["metadata"]["annotations"]["example.org/by"] == "us", item["metadata"]["name"]


@placed
def test_a_budget_lets_a_drain_take_as_many_pods_as_it_is_told(name: str) -> None:
    of, values = MATRIX[name]
    items = manifests(changed(values, "defaults.unavailableMax", 2), of=of)
    templates = {owner: pod["metadata"]["labels"] for owner, pod in pods(items)}
    several = {owner for owner in templates if not owner.endswith(
        ("-kafka", "-postgres", "-migrate", "-topics", "-test", "a training job"))}
    budgets = of_kind(items, "PodDisruptionBudget")
    assert {item["metadata"]["name"] for item in budgets} == several
    for item in budgets:
        spec = item["spec"]
        assert spec["maxUnavailable"] == 2 and "minAvailable" not in spec
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        chosen = spec["selector"]["matchLabels"].items()
        assert [owner for owner, labels in templates.items() if chosen <= labels.items()] == [item["metadata"]["name"]]
