"""NetworkPolicies, as a network plugin that enforces them reads them: whether one end may open a connection to another.

As the API's documentation says: a pod is open in a direction until a policy of that direction selects it, and then
reaches, or is reached by, what any of these allows; traffic to itself and from its node is always allowed. Not covered:
endPort and protocols beside UDP and TCP, which no policy here has; service meshes; order of address translation: the
ports and labels of pods count, not those of Services.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """A pod, by its namespace and labels, or, without a namespace, an address outside of the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def refusals(
    policies: Iterable[Policy], caller: End, called: End, port: int, protocol: str = "TCP"
) -> list[str]:
    """Why `caller` cannot open a connection to the port of `called`: [] where it can."""
    if caller == called:
        return []
    found = list(policies)
    sides = (("Egress", "egress", "to", caller, called), ("Ingress", "ingress", "from", called, caller))
    return [
        f"{kind} of {own.name}: {caller.name} -> {called.name}:{port}/{protocol}"
        for kind, rules, peers, own, other in sides
        if not _open(found, kind, rules, peers, own, other, port, protocol)
    ]


def _open(
    policies: list[Policy], kind: str, rules: str, peers: str, own: End, other: End, port: int, protocol: str
) -> bool:
    binding = [policy for policy in policies if own.namespace and kind in _kinds(policy) and _binds(policy, own)]
    return not binding or any(
        _has_port(rule.get("ports"), port, protocol) and _has_peer(rule.get(peers), other, policy)
        for policy in binding for rule in policy["spec"].get(rules) or ()
    )


def _kinds(policy: Policy) -> list[str]:
    spec = policy["spec"]
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])


def _binds(policy: Policy, pod: End) -> bool:
    return policy["metadata"]["namespace"] == pod.namespace and selects(policy["spec"]["podSelector"], pod.labels)


def _has_port(ports: list[Mapping[str, Any]] | None, port: int, protocol: str) -> bool:
    return not ports or any(
        item.get("protocol", "TCP") == protocol and item.get("port", port) == port for item in ports
    )


def _has_peer(peers: list[Mapping[str, Any]] | None, other: End, policy: Policy) -> bool:
    return not peers or any(_is_peer(peer, other, policy["metadata"]["namespace"]) for peer in peers)


def _is_peer(peer: Mapping[str, Any], other: End, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        return bool(other.address) and _within(peer["ipBlock"], other.address)
    if not other.namespace:
        return False
    here = other.namespace == own_namespace
    spaces = {"kubernetes.io/metadata.name": other.namespace}
    namespace = selects(peer["namespaceSelector"], spaces) if "namespaceSelector" in peer else here
    return namespace and selects(peer.get("podSelector", {}), other.labels)


def _within(block: Mapping[str, Any], address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found in ipaddress.ip_network(block["cidr"]) and not any(
        found in ipaddress.ip_network(hole) for hole in block.get("except", ())
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches the labels; an empty one matches all."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _holds(item, labels) for item in selector.get("matchExpressions", ())
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values", ())
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
