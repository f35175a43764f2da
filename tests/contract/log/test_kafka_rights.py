"""The users of k8s/kafka on a real broker that enforces their rights: each service can work, and no more than that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import servers
from architecture.source import ROOT
from contract.log.backends import eventually, poll_all
from xinstruct.spine.errors import NotFound, Unavailable
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
from xinstruct.spine.record import Record
from xinstruct.spine.topics import TOPICS, Topic

pytestmark = pytest.mark.kafka

SERVICES = ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation")
STAGES = {
    # Service → its stage that reads in a group, and the stage's source.
    "crawler": ("admit", "page-fetched-v1"), "backgen": ("backgen", "document-admitted-v1"),
    "scoring-a": ("scoring-a", "pair-drafted-v1"), "scoring-b": ("scoring-b", "pair-drafted-v1"),
}
REFUSED = (
    # What access that was never granted looks like, by the road that a call takes.
    NotFound, Unavailable, kafka_errors.TopicAuthorizationFailedError, kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailedError, kafka_errors.ClusterAuthorizationFailedError,
)

PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},USERS://127.0.0.1:{users}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},USERS://127.0.0.1:{users}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,USERS:SASL_PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.users.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


@dataclass(frozen=True)
class Cluster:
    """A broker with the topics of the table, and the users and rights of k8s/kafka/users.yaml."""

    unguarded: str
    guarded: str
    passwords: Path

    def log(self, service: str, *, topics: Mapping[str, Topic] = TOPICS) -> KafkaLog:
        """The log as the service's pod opens it."""
        settings = KafkaSettings(
            bootstrap_servers=self.guarded, topics="expect", security_protocol="SASL_PLAINTEXT",
            sasl_username=f"xinstruct-{service}", sasl_password_file=str(self.passwords / f"xinstruct-{service}"),
        )
        return KafkaLog(settings, instance=f"{service}-0", topics=topics)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests of this file."""
    folder = tmp_path_factory.mktemp("guarded")
    port, users = servers.free_port(), servers.free_port()
    properties = PROPERTIES.format(port=port, controller=port + 1, users=users)
    with servers.own_kafka(folder / "kafka", port, properties) as bootstrap:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        for name, acls in users_of_k8s().items():
            (folder / name).write_text(f"password of {name}", "utf-8")
            mechanism, password = ScramMechanism.SCRAM_SHA_512, f"password of {name}"
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion(name, mechanism, password)])
            admin.create_acls([acl for item in acls for acl in _acls(name, item)])
        admin.close()
        KafkaLog(KafkaSettings(bootstrap_servers=bootstrap, replication_factor=1), instance="operator").close()
        yield Cluster(bootstrap, f"127.0.0.1:{users}", folder)


@cache
def users_of_k8s() -> dict[str, list[dict[str, Any]]]:
    """User → ACLs as Strimzi's user operator reads them."""
    items = yaml.safe_load_all((ROOT / "k8s/kafka/users.yaml").read_text("utf-8"))
    return {item["metadata"]["name"]: item["spec"]["authorization"]["acls"] for item in items}


