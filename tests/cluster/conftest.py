"""The cluster that tools/cluster/test.sh chose, what most tests look at there, and what one process makes of a site."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.house import Bed, app_version, install, models, namespace, small, variable
from cluster.kubectl import Cluster
from cluster.main_job import Outcome, Site, embedded, site

INSTALL_S_MAX = 240
"""Beyond the bar, so that a slow machine's figure is seen instead of a time-out."""


@dataclass(frozen=True)
class House:
    """The small profile at work."""

    bed: Bed
    inside: Cluster
    ready_s: float
    """Seconds from `helm install` until every pod was ready, with the images there before."""


@pytest.fixture(scope="session")
def bed() -> Bed:
    """The cluster, reached and asked for its version."""
    kubeconfig = os.environ.get("KUBECONFIG", "")
    assert kubeconfig, "KUBECONFIG names no cluster: make test-cluster starts one, or takes yours"
    cluster = Cluster(Path(kubeconfig), os.environ["PATH"])
    cluster.kubectl("version")
    volumes = variable("CLUSTER_VOLUMES", "")
    return Bed(
        cluster, variable("IMAGE_REGISTRY", "localhost"), variable("IMAGE_TAG", app_version()),
        variable("STORAGE_CLASS", "-" if volumes else ""), Path(volumes) if volumes else None,
    )


@pytest.fixture(scope="module")
def house(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The small profile beside a server of models, every pod ready.

    A module's, not the session's: a node of two processors has no room for it beside a release of another test.
    """
    with namespace(bed) as inside:
        inside.apply(*models(bed))
        begin = time.monotonic()
        install(inside, small(bed), tmp_path_factory.mktemp("values"), "--wait", "--timeout", f"{INSTALL_S_MAX}s")
        yield House(bed, inside, time.monotonic() - begin)


@dataclass(frozen=True)
class Reference:
    """The site, and what one process makes of it."""

    site: Site
    outcome: Outcome


@pytest.fixture(scope="session")
def reference(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """One process in a pod, before anything is installed."""
    folder = tmp_path_factory.mktemp("reference")
    with site(bed, folder) as found:
        outcome = embedded(found, folder)
        print(f"one process published {len(outcome.rows)} rows")
        assert len(outcome.rows) >= 60
        yield Reference(found, outcome)
