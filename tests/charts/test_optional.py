"""What is made only where it can work: kinds of operators, what scales, jobs before an installation, certificates."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from architecture.source import ROOT
from charts import crds
from charts.crds import need_crds
from charts.rendering import (
    KUBERNETES,
    OPTIONAL_APIS,
    PROFILES,
    SERVICES,
    Manifest,
    Values,
    before_the_release,
    changed,
    manifests,
    merged,
    named,
    of_kind,
    profile,
)
from charts.schemas import is_custom

TLS = changed(profile("small"), "tls", {"enabled": True, "issuer": {"name": "house"}})

KINDS = {
    # Kind → its API, the value that chooses, and values under which it is wanted.
    "ScaledObject": ("keda.sh/v1alpha1", "keda.scaledObject", profile("standard")),
    "ServiceMonitor": ("monitoring.coreos.com/v1", "monitoring.serviceMonitor", profile("small")),
    "PrometheusRule": ("monitoring.coreos.com/v1", "monitoring.prometheusRule", profile("small")),
    "Certificate": ("cert-manager.io/v1", "tls.certificate", TLS),
    "TrainingRuntime": ("trainer.kubeflow.org/v1alpha1", "trainingJobs.trainJob", profile("standard")),
}

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_a_kind_of_an_operator_is_made_where_its_api_is_there(kind: str) -> None:
    api, _, values = KINDS[kind]
    assert {item["apiVersion"] for item in of_kind(manifests(values, apis=[api]), kind)} == {api}


@kinds
def test_a_kind_of_an_operator_is_made_without_its_api_when_it_is_forced(kind: str) -> None:
    _, choice, values = KINDS[kind]
    assert of_kind(manifests(changed(values, choice, "always")), kind)


@pytest.mark.parametrize("kind", ["ScaledObject", "ServiceMonitor", "PrometheusRule", "TrainingRuntime"])
@pytest.mark.parametrize(("choice", "apis"), [("auto", ()), ("never", OPTIONAL_APIS)])
def test_a_kind_of_an_operator_is_not_made_otherwise(kind: str, choice: str, apis: tuple[str, ...]) -> None:
    _, key, values = KINDS[kind]
    assert not of_kind(manifests(changed(values, key, choice), apis=apis), kind)


WITH_OPERATORS = {
    # Values under which everything is made that is an operator's.
    **{name: profile(name) for name in PROFILES},
    "tls": changed(TLS, "tls.mutual.enabled", True),
    "scaled": changed(profile("small"), "services.crawler.scaling.kind", "keda"),
}


@pytest.mark.parametrize("name", WITH_OPERATORS)
def test_operators_take_their_kinds_and_know_each_field(name: str) -> None:
    need_crds()
    items = manifests(WITH_OPERATORS[name], apis=OPTIONAL_APIS)
    wrong = [fault for item in items if is_custom(item) for fault in crds.faults(item, KUBERNETES[-1])]
    assert not wrong, "\n".join(wrong)


def test_every_kind_of_an_operator_is_among_those_that_are_compared_with_its_schema() -> None:
    made = (manifests(values, apis=OPTIONAL_APIS) for values in WITH_OPERATORS.values())
    assert {item["kind"] for items in made for item in items if is_custom(item)} == set(KINDS)


@kinds
def test_an_operators_schema_refuses_a_field_that_it_does_not_know(kind: str) -> None:
    need_crds()
    api, _, values = KINDS[kind]
    item = copy.deepcopy(of_kind(manifests(values, apis=[api]), kind)[0])
    item["spec"]["unheardOf"] = True
    assert ["unheardOf" in fault for fault in crds.faults(item, KUBERNETES[-1])] == [True]


@pytest.mark.parametrize(("scaling", "apis", "has_replicas"), [
    ({"kind": "none"}, OPTIONAL_APIS, True),
    ({"kind": "hpa"}, (), False),
    ({"kind": "keda"}, OPTIONAL_APIS, False),
    # Without KEDA nothing would ever set them.
    ({"kind": "keda"}, (), True),
])
def test_replicas_are_left_to_what_scales(scaling: Values, apis: tuple[str, ...], has_replicas: bool) -> None:
    items = manifests(changed(profile("small"), "services.backgen.scaling", scaling), apis=apis)
    assert ("replicas" in named(items, "StatefulSet", "backgen")["spec"]) is has_replicas
    assert named(items, "StatefulSet", "curation")["spec"]["replicas"] == 1


def test_an_autoscaler_scales_the_pods_that_it_is_named_after() -> None:
    items = manifests(profile("standard"), apis=OPTIONAL_APIS)
    scalers = of_kind(items, "HorizontalPodAutoscaler", "ScaledObject")
    targets = [item["spec"]["scaleTargetRef"]["name"] for item in scalers]
    assert targets == [item["metadata"]["name"] for item in scalers]
    assert {item["spec"]["scaleTargetRef"]["kind"] for item in scalers} == {"StatefulSet"}
    assert len(scalers) == 4


def test_backgen_alone_may_rest_with_no_pod_at_all() -> None:
    resting = {"kind": "keda", "replicasMin": 0}
    items = manifests(changed(profile("small"), "services.backgen.scaling", resting), apis=OPTIONAL_APIS)
    assert named(items, "ScaledObject", "backgen")["spec"]["minReplicaCount"] == 0


@pytest.mark.parametrize(("name", "hooks"), [
    # The release's own database is not there before the release.
    ("small", {"migrate": "pre-upgrade", "topics": "pre-upgrade"}),
    ("standard", {"migrate": "pre-install,pre-upgrade"}),
])
def test_schema_and_topics_are_made_before_pods_wherever_their_server_is_there(name: str, hooks: Values) -> None:
    jobs = before_the_release(manifests(profile(name)))
    found = {item["metadata"]["name"]: item["metadata"]["annotations"]["helm.sh/hook"] for item in jobs}
    assert found == {f"try-xinstruct-{name}": hook for name, hook in hooks.items()}


@pytest.mark.parametrize("service", SERVICES)
def test_an_upgrade_without_hooks_loses_nothing_with_own_servers_for_services_make_both_at_their_start(
    service: str,
) -> None:
    # What docs/deploy.md tells people to do when a broker or database that hooks wait for is what has to be mended.
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| ") and "--no-hooks" in line]
    off = re.findall(r"`(jobs\.\w+\.enabled=false)`", row)
    values = profile("small")
    for path in off:
        values = changed(values, path.partition("=")[0], False)
    items = manifests(values)
    assert len(off) == 2 and before_the_release(items) == []
    config = yaml.safe_load(named(items, "ConfigMap", service)["data"]["config.yaml"])
    assert config["log"]["topics"] == "create"
    assert config["database_url"] == "postgresql+psycopg://xinstruct@try-xinstruct-postgres.lab.svc:5432/xinstruct"


@pytest.mark.parametrize("name", PROFILES)
def test_a_job_finds_its_configuration_and_its_policy_before_the_release_is_there(name: str) -> None:
    items = manifests(profile(name))
    for kind in ("ConfigMap", "NetworkPolicy"):
        earlier = named(items, kind, "jobs")["metadata"]["annotations"]
        for job in before_the_release(items):
            annotations = job["metadata"]["annotations"]
            assert set(annotations["helm.sh/hook"].split(",")) <= set(earlier["helm.sh/hook"].split(","))
            assert int(earlier["helm.sh/hook-weight"]) < int(annotations["helm.sh/hook-weight"])
    for job in before_the_release(items):
        (volume,) = [v for v in job["spec"]["template"]["spec"]["volumes"] if "configMap" in v]
        assert volume["configMap"]["name"] == "try-xinstruct-jobs"
        assert "serviceAccountName" not in job["spec"]["template"]["spec"]  # the release's accounts come later


def test_topics_are_made_by_services_of_the_own_broker_and_expected_on_any_other() -> None:
    for name, topics in (("small", "topics: create"), ("standard", "topics: expect")):
        assert topics in named(manifests(profile(name)), "ConfigMap", "backgen")["data"]["config.yaml"]


def test_the_certificate_is_for_the_names_that_the_configuration_gives_to_callers() -> None:
    items = manifests(TLS, apis=OPTIONAL_APIS)
    (certificate,) = of_kind(items, "Certificate")
    assert certificate["spec"]["secretName"] == "try-xinstruct-tls"
    config = named(items, "ConfigMap", "crawler")["data"]["config.yaml"]
    for service in ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation"):
        assert f"try-xinstruct-{service}.lab.svc" in certificate["spec"]["dnsNames"]
        assert f"{service}: try-xinstruct-{service}.lab.svc:7700" in config


@pytest.mark.parametrize(("values", "secret"), [
    (TLS, "try-xinstruct-tls"), (changed(TLS, "tls.secretName", "ours"), "ours"),
])
def test_with_tls_services_serve_the_certificate_and_probes_ask_on_a_port_without(values: Values, secret: str) -> None:
    items = manifests(values, apis=OPTIONAL_APIS)
    pod = named(items, "StatefulSet", "backgen")["spec"]["template"]["spec"]
    assert secret in {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    rpc = yaml.safe_load(named(items, "ConfigMap", "backgen")["data"]["config.yaml"])["rpc"]
    # The kubelet's gRPC probe speaks no TLS: on the other port it would fail for ever.
    (container,) = pod["containers"]
    asked = {name: container[f"{name}Probe"]["grpc"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in asked.values()} == {rpc["health_port"]} != {rpc["port"]}
    assert {name: probe["service"] for name, probe in asked.items()} == {
        "startup": "xinstruct.v1.StatusService", "liveness": "xinstruct.v1.StatusService",
        "readiness": "xinstruct.v1.BackgenService",
    }
    assert {"name": "health", "containerPort": rpc["health_port"]} in container["ports"]
    assert rpc["tls_certificate_file"] == "/etc/xinstruct/secrets/tls/tls.crt"
    assert bool(of_kind(items, "Certificate")) is (secret != "ours")


@pytest.mark.parametrize(("change", "believed"), [
    ({}, "try-xinstruct-tls"), ({"mutual": {"authoritySecret": {"name": "house-ca"}}}, "house-ca"),
    # A Secret of one's own may have no authority: who signed its certificate by itself has none.
    ({"secretName": "ours"}, ""),
    ({"secretName": "ours", "mutual": {"authoritySecret": {"name": "house-ca"}}}, "house-ca"),
])
def test_callers_believe_the_authority_where_one_is_known_and_not_a_certificate_that_will_be_renewed(
    change: Values, believed: str
) -> None:
    items = manifests(merged(TLS, {"tls": change}), apis=OPTIONAL_APIS)
    pod = named(items, "StatefulSet", "backgen")["spec"]["template"]["spec"]
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert secrets.get("secret-tls-authority", "") == believed
    rpc = yaml.safe_load(named(items, "ConfigMap", "backgen")["data"]["config.yaml"])["rpc"]
    assert rpc.get("tls_ca_file", "") == ("/etc/xinstruct/secrets/tls-authority/ca.crt" if believed else "")
    assert "tls_client_ca_file" not in rpc


@pytest.mark.parametrize(("authority", "mounted"), [
    # cert-manager puts its issuer's certificate beside the one that it signed.
    ({}, ("try-xinstruct-tls", "ca.crt")), ({"name": "house-ca", "key": "bundle.pem"}, ("house-ca", "bundle.pem")),
])
def test_with_mutual_tls_services_ask_for_certificates_and_bring_their_own(
    authority: Values, mounted: tuple[str, str]
) -> None:
    items = manifests(changed(TLS, "tls.mutual", {"enabled": True, "authoritySecret": authority}), apis=OPTIONAL_APIS)
    (certificate,) = of_kind(items, "Certificate")
    assert {"server auth", "client auth"} <= set(certificate["spec"]["usages"])
    pod = named(items, "StatefulSet", "backgen")["spec"]["template"]["spec"]
    (volume,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "secret-tls-authority"]
    assert (volume["secretName"], volume["items"]) == (mounted[0], [{"key": mounted[1], "path": "ca.crt"}])
    rpc = yaml.safe_load(named(items, "ConfigMap", "backgen")["data"]["config.yaml"])["rpc"]
    assert {name: file.rpartition("secrets/")[2] for name, file in rpc.items() if name.endswith("_file")} == {
        "token_file": "token/token", "tls_certificate_file": "tls/tls.crt", "tls_key_file": "tls/tls.key",
        "tls_client_ca_file": "tls-authority/ca.crt", "tls_ca_file": "tls-authority/ca.crt",
    }


def test_no_service_and_no_other_pod_reaches_the_port_without_tls() -> None:
    items = manifests(TLS, apis=OPTIONAL_APIS)
    config = named(items, "ConfigMap", "backgen")["data"]["config.yaml"]
    port = yaml.safe_load(config)["rpc"]["health_port"]
    assert str(port) not in yaml.safe_dump_all(of_kind(items, "NetworkPolicy", "Service"))
    plain = manifests(profile("small"))
    assert "health_port" not in named(plain, "ConfigMap", "backgen")["data"]["config.yaml"]
    (container,) = named(plain, "StatefulSet", "backgen")["spec"]["template"]["spec"]["containers"]
    assert "health" not in {one["name"] for one in container["ports"]}


def test_without_mutual_tls_nobody_is_asked_for_a_certificate() -> None:
    items = manifests(TLS, apis=OPTIONAL_APIS)
    (certificate,) = of_kind(items, "Certificate")
    assert "client auth" not in certificate["spec"]["usages"]
    assert "tls_client_ca_file" not in named(items, "ConfigMap", "backgen")["data"]["config.yaml"]


def test_a_kafka_user_a_service_is_named_after_it_and_its_secrets_too() -> None:
    values = changed(profile("standard"), "kafkaClient.certificateSecret.name", "client")
    items = manifests(values)
    for service in SERVICES:
        config = yaml.safe_load(named(items, "ConfigMap", service)["data"]["config.yaml"])
        assert config["log"]["sasl_username"] == f"xinstruct-{service}"
        assert {f"xinstruct-{service}", f"client-{service}"} < _secrets(named(items, "StatefulSet", service))
    # Jobs have no user: all that is left of them asks the database.
    (job,) = before_the_release(items)
    assert _secrets(job) == {"xinstruct-database-app", "xinstruct-database-ca", "kafka-cluster-ca-cert"}


def test_one_kafka_user_for_all_is_the_one_that_the_configuration_names() -> None:
    items = manifests(changed(profile("standard"), "kafkaClient.userPerService", False))
    for service in SERVICES:
        assert "sasl_username: xinstruct\n" in named(items, "ConfigMap", service)["data"]["config.yaml"]
        assert "xinstruct" in _secrets(named(items, "StatefulSet", service))


@pytest.mark.parametrize(("storage", "claims", "volume"), [
    ({"enabled": True}, ["try-xinstruct-data"], {"persistentVolumeClaim": {"claimName": "try-xinstruct-data"}}),
    ({"enabled": True, "existingClaim": "ours"}, [], {"persistentVolumeClaim": {"claimName": "ours"}}),
    ({"enabled": False}, [], {"emptyDir": {}}),
])
def test_the_shared_volume_is_a_claim_of_ours_one_of_yours_or_none(
    storage: Values, claims: list[str], volume: Values
) -> None:
    values = changed(changed(profile("standard"), "storage", storage), "services.training.enabled", False)
    items = manifests(values)
    assert [item["metadata"]["name"] for item in of_kind(items, "PersistentVolumeClaim")] == claims
    volumes = named(items, "StatefulSet", "curation")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "data", **volume} in volumes


def test_a_service_that_is_off_leaves_nothing_behind() -> None:
    items = manifests(changed(profile("small"), "services.training.enabled", False), apis=OPTIONAL_APIS)
    assert not [item for item in items if "training" in item["metadata"]["name"]]
    assert "training:" not in named(items, "ConfigMap", "backgen")["data"]["config.yaml"]
    assert not of_kind(items, "Role", "RoleBinding")


def test_without_rbac_nobody_has_a_token() -> None:
    items = manifests(changed(profile("small"), "rbac.enabled", False))
    assert not of_kind(items, "Role", "RoleBinding")
    assert named(items, "StatefulSet", "training")["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_longer_drain_gives_the_pods_of_that_service_longer_to_end() -> None:
    items = manifests(changed(profile("small"), "services.backgen.config.process.drain_s", 20.5))
    times_s = {
        service: named(items, "StatefulSet", service)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for service in ("backgen", "crawler")
    }
    assert times_s == {"backgen": 2 + 21 + 5, "crawler": 2 + 7 + 5}


def test_a_changed_configuration_replaces_the_pods_that_read_it_and_no_others() -> None:
    before = manifests(profile("small"))
    after = manifests(changed(profile("small"), "services.backgen.config.runner.attempts_max", 9))
    same = [item["metadata"]["name"] for item in of_kind(before, "StatefulSet") if item in after]
    names = [item["metadata"]["name"] for item in of_kind(after, "StatefulSet")]
    assert set(names) - set(same) == {"try-xinstruct-backgen"}


def test_a_platform_may_choose_the_user_itself() -> None:
    values = changed(profile("standard"), "podSecurity", {"runAsUser": None, "fsGroup": None})
    for item in of_kind(manifests(values), "StatefulSet"):
        security = item["spec"]["template"]["spec"]["securityContext"]
        assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_edges_lead_to_our_own_servers_only_where_they_are_ours() -> None:
    own, foreign = (_state(manifests(profile(name))) for name in ("small", "standard"))
    reached = [rule["to"][0]["podSelector"]["matchLabels"] for rule in own["spec"]["egress"]]
    assert [labels["app.kubernetes.io/component"] for labels in reached] == ["kafka", "postgres"]
    ports = [[port["port"] for port in rule["ports"]] for rule in foreign["spec"]["egress"]]
    assert ports == [[9093], [5432]]


def _secrets(owner: Manifest) -> set[str]:
    """Secrets that its pods mount."""
    volumes = owner["spec"]["template"]["spec"]["volumes"]
    return {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}


def _state(items: list[Manifest]) -> Manifest:
    return named(items, "NetworkPolicy", "state")