def _acls(user: str, item: dict[str, Any]) -> Iterator[ACL]:
    resource = item["resource"]
    kind = ResourceType[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", resource["type"]).upper()]
    pattern = {"literal": ACLResourcePatternType.LITERAL, "prefix": ACLResourcePatternType.PREFIXED}
    place = ResourcePattern(kind, resource["name"], pattern[resource["patternType"]])
    for operation in item["operations"]:
        yield ACL(f"User:{user}", "*", ACLOperation[operation.upper()], ACLPermissionType.ALLOW, place)


def record(topic: str, name: str = "one") -> Record:
    """Any record: brokers do not look into it."""
    return Record(topic, f"key-{name}", f"id-{name}", b"value")


def allowed(service: str, operation: str) -> set[str]:
    """Topics that the service may read or write, by its manifest."""
    return {
        acl["resource"]["name"] for acl in users_of_k8s()[f"xinstruct-{service}"]
        if acl["resource"]["type"] == "topic" and operation in acl["operations"]
    }


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_may_write_and_read_all_that_its_manifest_says(cluster: Cluster, service: str) -> None:
    log = cluster.log(service)
    log.append([record(name) for name in sorted(allowed(service, "Write"))])
    for name in allowed(service, "Read"):
        assert len(log.end_offsets(TOPICS[name])) == TOPICS[name].partitions
        assert isinstance(list(log.read(TOPICS[name], {})), list)
    log.close()


@pytest.mark.parametrize(("service", "name"), [("backgen", "pair-scored-v1"), ("scoring-a", "scoring-b-dlq-v1")])
def test_what_a_manifest_does_not_say_the_broker_refuses(cluster: Cluster, service: str, name: str) -> None:
    assert name not in allowed(service, "Write") | allowed(service, "Read")
    log = cluster.log(service)
    with pytest.raises(REFUSED):
        log.append([record(name)])
    with pytest.raises(REFUSED):
        list(log.read(TOPICS[name], {}))
    log.close()


def test_a_reader_of_a_topic_may_not_write_it(cluster: Cluster) -> None:
    assert "document-admitted-v1" in allowed("backgen", "Read")
    log = cluster.log("backgen")
    with pytest.raises(REFUSED):
        log.append([record("document-admitted-v1")])
    log.close()


@pytest.mark.parametrize("service", STAGES)
def test_a_stage_commits_its_position_and_all_its_outputs_in_one_transaction(cluster: Cluster, service: str) -> None:
    stage, source = STAGES[service]
    outside = KafkaLog(KafkaSettings(bootstrap_servers=cluster.unguarded), instance=f"outside-{service}")
    outside.append([record(source, service)])
    log = cluster.log(service)
    subscription = log.subscribe(stage, TOPICS[source], "1")
    try:
        assert poll_all(subscription, log, TOPICS[source])
        outputs = [record(name, service) for name, topic in TOPICS.items() if stage in topic.producers]
        subscription.commit(subscription.positions(), outputs)
        eventually(lambda: log.lag(stage, TOPICS[source], "1") == 0)
        for output in outputs:
            eventually(lambda one=output: one.id in {found.id for found in outside.read(TOPICS[one.topic], {})})
    finally:
        subscription.close()
        log.close()
        outside.close()


@pytest.mark.parametrize(("service", "stages"), [
    ("training", ("scoring-a", "scoring-b")), ("scoring-a", ("scoring-a", "scoring-b")),
    ("scoring-b", ("scoring-a", "scoring-b")),
])
def test_who_asks_whether_an_evaluator_has_caught_up_is_told(
    cluster: Cluster, service: str, stages: tuple[str, ...]
) -> None:
    log = cluster.log(service)
    for stage in stages:
        assert isinstance(log.committed(stage, TOPICS["pair-drafted-v1"], "1"), dict)
        assert log.lag(stage, TOPICS["pair-drafted-v1"], "1") >= 0
    log.close()


def test_nobody_reads_in_a_group_of_another_stage_or_commits_under_its_name(cluster: Cluster) -> None:
    log = cluster.log("training")  # may read the topic, and see the group's positions
    with pytest.raises(REFUSED):
        log.subscribe("scoring-a", TOPICS["pair-drafted-v1"], "1")
    log.close()


@pytest.mark.parametrize("service", ["curation", "crawler"])
def test_nobody_may_create_a_topic(cluster: Cluster, service: str) -> None:
    new = Topic("new-made-v1", "New", "new", (service,), (), 1, "delete", 1000, terminal=True)
    log = cluster.log(service, topics={new.name: new})
    with pytest.raises(REFUSED, match=r"(?i)authorization|not authorized"):
        log.ensure_topics()
    log.close()
    admin = KafkaAdminClient(bootstrap_servers=cluster.unguarded)
    assert new.name not in admin.list_topics()
    admin.close()


def test_who_reads_lags_for_keda_reads_no_record_and_writes_none(cluster: Cluster) -> None:
    outside = KafkaLog(KafkaSettings(bootstrap_servers=cluster.unguarded), instance="outside")
    outside.append([record("page-fetched-v1", "secret")])
    outside.close()
    log = cluster.log("keda")
    for stage, source in STAGES.values():
        assert log.lag(stage, TOPICS[source], "1") >= 0
    with pytest.raises(REFUSED):
        list(log.read(TOPICS["page-fetched-v1"], {}))
    with pytest.raises(kafka_errors.KafkaError, match="Authorization"):
        log.append([record("page-fetched-v1")])
    log.close()
