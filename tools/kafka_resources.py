"""Writes k8s/kafka/topics.yaml and users.yaml: a KafkaTopic for each row of spine/topics.py, a KafkaUser a service.

A user has the rights that its service's calls need, and no other: nobody may create, alter or delete a topic. Run by
tools/gen.sh with the folder to write under. For a cluster that several systems share, where the configuration has the
same log.prefix and log.sasl_username:

    python tools/kafka_resources.py OUT --prefix house. --user house
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from xinstruct.spine.log.kafka_clients import topic_configs
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAGE_FETCHED, PAIR_DRAFTED, TOPICS, Topic

FOLDER = Path("k8s/kafka")
CLUSTER, API = "kafka", "kafka.strimzi.io/v1"
USER = "xinstruct"
"""What users' names begin with: config.log.sasl_username in the chart's profiles/standard.yaml."""
REPLICAS = 3
"""Copies of each partition: one broker may be lost, and another be restarted meanwhile."""

STAGES_OF: Mapping[str, tuple[str, ...]] = {
    "crawler": ("crawler", "fetch", "admit"),
    "backgen": ("backgen",),
    "scoring-a": ("scoring-a",),
    "scoring-b": ("scoring-b",),
    "training": ("training",),
    "curation": ("curation",),
}
"""Service of the chart → what spine/topics.py calls it when it writes and reads."""
GROUPS: Mapping[str, Topic] = {
    "admit": PAGE_FETCHED, "backgen": DOCUMENT_ADMITTED, "scoring-a": PAIR_DRAFTED, "scoring-b": PAIR_DRAFTED,
}
"""Stage that reads in a consumer group and commits in transactions → its source. The others read without a group."""
LOOKS_AT: Mapping[str, tuple[str, ...]] = {
    # Whether a new evaluator has caught up: before a promotion, and in ListSlots.
    "training": ("scoring-a", "scoring-b"), "scoring-a": ("scoring-b",), "scoring-b": ("scoring-a",),
}
"""Service → stages of others whose positions it reads."""
WRITES_ALL = "curation"
"""Tombstones on what a takedown erases, and dead letters put back on the topic that they came from."""


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help=f"folder; the files go to its {FOLDER}")
    parser.add_argument("--prefix", default="", help="what log.prefix is: before topics, groups and transactional ids")
    parser.add_argument("--user", default=USER, help="what log.sasl_username is: before a hyphen and the service")
    options = parser.parse_args()
    folder = options.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "topics.yaml", [kafka_topic(topic, options.prefix) for topic in TOPICS.values()])
    users = {service: rights(service, options.prefix) for service in STAGES_OF}
    users["keda"] = lag_readers_rights(options.prefix)
    _write(folder / "users.yaml", [kafka_user(f"{options.user}-{name}", acls) for name, acls in users.items()])


def kafka_topic(topic: Topic, prefix: str) -> dict[str, Any]:
    """The KafkaTopic of a row."""
    name = prefix + topic.name
    spec: dict[str, Any] = {"partitions": topic.partitions, "replicas": REPLICAS, "config": topic_configs(topic)}
    if (object_name := _object_name(name)) != name:
        spec = {"topicName": name, **spec}
    return {"apiVersion": API, "kind": "KafkaTopic", "metadata": _metadata(object_name), "spec": spec}


def kafka_user(name: str, acls: list[dict[str, Any]]) -> dict[str, Any]:
    """A KafkaUser with these rights, whose password Strimzi makes."""
    spec = {"authentication": {"type": "scram-sha-512"}, "authorization": {"type": "simple", "acls": acls}}
    return {"apiVersion": API, "kind": "KafkaUser", "metadata": _metadata(name), "spec": spec}


def rights(service: str, prefix: str) -> list[dict[str, Any]]:
    """The ACLs of a service's user. Describe follows from Read and Write."""
    stages = set(STAGES_OF[service])
    operations = {
        topic.name: [
            *(["Read"] if stages & set(topic.consumers) else []),
            *(["Write"] if stages & set(topic.producers) or service == WRITES_ALL else []),
        ]
        for topic in TOPICS.values()
    }
    acls = [_acl("topic", prefix + name, allowed) for name, allowed in operations.items() if allowed]
    for stage in STAGES_OF[service]:
        if stage in GROUPS:
            group = _group(stage, prefix)
            # A transactional id is the group's name and the pod's: crawler-0, crawler-1 …
            acls += [_acl("group", group, ["Read"]), _acl("transactionalId", f"{group}.", ["Write"], pattern="prefix")]
    return [*acls, *(_acl("group", _group(stage, prefix), ["Describe"]) for stage in LOOKS_AT.get(service, ()))]


def lag_readers_rights(prefix: str) -> list[dict[str, Any]]:
    """The ACLs of who only asks for lags: KEDA."""
    topics = sorted({topic.name for topic in GROUPS.values()})
    return [
        *(_acl("topic", prefix + name, ["Describe"]) for name in topics),
        *(_acl("group", _group(stage, prefix), ["Describe"]) for stage in GROUPS),
    ]


def _acl(kind: str, name: str, operations: list[str], *, pattern: str = "literal") -> dict[str, Any]:
    resource, allowed = CommentedMap(type=kind, name=name, patternType=pattern), CommentedSeq(operations)
    for short in (resource, allowed):
        short.fa.set_flow_style()  # one line each: people compare them
    return {"resource": resource, "operations": allowed}


def _group(stage: str, prefix: str) -> str:
    return f"{prefix}{stage}.{GROUPS[stage].name}"


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}}


def _object_name(name: str) -> str:
    """A topic's name as Kubernetes allows it for an object."""
    return re.sub(r"[^a-z0-9.-]", "-", name.lower()).strip(".-")


def _write(path: Path, items: Iterable[dict[str, Any]]) -> None:
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.explicit_start = True
    yaml.representer.ignore_aliases = lambda _: True
    with path.open("w", encoding="utf-8") as file:
        file.write("# Generated by tools/kafka_resources.py from spine/topics.py: make gen.\n")
        yaml.dump_all(list(items), file)


if __name__ == "__main__":
    main()
