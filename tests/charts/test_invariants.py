"""What holds for every object, whatever the profile: a cluster's administrator reads this list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from charts.rendering import (
    INFERENCE,
    OPTIONAL_APIS,
    PROFILES,
    SERVICES,
    Manifest,
    changed,
    job_manifest,
    manifests,
    of_kind,
    pods,
    profile,
)
from xinstruct.__main__ import CLOSING_S_MAX
from xinstruct.spine.process import ProcessSettings

WHOLE = {
    **{name: profile(name) for name in PROFILES},
    "main job": changed(profile("small"), "tests.mainJob.enabled", True),
    "tls": changed(profile("small"), "tls", {"enabled": True, "secretName": "ours", "mutual": {"enabled": True}}),
}
"""Name → values that the invariants are asked of."""

SERVICES_ONLY = {name: manifests(values, apis=OPTIONAL_APIS) for name, values in WHOLE.items()}
MODELS = {
    f"models {name} {how}": manifests(changed(profile(name, INFERENCE), "kserve.enabled", choice),
                                      apis=OPTIONAL_APIS, of=INFERENCE)
    for name in INFERENCE.profiles for how, choice in (("by KServe", "always"), ("deployed", "never"))
}
everywhere = pytest.mark.parametrize("items", SERVICES_ONLY.values(), ids=SERVICES_ONLY)
"""In the chart of services."""
in_both_charts = pytest.mark.parametrize(
    "items", [*SERVICES_ONLY.values(), *MODELS.values()], ids=[*SERVICES_ONLY, *MODELS]
)

LABELS = {
    "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component", "app.kubernetes.io/version",
    "app.kubernetes.io/part-of", "app.kubernetes.io/managed-by", "helm.sh/chart",
}

VERSIONS = {"app.kubernetes.io/version", "helm.sh/chart"}


@in_both_charts
def test_every_object_has_a_name_that_fits_a_namespace_and_the_recommended_labels(items: list[Manifest]) -> None:
    for item in items:
        metadata = item["metadata"]
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", metadata["name"]), metadata["name"]
        assert metadata["namespace"] == "lab"
        # KServe hands labels of its objects on to pods, which a version among them would replace.
        wanted = LABELS - VERSIONS if item["kind"] == "InferenceService" else LABELS
        assert set(metadata["labels"]) >= wanted, metadata["name"]


@in_both_charts
def test_no_two_objects_have_one_name(items: list[Manifest]) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in items]
    assert len(names) == len(set(names))


@in_both_charts
def test_every_pod_passes_restricted_pod_security(items: list[Manifest]) -> None:
    for owner, pod in pods(items):
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, owner
        assert security["runAsUser"] == 10001 and isinstance(security["runAsUser"], int), owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"]), owner
        assert {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"} <= {
            "configMap", "secret", "emptyDir", "persistentVolumeClaim",
        }, owner
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, owner


@everywhere
def test_only_trainings_pod_has_a_token_of_the_kubernetes_api_and_only_where_it_asks_it(items: list[Manifest]) -> None:
    tokens = {owner for owner, pod in pods(items) if pod["spec"]["automountServiceAccountToken"] is not False}
    assert tokens == ({"try-xinstruct-training"} if job_manifest(items) else set())
    assert all(item["automountServiceAccountToken"] is False for item in of_kind(items, "ServiceAccount"))


@everywhere
def test_rights_are_trainings_alone_and_of_its_namespace(items: list[Manifest]) -> None:
    # Which ones: test_training.py.
    assert of_kind(items, "ClusterRole", "ClusterRoleBinding") == []
    assert len(of_kind(items, "Role")) == len(of_kind(items, "RoleBinding")) == bool(job_manifest(items))
    for binding in of_kind(items, "RoleBinding"):
        assert [subject["name"] for subject in binding["subjects"]] == ["try-xinstruct-training"]


@in_both_charts
def test_every_container_says_what_it_needs_and_how_much_memory_it_may_take(items: list[Manifest]) -> None:
    for owner, container in containers(items):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), owner
        assert "memory" in resources["limits"] and "cpu" not in resources["limits"], owner


@in_both_charts
def test_every_image_is_named_by_a_version_or_digest(items: list[Manifest]) -> None:
    for owner, container in containers(items):
        assert re.fullmatch(r"\S+(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})", container["image"]), owner


@in_both_charts
def test_every_server_has_the_three_probes(items: list[Manifest]) -> None:
    ending = {item["metadata"]["name"] for item in of_kind(items, "Job")} | {"a training job"}
    for owner, pod in pods(items):
        for container in pod["spec"]["containers"]:
            assert owner in ending or {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), owner


@everywhere
def test_no_server_is_killed_because_something_that_it_needs_is_away(items: list[Manifest]) -> None:
    # StatusService is healthy from start to drain (tests/integration/spine/test_process.py); other names say whether a
    # service can work, which a restart would not help.
    for item in of_kind(items, "StatefulSet"):
        (container,) = item["spec"]["template"]["spec"]["containers"]
        asked = container["livenessProbe"]
        if item["metadata"]["labels"]["app.kubernetes.io/component"] in SERVICES:
            assert asked["grpc"]["service"] == "xinstruct.v1.StatusService", item["metadata"]["name"]
        else:  # broker and database speak no gRPC
            assert asked["tcpSocket"], item["metadata"]["name"]
        assert "exec" not in asked and "httpGet" not in asked, item["metadata"]["name"]
        patience_s = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
        assert patience_s >= 60, item["metadata"]["name"]


@pytest.mark.parametrize("server", ["kafka", "postgres"])
def test_an_own_server_has_a_quarter_of_an_hour_to_recover_after_a_kill(server: str) -> None:
    (found,) = [c for owner, c in containers(SERVICES_ONLY["small"]) if owner == f"try-xinstruct-{server}"]
    assert found["startupProbe"]["periodSeconds"] * found["startupProbe"]["failureThreshold"] >= 900


@everywhere
def test_every_service_has_its_address_its_budget_and_its_account(items: list[Manifest]) -> None:
    for kind in ("StatefulSet", "Service", "PodDisruptionBudget", "ServiceAccount", "ConfigMap"):
        names = {item["metadata"]["name"] for item in of_kind(items, kind)}
        assert {f"try-xinstruct-{service}" for service in SERVICES} <= names, kind


@in_both_charts
def test_what_selects_pods_selects_those_of_one_owner(items: list[Manifest]) -> None:
    templates = {owner: pod["metadata"]["labels"] for owner, pod in pods(items)}
    for item in of_kind(items, "StatefulSet", "Deployment", "Service", "PodDisruptionBudget"):
        selector = item["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        chosen = [owner for owner, labels in templates.items() if wanted.items() <= labels.items()]
        assert chosen == [item["metadata"]["name"].removesuffix("-pods")], item["kind"]


@everywhere
def test_every_address_is_headless_so_that_clients_see_each_pod(items: list[Manifest]) -> None:
    assert {item["spec"]["clusterIP"] for item in of_kind(items, "Service")} == {"None"}


@everywhere
def test_a_pod_is_gone_in_ten_seconds_and_has_more_time_to_end_than_its_drain_takes(items: list[Manifest]) -> None:
    drain_s = ProcessSettings().drain_s
    for item in of_kind(items, "StatefulSet"):
        spec = item["spec"]["template"]["spec"]
        if spec["containers"][0]["name"] in SERVICES:
            pre_stop_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pre_stop_s + drain_s + CLOSING_S_MAX < 10
            assert spec["terminationGracePeriodSeconds"] >= pre_stop_s + drain_s + 5


@everywhere
def test_a_pod_is_named_by_its_place_among_replicas(items: list[Manifest]) -> None:
    for item in of_kind(items, "StatefulSet"):
        (container,) = item["spec"]["template"]["spec"]["containers"]
        if container["name"] not in SERVICES:
            continue
        variables = {entry["name"]: entry for entry in container["env"]}
        assert variables["XINSTRUCT_INSTANCE"]["value"] == f"{container['name']}-$(POD_INDEX)"
        path = variables["POD_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
        assert path == "metadata.labels['apps.kubernetes.io/pod-index']"
        assert list(variables).index("POD_INDEX") < list(variables).index("XINSTRUCT_INSTANCE")  # or it is not replaced


@in_both_charts
def test_no_secret_is_made_and_no_variable_holds_one(items: list[Manifest]) -> None:
    assert of_kind(items, "Secret") == []
    for owner, container in containers(items):
        for entry in container.get("env", ()):
            secret = re.search(r"PASSWORD|TOKEN|SECRET|KEY", entry["name"])
            assert not secret or "secretKeyRef" in entry["valueFrom"], owner
    for config in of_kind(items, "ConfigMap"):
        for line in "\n".join(config["data"].values()).splitlines():
            assert not re.search(r"^\s*\w*(password|token|api_key)(_\w+)?:(?!\s*/etc/xinstruct/secrets/)", line), line


@everywhere
def test_variables_are_secrets_and_identity_only(items: list[Manifest]) -> None:
    allowed = {
        "POD_INDEX", "XINSTRUCT_INSTANCE", "HOME", "PGDATA", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
        # The S3 client's own, which reads them from nowhere else.
        "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE",
        # The PostgreSQL client's, which the database's URL need not name then.
        "PGSSLROOTCERT", "PGSSLMODE",
    }
    assert {entry["name"] for _, container in containers(items) for entry in container.get("env", ())} <= allowed


@everywhere
def test_every_mount_has_its_volume_and_every_file_of_the_configuration_its_mount(items: list[Manifest]) -> None:
    configs = {item["metadata"]["name"]: item["data"] for item in of_kind(items, "ConfigMap")}
    for owner, pod in pods(items):
        (container,) = pod["spec"]["containers"]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]} | {"data": {}}
        files: set[str] = set()
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            files |= {f"{mount['mountPath']}/{item['path']}" for item in volume.get("secret", {}).get("items", ())}
        config = next((v["configMap"]["name"] for v in volumes.values() if "configMap" in v), None)
        text = "" if config is None else configs[config].get("config.yaml", "")
        assert set(re.findall(r"/etc/xinstruct/secrets/\S+", text)) <= files, owner


@everywhere
def test_pods_are_replaced_when_their_configuration_changes(items: list[Manifest]) -> None:
    for owner, pod in pods(items):
        config = any("configMap" in volume for volume in pod["spec"]["volumes"])
        job = owner.endswith(("-migrate", "-topics", "-test"))
        assert not config or job or "checksum/config" in pod["metadata"]["annotations"], owner


@in_both_charts
def test_a_new_version_of_the_chart_alone_replaces_no_pod(items: list[Manifest]) -> None:
    for owner, pod in pods(items):
        assert not set(pod["metadata"]["labels"]) & VERSIONS, owner


@everywhere
def test_every_pod_is_denied_what_no_edge_allows(items: list[Manifest]) -> None:
    (deny,) = [item for item in of_kind(items, "NetworkPolicy") if item["metadata"]["name"].endswith("-deny")]
    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny["spec"])
    for owner, pod in pods(items):
        assert deny["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), owner


@in_both_charts
def test_every_edge_names_its_ports(items: list[Manifest]) -> None:
    for item in of_kind(items, "NetworkPolicy"):
        for rule in (*item["spec"].get("ingress", ()), *item["spec"].get("egress", ())):
            assert rule.get("ports"), item["metadata"]["name"]


@everywhere
def test_what_is_kept_when_the_release_goes_is_volumes_only(items: list[Manifest]) -> None:
    kept = {
        item["kind"] for item in items
        if item["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {"PersistentVolumeClaim"}


@everywhere
def test_no_hook_outlives_its_end_however_it_ended(items: list[Manifest]) -> None:
    # An uninstallation looks for no hook.
    for item in items:
        annotations = item["metadata"].get("annotations", {})
        if "helm.sh/hook" in annotations:
            kept_for = annotations["helm.sh/hook-delete-policy"].split(",")
            assert {"before-hook-creation", "hook-succeeded", "hook-failed"} == set(kept_for), item["metadata"]["name"]
            if item["kind"] == "Job":  # so its words are shown before, and it goes where nobody waits for it
                assert "hook-failed" in annotations["helm.sh/hook-output-log-policy"], item["metadata"]["name"]
                assert item["spec"]["ttlSecondsAfterFinished"] <= 3600, item["metadata"]["name"]
                # Where nobody waits for it any more it ends by itself, too.
                assert 0 < item["spec"]["activeDeadlineSeconds"] <= 3600, item["metadata"]["name"]


def containers(items: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(owner, container) of every container."""
    for owner, pod in pods(items):
        for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
            yield owner, container
