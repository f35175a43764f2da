"""How the makers' manifests of add-ons are changed for the cluster of one busy node."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from unit.tools.loading import loaded

Manifest = dict[str, Any]

addons = loaded("addons")


def deployment(name: str, **container: Any) -> Manifest:
    """A controller as its makers install it."""
    pod = {"containers": [{"name": "manager", "image": "registry.example/manager:v1", **container}]}
    metadata = {"name": name, "namespace": "system"}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 3, "template": {"spec": pod}}}


def container_of(item: Manifest) -> Manifest:
    """Its one container."""
    (found,) = item["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_a_controller_runs_once_from_the_image_that_was_built_here() -> None:
    made = addons.with_our_image(deployment("keda-operator", resources={"limits": {"cpu": "1"}}), "2.21.0")
    found = container_of(made)
    assert (made["spec"]["replicas"], found["image"]) == (1, "localhost/keda-operator:2.21.0")
    assert (found["imagePullPolicy"], found["resources"]) == ("IfNotPresent", {"requests": {"cpu": "20m"}})


def test_a_controller_that_is_alone_holds_no_lease_that_it_could_lose_on_a_busy_machine() -> None:
    made = addons.with_our_image(deployment("keda-operator", args=["--leader-elect", "--zap-log-level=info"]), "1")
    assert container_of(made)["args"] == ["--zap-log-level=info"]


def test_jobset_whose_settings_are_a_file_chooses_no_leader_either(tmp_path: Path) -> None:
    settings = {"kind": "ConfigMap", "metadata": {"name": "jobset-manager-config"},
                "data": {"controller_manager_config.yaml": "leaderElection:\n  leaderElect: true\n"}}
    (made,) = addons.ADDONS["jobset"]([settings], argparse.Namespace(version="1", authority=tmp_path))
    assert made["data"]["controller_manager_config.yaml"] == "leaderElection:\n  leaderElect: false\n"


def test_a_slow_answer_of_a_busy_machine_does_not_kill_a_controller() -> None:
    probe = {"httpGet": {"path": "/healthz", "port": 8081}, "periodSeconds": 10}
    found = container_of(addons.with_our_image(deployment("keda-operator", livenessProbe=dict(probe)), "1"))
    assert found["livenessProbe"] == probe | {"timeoutSeconds": 10, "failureThreshold": 12}
