"""Scenario 7: what is left when the release is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.house import CLAIMS, FULL_NAME, RELEASE, Bed, install, namespace, small
from cluster.kubectl import Cluster, Refused, until

MADE_BY_KUBERNETES = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
MADE_BEFORE = {"Secret/xinstruct-token", "Secret/xinstruct-database", "Secret/another-password"}

pytestmark = pytest.mark.timeout(900)


def test_an_uninstalled_release_leaves_the_volumes_that_it_names_and_nothing_else_whatever_failed_before(
    bed: Bed, tmp_path: Path
) -> None:
    with namespace(bed) as inside:
        install(inside, small(bed), tmp_path)
        until(lambda: inside.pod_ready(f"{FULL_NAME}-postgres-0"), "the database works on its volume", within_s=120)
        until(lambda: inside.pod_ready(f"{FULL_NAME}-curation-0"), "curation answers", within_s=120)
        an_upgrade_is_refused_by_its_hook(inside, bed, tmp_path)
        a_test_fails(inside)
        notes = inside.helm("get", "notes", RELEASE)
        said = inside.helm("uninstall", RELEASE, "--wait")
        until(lambda: not inside.all("pod"), "every pod is gone", within_s=90)
        left = {f"{kind}/{name}" for kind, name in objects(inside)} - MADE_BY_KUBERNETES - MADE_BEFORE
        assert left == {f"PersistentVolumeClaim/{name}" for name in CLAIMS}
        # The others are their StatefulSets', of which Helm does not know.
        assert CLAIMS[0] in said
        assert notes.rpartition("delete pvc ")[2].split() == list(CLAIMS)
        assert not of_no_namespace(inside)


def an_upgrade_is_refused_by_its_hook(inside: Cluster, bed: Bed, folder: Path) -> None:
    """The migration cannot log in: Helm shows what it said."""
    inside.kubectl("create", "secret", "generic", "another-password", "--from-literal=password=another")
    wrong = {"database": {"passwordSecret": {"name": "another-password"}}}
    with pytest.raises(Refused, match="password authentication failed"):
        install(inside, small(bed, wrong), folder)
    assert hooks(inside) == []


def a_test_fails(inside: Cluster) -> None:
    """One service is away: Helm shows which one did not answer."""
    inside.kubectl("scale", "statefulset", f"{FULL_NAME}-backgen", "--replicas=0")
    until(lambda: not inside.all("pod", labels="app.kubernetes.io/component=backgen"), "backgen is away", within_s=60)
    with pytest.raises(Refused, match="backgen: "):
        inside.helm("test", RELEASE)
    assert hooks(inside) == []


def hooks(inside: Cluster) -> list[str]:
    """Names of Jobs, and of ConfigMaps that Jobs alone read."""
    names = [item["metadata"]["name"] for kind in ("job", "configmap") for item in inside.all(kind)]
    return [name for name in names if name.endswith(("-migrate", "-topics", "-jobs", "-test"))]


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
