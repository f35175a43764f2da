"""What the most pods that profiles allow ask for, and what KEDA counts as a reason for one more."""

from __future__ import annotations

from typing import Any

import pytest

from charts.rendering import (
    OPTIONAL_APIS,
    PROFILES,
    Manifest,
    manifests,
    named,
    of_kind,
    profile,
)
from charts.test_k8s import built
from xinstruct.spine.sql import open_engine

SUPERUSER_RESERVED = 3
"""PostgreSQL keeps so many of max_connections to itself."""
SLOTS = ("scoring-a", "scoring-b")


def pods_max(items: list[Manifest], service: Manifest) -> int:
    """Pods of a StatefulSet when all of its scaling is used."""
    name = service["metadata"]["name"]
    limits = [item["spec"].get("maxReplicas", item["spec"].get("maxReplicaCount"))
              for item in of_kind(items, "HorizontalPodAutoscaler", "ScaledObject")
              if item["spec"]["scaleTargetRef"]["name"] == name]
    return int(limits[0] if limits else service["spec"]["replicas"])


def connections_max(name: str) -> int:
    """Connections that a profile's pods open at most, an upgrade's migration beside them."""
    items = manifests(profile(name), apis=OPTIONAL_APIS)
    asking = [item for item in of_kind(items, "StatefulSet") if _asks_the_database(item)]
    pool: Any = open_engine("postgresql+psycopg://nobody@nowhere/nothing").pool
    pods = sum(pods_max(items, item) for item in asking) + 1
    return pods * int(pool.size() + pool._max_overflow)


@pytest.mark.parametrize("name", PROFILES)
def test_the_database_takes_the_connections_of_every_pod_that_a_profile_may_scale_to(name: str) -> None:
    if name == "small":
        own = named(manifests(profile(name)), "StatefulSet", "postgres")
        (container,) = own["spec"]["template"]["spec"]["containers"]
        taken = int("".join([*container.get("command", ()), *container.get("args", ())]).partition(
            "max_connections=")[2].split()[0])
    else:
        (cluster,) = of_kind(built("postgres"), "Cluster")
        taken = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    assert connections_max(name) <= taken - SUPERUSER_RESERVED


@pytest.mark.parametrize("slot", SLOTS)
def test_lag_of_a_slot_that_does_not_move_is_no_reason_for_a_pod(slot: str) -> None:
    scaled = named(manifests(profile("standard"), apis=OPTIONAL_APIS), "ScaledObject", slot)["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["offsetResetPolicy"] == "latest", "a group that never committed: the whole topic"
    assert trigger["metadata"]["excludePersistentLag"] == "true"
    # One look of a KEDA that has seen nothing before counts it all: HPA asks every 15 s.
    up = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"]
    assert up["stabilizationWindowSeconds"] > 2 * 15
    # A slot of which nothing counts keeps the pod that sees its next evaluator.
    assert scaled["minReplicaCount"] >= 1


def test_documents_that_nobody_read_yet_wake_backgen() -> None:
    scaled = named(manifests(profile("standard"), apis=OPTIONAL_APIS), "ScaledObject", "backgen")["spec"]
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["offsetResetPolicy"] == "earliest"
    assert "excludePersistentLag" not in trigger["metadata"]
    assert "scaleUp" not in scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]


def _asks_the_database(item: Manifest) -> bool:
    return item["metadata"]["labels"]["app.kubernetes.io/component"] not in ("kafka", "postgres")
