"""Scenario 7: what is left when the release is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.house import CLAIMS, FULL_NAME, RELEASE, Bed, install, namespace, small
from cluster.kubectl import Cluster, until

MADE_BY_KUBERNETES = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
MADE_BEFORE = {"Secret/xinstruct-token", "Secret/xinstruct-database"}

pytestmark = pytest.mark.timeout(600)


def test_an_uninstalled_release_leaves_the_volumes_that_it_names_and_nothing_else(bed: Bed, tmp_path: Path) -> None:
    with namespace(bed) as inside:
        install(inside, small(bed), tmp_path)
        until(lambda: inside.pod_ready(f"{FULL_NAME}-postgres-0"), "the database works on its volume", within_s=120)
        said = inside.helm("uninstall", RELEASE, "--wait")
        until(lambda: not inside.all("pod"), "every pod is gone", within_s=90)
        left = {f"{kind}/{name}" for kind, name in objects(inside)} - MADE_BY_KUBERNETES - MADE_BEFORE
        assert left == {f"PersistentVolumeClaim/{name}" for name in CLAIMS}
        assert f"{FULL_NAME}-data" in said
        assert not of_no_namespace(inside)


def objects(inside: Cluster) -> list[tuple[str, str]]:
    """(kind, name) of everything in the namespace but what ends by itself."""
    kinds = inside.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kept = [kind for kind in kinds if not kind.startswith(("events", "leases.", "pods.metrics", "podmetrics"))]
    listed = inside.kubectl("get", ",".join(kept), "-o", "name", "--ignore-not-found")
    return [_named(inside, line) for line in listed.split()]


def of_no_namespace(inside: Cluster) -> list[str]:
    """What the release could have made outside its namespace."""
    kinds = inside.kubectl("api-resources", "--namespaced=false", "--verbs=list", "-o", "name").split()
    kept = ",".join(kind for kind in kinds if not kind.startswith(("componentstatuses", "nodes.metrics")))
    return inside.kubectl("get", kept, "-o", "name", "-l", f"app.kubernetes.io/instance={RELEASE}").split()


def _named(inside: Cluster, line: str) -> tuple[str, str]:
    """(kind, name) of "persistentvolumeclaim/data"."""
    resource, _, name = line.partition("/")
    return inside.get(resource, name)["kind"], name
