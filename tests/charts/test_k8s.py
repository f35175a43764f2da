"""k8s/: what must be there before the chart is as the chart and the code expect it, and its operators take it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import servers
from architecture.source import ROOT
from charts import crds, schemas
from charts.crds import need_crds
from charts.rendering import (
    KUBERNETES,
    SERVICES,
    Manifest,
    Values,
    documents,
    merged,
    of_kind,
    profile,
    read,
    rendered,
)
from xinstruct.backgen import stage as backgen
from xinstruct.backgen.config import BackgenSettings
from xinstruct.crawler import stage as crawler
from xinstruct.crawler.config import CrawlerSettings
from xinstruct.scoring import stage as scoring
from xinstruct.scoring.config import ScoringSettings
from xinstruct.spine.log.kafka_clients import KafkaClients, KafkaSettings, topic_configs
from xinstruct.spine.topics import TOPICS

K8S = ROOT / "k8s"
FOLDERS = tuple(sorted(path.parent.name for path in K8S.glob("*/kustomization.yaml")))
RELEASE = "xinstruct"
"""Release and namespace that the folders are written for."""

folders = pytest.mark.parametrize("folder", FOLDERS)


@cache
def built(folder: str) -> tuple[Manifest, ...]:
    """What the kustomization in k8s/<folder> gives."""
    done = subprocess.run(
        [ROOT / "tools/kustomize.sh", "build", K8S / folder], capture_output=True, text=True, check=False
    )
    if done.returncode and done.stderr.startswith("kustomize: needs"):
        servers.absent("kustomize", done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def installed(*names: str, values: Values | None = None) -> list[Manifest]:
    """The chart as release "xinstruct" with the files of profiles, and values over them."""
    chosen: Values = {}
    for name in names:
        chosen = merged(chosen, profile(name))
    files = rendered(merged(chosen, values or {}), release=RELEASE, namespace=RELEASE)
    return [item for name, text in files.items() if name.endswith(".yaml") for item in documents(text)]


def test_every_folder_is_a_kustomization() -> None:
    assert set(FOLDERS) == {path.name for path in K8S.iterdir() if path.is_dir()}
    assert {"kafka", "postgres", "kserve", "monitoring", "local"} <= set(FOLDERS)


@folders
def test_a_folder_builds_and_leaves_no_file_out(folder: str) -> None:
    files = (path for path in (K8S / folder).glob("*.yaml") if path.name not in NO_RESOURCES)
    written = [item for path in files for item in documents(path.read_text("utf-8"))]
    assert sorted(_name(item) for item in built(folder)) == sorted(_name(item) for item in written)


NO_RESOURCES = {"kustomization.yaml", "values.yaml", "tiny.yaml"}
"""Files of kustomize, and values of the chart."""


@folders
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest_and_knows_each_field(folder: str, version: str) -> None:
    own = [item for item in built(folder) if not schemas.is_custom(item)]
    assert [fault for item in own for fault in schemas.faults(item, version)] == []


@folders
def test_operators_take_every_manifest_and_know_each_field(folder: str) -> None:
    custom = [item for item in built(folder) if schemas.is_custom(item)]
    if custom:
        need_crds()
    assert [fault for item in custom for fault in crds.faults(item, KUBERNETES[-1])] == []


@folders
def test_no_secret_no_image_without_a_version_and_no_object_without_a_namespace(folder: str) -> None:
    for item in built(folder):
        assert item["kind"] != "Secret", _name(item)
        of_cluster = item["kind"] in ("Namespace", "PersistentVolume", "ClusterStorageContainer")
        assert of_cluster != ("namespace" in item["metadata"]), _name(item)
        for image in _values_of(item, "image"):
            assert ":" in image and not image.endswith(":latest"), image


# ── Kafka ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_topics_are_those_of_the_table() -> None:
    found = {item["metadata"]["name"]: item["spec"] for item in of_kind(built("kafka"), "KafkaTopic")}
    assert found == {
        name: {"partitions": topic.partitions, "replicas": 3, "config": topic_configs(topic)}
        for name, topic in TOPICS.items()
    }


def test_every_service_has_a_user_of_the_name_that_the_chart_gives_it_and_only_that_secret() -> None:
    users = {item["metadata"]["name"] for item in of_kind(built("kafka"), "KafkaUser")}
    items = installed("standard")
    for service in SERVICES:
        (config,) = [i for i in of_kind(items, "ConfigMap") if i["metadata"]["name"] == f"{RELEASE}-{service}"]
        assert yaml.safe_load(config["data"]["config.yaml"])["log"]["sasl_username"] == f"xinstruct-{service}"
        (owner,) = [i for i in of_kind(items, "StatefulSet") if i["metadata"]["name"] == f"{RELEASE}-{service}"]
        volumes = owner["spec"]["template"]["spec"]["volumes"]
        mounted = {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}
        assert mounted & users == {f"xinstruct-{service}"}
    assert users == {f"xinstruct-{name}" for name in (*SERVICES, "keda")}


def test_what_a_service_may_write_and_read_is_what_the_table_says_and_curation_may_write_all() -> None:
    stages = {"crawler": {"crawler", "fetch", "admit"}} | {name: {name} for name in SERVICES if name != "crawler"}
    for service in SERVICES:
        allowed = _rights(f"xinstruct-{service}")
        writes = {name for name, topic in TOPICS.items() if stages[service] & set(topic.producers)}
        reads = {name for name, topic in TOPICS.items() if stages[service] & set(topic.consumers)}
        assert allowed["topic", "Write"] == (set(TOPICS) if service == "curation" else writes), service
        assert allowed["topic", "Read"] == reads, service


def test_groups_and_transactional_ids_are_those_of_the_stages_that_the_runner_runs() -> None:
    port: Any = None
    stages = {
        "crawler": [crawler.stage(CrawlerSettings(), port)],
        "backgen": [backgen.stage(BackgenSettings(), generator_digest="0", port=port)],
        **{f"scoring-{slot}": [scoring.stage(ScoringSettings(), slot=slot, evaluator_digest="0", port=port)]
           for slot in ("a", "b")},
        "training": [], "curation": [],
    }
    clients = KafkaClients(KafkaSettings(bootstrap_servers="none:1"), instance="0")
    for service, run in stages.items():
        groups = {clients.group_id(stage.name, stage.source) for stage in run}
        allowed = _rights(f"xinstruct-{service}")
        assert allowed.get(("group", "Read"), set()) == groups
        assert allowed.get(("transactionalId prefix", "Write"), set()) == {f"{group}." for group in groups}


def test_nobody_has_a_right_beyond_these_and_who_reads_lags_reads_no_record() -> None:
    kinds = {
        ("topic", "Read"), ("topic", "Write"), ("group", "Read"), ("group", "Describe"),
        ("transactionalId prefix", "Write"),
    }
    for service in SERVICES:
        assert set(_rights(f"xinstruct-{service}")) <= kinds
    lags = _rights("xinstruct-keda")
    assert set(lags) == {("topic", "Describe"), ("group", "Describe")}
    asked = [
        trigger["metadata"]
        for item in of_kind(_with_keda(), "ScaledObject") for trigger in item["spec"]["triggers"]
    ]
    assert {entry["topic"] for entry in asked} <= lags["topic", "Describe"]
    assert {entry["consumerGroup"] for entry in asked} <= lags["group", "Describe"]


def test_who_reads_lags_is_who_the_chart_names() -> None:
    (authentication,) = of_kind(built("keda"), "TriggerAuthentication")
    assert authentication["metadata"]["name"] == profile("standard")["keda"]["authenticationName"]
    secrets = {item["parameter"]: item["name"] for item in authentication["spec"]["secretTargetRef"]}
    assert secrets.pop("ca") == profile("standard")["kafkaClient"]["caSecret"]["name"]
    assert set(secrets) == {"sasl", "tls", "username", "password"}


def test_the_brokers_are_where_the_chart_looks_for_them() -> None:
    (kafka,) = of_kind(built("kafka"), "Kafka")
    (listener,) = kafka["spec"]["kafka"]["listeners"]
    log = profile("standard")["config"]["log"]
    name, namespace = kafka["metadata"]["name"], kafka["metadata"]["namespace"]
    assert log["bootstrap_servers"] == f"{name}-kafka-bootstrap.{namespace}.svc:{listener['port']}"
    assert (log["security_protocol"], log["sasl_mechanism"].lower()) == ("SASL_SSL", listener["authentication"]["type"])
    assert profile("standard")["kafkaClient"]["caSecret"]["name"] == f"{name}-cluster-ca-cert"
    assert log["replication_factor"] == kafka["spec"]["kafka"]["config"]["default.replication.factor"]
    for item in of_kind(built("kafka"), "KafkaTopic", "KafkaUser", "KafkaNodePool"):
        assert item["metadata"]["labels"]["strimzi.io/cluster"] == name


def test_a_prefix_is_put_before_topics_groups_and_transactional_ids_and_may_hold_what_no_object_may(
    tmp_path: Path,
) -> None:
    options = ["--prefix", "House_1.", "--user", "h"]
    subprocess.run([sys.executable, ROOT / "tools/kafka_resources.py", tmp_path, *options], check=True)
    topics = documents((tmp_path / "k8s/kafka/topics.yaml").read_text("utf-8"))
    assert [item["spec"]["topicName"] for item in topics] == [f"House_1.{name}" for name in TOPICS]
    assert topics[0]["metadata"]["name"] == "house-1.crawl-requested-v1"
    users = documents((tmp_path / "k8s/kafka/users.yaml").read_text("utf-8"))
    acls = [acl for item in users for acl in item["spec"]["authorization"]["acls"]]
    assert all(acl["resource"]["name"].startswith("House_1.") for acl in acls)
    assert {item["metadata"]["name"] for item in users} == {f"h-{name}" for name in (*SERVICES, "keda")}


# ── The rest ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_database_is_where_the_chart_looks_for_it() -> None:
    (cluster,) = of_kind(built("postgres"), "Cluster")
    name, made = cluster["metadata"]["name"], cluster["spec"]["bootstrap"]["initdb"]
    values = profile("standard")
    url = f"postgresql+psycopg://{made['owner']}@{name}-rw:5432/{made['database']}?sslmode=verify-full"
    assert values["config"]["database_url"] == url
    assert values["database"]["passwordSecret"]["name"] == f"{name}-app"
    assert values["database"]["caSecret"]["name"] == f"{name}-ca"  # of its own authority
    assert cluster["metadata"]["namespace"] == RELEASE


def test_kserves_container_that_copies_models_passes_restricted_pod_security() -> None:
    (storage,) = of_kind(built("kserve"), "ClusterStorageContainer")
    assert storage["metadata"]["name"] == "default"
    # KServe merges it over the container of this name.
    assert storage["spec"]["container"] == {"name": "storage-initializer", "securityContext": {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }}
    assert {"prefix": "s3://"} in storage["spec"]["supportedUriFormats"]


def test_the_local_volumes_are_what_the_small_profile_claims() -> None:
    items = installed("small", values=read(K8S / "local" / "values.yaml"))
    claims = {item["metadata"]["name"]: item["spec"] for item in of_kind(items, "PersistentVolumeClaim")}
    for item in of_kind(items, "StatefulSet"):
        for claim in item["spec"].get("volumeClaimTemplates", ()):
            claims[f"{claim['metadata']['name']}-{item['metadata']['name']}-0"] = claim["spec"]
    volumes = {item["spec"]["claimRef"]["name"]: item["spec"] for item in of_kind(built("local"), "PersistentVolume")}
    assert set(volumes) == set(claims)
    for name, claim in claims.items():
        assert claim["storageClassName"] == volumes[name]["storageClassName"] == ""
        assert claim["accessModes"] == volumes[name]["accessModes"]
        assert claim["resources"]["requests"]["storage"] == volumes[name]["capacity"]["storage"]
        assert volumes[name]["claimRef"]["namespace"] == RELEASE


def test_the_local_namespace_takes_restricted_pods_only() -> None:
    (namespace,) = of_kind(built("local"), "Namespace")
    assert namespace["metadata"]["name"] == RELEASE
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@cache
def _with_keda() -> list[Manifest]:
    text = rendered(profile("standard"), apis=["keda.sh/v1alpha1"])["scaledobjects.yaml"]
    return list(documents(text))


def _rights(user: str) -> dict[tuple[str, str], set[str]]:
    """(kind of resource, operation) → names, of a KafkaUser; a kind matched by prefix says so."""
    (found,) = [item for item in of_kind(built("kafka"), "KafkaUser") if item["metadata"]["name"] == user]
    rights: dict[tuple[str, str], set[str]] = {}
    for acl in found["spec"]["authorization"]["acls"]:
        resource = acl["resource"]
        kind = resource["type"] + (" prefix" if resource["patternType"] == "prefix" else "")
        for operation in acl["operations"]:
            rights.setdefault((kind, operation), set()).add(resource["name"])
    return rights


def _name(item: Mapping[str, Any]) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _values_of(node: Any, key: str) -> list[str]:
    """Every text under `key`, however deep."""
    if isinstance(node, Mapping):
        own = [node[key]] if isinstance(node.get(key), str) else []
        return own + [found for item in node.values() for found in _values_of(item, key)]
    return [found for item in node for found in _values_of(item, key)] if isinstance(node, list | tuple) else []
