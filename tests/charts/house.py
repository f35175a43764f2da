"""Both charts in one namespace, as docs/deploy.md installs them, and who answers at the addresses that they name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import yaml

from architecture.source import ROOT
from charts.network import End
from charts.rendering import (
    INFERENCE,
    OPTIONAL_APIS,
    XINSTRUCT,
    Manifest,
    OurChart,
    Values,
    changed,
    documents,
    of_kind,
    pods,
    profile,
    rendered,
)

HERE = "xinstruct"
"""Release and namespace, as docs/deploy.md has them."""
KAFKA = End("Strimzi's broker", "kafka", {"strimzi.io/cluster": "kafka", "strimzi.io/kind": "Kafka"})
DATABASE = End("CloudNativePG's pod", HERE, {"cnpg.io/cluster": "xinstruct-database", "cnpg.io/podRole": "instance"})
WEB = End("the web", address="93.184.215.14")
OUTSIDE: Mapping[str, End] = {
    "kafka-kafka-bootstrap.kafka.svc": KAFKA, "xinstruct-database-rw": DATABASE, "s3": WEB,
    "private": End("a private host", address="10.1.2.3"),
}
"""Host in a configuration → who answers there, where neither chart makes it."""
CASES = {"small": "small", "standard": "gpu", "gpu": "gpu"}
"""Profile of the services → that of the models."""


@dataclass(frozen=True, eq=False)
class House:
    """Both charts in one namespace."""

    items: Sequence[Manifest]

    @cached_property
    def policies(self) -> list[Manifest]:
        """Those of both charts, and Strimzi's own."""
        return [*of_kind(self.items, "NetworkPolicy"), strimzis()]

    @cached_property
    def ends(self) -> dict[str, End]:
        """Owner → its pods."""
        return {owner: End(owner, HERE, pod["metadata"]["labels"]) for owner, pod in pods(self.items)}

    def config(self, name: str) -> dict[str, Any]:
        """The configuration in the ConfigMap of that name."""
        (found,) = [item for item in of_kind(self.items, "ConfigMap") if item["metadata"]["name"] == name]
        return dict(yaml.load(found["data"]["config.yaml"], Loader=yaml.CSafeLoader))

    def answering(self, host: str, port: int) -> tuple[End, int]:
        """Who answers at an address, and the port of the pod, which is another than the Service's."""
        if host in OUTSIDE:
            return OUTSIDE[host], port
        (service,) = [s for s in of_kind(self.items, "Service") if s["metadata"]["name"] in host.split(".")[:2]]
        (offered,) = [item for item in service["spec"]["ports"] if item["port"] == port or (
            item["targetPort"] == port and service["spec"].get("clusterIP") != "None")]
        wanted = service["spec"]["selector"].items()
        (owner,) = [name for name, end in self.ends.items() if wanted <= end.labels.items()]
        pod = next(template for name, template in pods(self.items) if name == owner)
        named = {item["name"]: item["containerPort"] for item in _ports(pod)}
        return self.ends[owner], named.get(offered["targetPort"], offered["targetPort"])


def installed(services: Values, models: Values, kserve: str = "always") -> House:
    """What both charts make of the values where every operator is there."""
    found: list[Manifest] = []
    both: tuple[tuple[OurChart, str, Values], ...] = (
        (XINSTRUCT, HERE, services), (INFERENCE, "xinstruct-models", changed(models, "kserve.enabled", kserve)))
    for of, release, values in both:
        found += _made(of, release, json.dumps(values))
    return House(found)


@cache  # most tests change one chart's values
def _made(of: OurChart, release: str, values: str) -> list[Manifest]:
    files = rendered(json.loads(values), apis=OPTIONAL_APIS, of=of, release=release, namespace=HERE)
    return [item for name, text in files.items() if name.endswith(".yaml") for item in documents(text)]


@cache
def house(name: str, kserve: str = "always") -> House:
    """A profile; that of one node with the site of `helm test`."""
    values = profile(name)
    if name == "small":
        values = changed(values, "tests.mainJob.enabled", True)
    return installed(values, profile(CASES[name], INFERENCE), kserve)


def strimzis() -> Manifest:
    """The policy that Strimzi makes of the listener in k8s/kafka."""
    kafka = yaml.load((ROOT / "k8s/kafka/kafka.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
    (listener,) = kafka["spec"]["kafka"]["listeners"]
    rule = {"from": listener["networkPolicyPeers"], "ports": [{"port": listener["port"], "protocol": "TCP"}]}
    labels = {"strimzi.io/cluster": kafka["metadata"]["name"], "strimzi.io/kind": "Kafka"}
    spec = {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": [rule]}
    return {"metadata": {"name": "strimzi", "namespace": "kafka"}, "spec": spec}


def _ports(pod: Manifest) -> list[dict[str, Any]]:
    containers = [*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())]
    return [port for container in containers for port in container.get("ports", ())]
