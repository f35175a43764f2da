"""The chart speaks of the code: gRPC services, consumer groups, metrics, tasks, roles. All of them are there."""

from __future__ import annotations

import re

import pytest
from prometheus_client import REGISTRY

from architecture.source import ROOT
from charts.rendering import (
    CHART,
    OPTIONAL_APIS,
    SERVICES,
    before_the_release,
    changed,
    manifests,
    named,
    of_kind,
    profile,
    rendered,
)
from xinstruct.__main__ import INSTANCE
from xinstruct.settings import XinstructSettings
from xinstruct.settings import named as with_name
from xinstruct.spine import telemetry
from xinstruct.spine.log.kafka_clients import KafkaClients, KafkaSettings
from xinstruct.spine.topics import TOPICS
from xinstruct.targets import TARGETS, TASKS

SMALL = manifests(profile("small"), apis=OPTIONAL_APIS)
SERVERS = ["data-try-xinstruct-kafka-0", "data-try-xinstruct-postgres-0"]
"""Claims of the small profile's broker and database."""


@pytest.mark.parametrize("service", SERVICES)
def test_readiness_asks_for_the_grpc_service_that_the_target_serves_and_life_for_its_status(service: str) -> None:
    (container,) = named(SMALL, "StatefulSet", service)["spec"]["template"]["spec"]["containers"]
    files = {"readinessProbe": service.split("-")[0], "livenessProbe": "status", "startupProbe": "status"}
    for probe, file in files.items():
        asked = container[probe]["grpc"]
        package, _, name = asked["service"].rpartition(".")
        assert (package, asked["port"]) == ("xinstruct.v1", container["ports"][0]["containerPort"])
        assert f"service {name} {{" in (ROOT / f"protos/xinstruct/v1/{file}_service.proto").read_text("utf-8")


@pytest.mark.parametrize("service", SERVICES)
def test_pods_run_a_target_and_jobs_a_task_of_the_code(service: str) -> None:
    (container,) = named(SMALL, "StatefulSet", service)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "xinstruct"]
    assert container["args"][0] == service and service in TARGETS
    jobs = before_the_release(SMALL)
    assert {job["spec"]["template"]["spec"]["containers"][0]["args"][0] for job in jobs} == set(TASKS)


@pytest.mark.parametrize("service", SERVICES)
def test_a_pods_name_among_replicas_is_one_that_the_code_takes(service: str) -> None:
    (container,) = named(SMALL, "StatefulSet", service)["spec"]["template"]["spec"]["containers"]
    (name,) = [entry["value"] for entry in container["env"] if entry["name"] == INSTANCE]
    made = name.replace("$(POD_INDEX)", "11")
    assert with_name(XinstructSettings(), made).instance == made


@pytest.mark.parametrize("prefix", ["", "house."])
def test_lag_is_read_of_groups_and_topics_that_the_stages_use(prefix: str) -> None:
    values = changed(profile("standard"), "config.log.prefix", prefix)
    values = changed(values, "services.crawler.scaling", {"kind": "keda", "replicasMin": 1})
    clients = KafkaClients(KafkaSettings(bootstrap_servers="none:1", prefix=prefix), instance="0")
    found = {
        (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"])
        for item in of_kind(manifests(values, apis=OPTIONAL_APIS), "ScaledObject")
        for trigger in item["spec"]["triggers"]
    }
    wanted = {("admit", "page-fetched-v1"), ("backgen", "document-admitted-v1"), *(
        (slot, "pair-drafted-v1") for slot in ("scoring-a", "scoring-b"))}
    assert all(stage in TOPICS[topic].consumers for stage, topic in wanted)
    assert found == {(clients.group_id(s, TOPICS[t]), clients.topic_name(TOPICS[t])) for s, t in wanted}


def test_no_more_pods_can_be_asked_for_than_a_topic_has_partitions() -> None:
    schema = (CHART / "values.schema.json").read_text("utf-8")
    scaled = ("page-fetched-v1", "document-admitted-v1", "pair-drafted-v1")
    assert {TOPICS[name].partitions for name in scaled} == {12}
    assert re.search(r'"pods": \{\s*"type": "integer",\s*"minimum": 0,\s*"maximum": 12\s*\}', schema)


def test_alerts_ask_for_metrics_and_labels_that_exist() -> None:
    (rules,) = of_kind(SMALL, "PrometheusRule")
    known = {name for metric in REGISTRY.collect() for name in (metric.name, f"{metric.name}_total")}
    for rule in rules["spec"]["groups"][0]["rules"]:
        names = set(re.findall(r"xinstruct_\w+", rule["expr"]))
        assert names and names <= known, rule["alert"]
        assert set(re.findall(r"by \((\w+)\)|on \((\w+)\)", rule["expr"])) <= {("stage", ""), ("", "stage")}
    assert telemetry.OUTCOMES._labelnames == ("stage", "outcome", "reason")


def test_commands_that_alerts_and_notes_name_exist() -> None:
    (rules,) = of_kind(SMALL, "PrometheusRule")
    text = f"{rules} {rendered(profile('small'))['NOTES.txt']}"
    commands = set(re.findall(r"xinstruct (status|dlq \w+)", text))
    assert commands == {"status", "dlq list", "dlq replay"}
    known = (ROOT / "docs/commands.md").read_text("utf-8")
    assert [command for command in commands if f"## xinstruct {command}" not in known] == []


@pytest.mark.parametrize(("name", "path", "value", "left"), [
    ("small", "storage.keep", True, ["try-xinstruct-data", *SERVERS]),
    ("small", "storage.keep", False, SERVERS),
    ("standard", "storage.keep", True, ["try-xinstruct-data"]),
    ("standard", "storage.keep", False, []),
])
def test_notes_name_every_claim_that_an_uninstallation_leaves(
    name: str, path: str, value: bool, left: list[str]
) -> None:
    notes = rendered(changed(profile(name), path, value))["NOTES.txt"]
    assert re.findall(r"delete pvc (.*)", notes) == ([" ".join(left)] if left else [])


def test_metrics_are_scraped_where_services_offer_them() -> None:
    (monitor,) = of_kind(SMALL, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    offering = {
        item["metadata"]["name"].removeprefix("try-xinstruct-")
        for item in of_kind(SMALL, "Service")
        if wanted.items() <= item["metadata"]["labels"].items()
        and monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in item["spec"]["ports"]}
    }
    assert offering == set(SERVICES)
    for service in SERVICES:
        assert "metrics_port: 9464" in named(SMALL, "ConfigMap", service)["data"]["config.yaml"]


def test_the_own_broker_is_set_up_like_that_of_the_tests() -> None:
    ours = _properties(named(SMALL, "ConfigMap", "kafka")["data"]["server.properties"])
    script = (ROOT / "tools/kafka/up.sh").read_text("utf-8")
    tested = _properties(script.partition("<<PROPERTIES\n")[2].partition("\nPROPERTIES\n")[0])
    # What differs is addresses, folders and sizes; members that die sooner are the tests' own wish.
    differing = {key for key in ours.keys() | tested.keys() if ours.get(key) != tested.get(key)}
    assert differing == {
        "listeners", "advertised.listeners", "controller.quorum.bootstrap.servers", "log.dirs",
        "offsets.topic.num.partitions", "transaction.state.log.num.partitions", "default.replication.factor",
        "group.min.session.timeout.ms",
    }


def _properties(text: str) -> dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value for key, _, value in lines}
