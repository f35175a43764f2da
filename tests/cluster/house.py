"""A namespace to install the chart in, with what the small profile wants to find there: secrets and volumes."""

from __future__ import annotations

import base64
import io
import os
import re
import secrets
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cluster.kubectl import Cluster, Manifest, Refused, until

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "xinstruct"
MODELS_CHART = ROOT / "charts" / "inference"
RELEASE = "house"
FULL_NAME = f"{RELEASE}-xinstruct"
CLAIMS = (f"{FULL_NAME}-data", f"data-{FULL_NAME}-kafka-0", f"data-{FULL_NAME}-postgres-0")
"""What the small profile keeps when it is uninstalled."""
SERVICES = ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation")
CONFIG = "/etc/xinstruct/config/config.yaml"
HOME = "/var/lib/xinstruct"
"""Where a pod has its configuration, and the shared volume."""
RUNS_AS = 10001
MODELS_PORT = 8000
READY_S_MAX = 120.0
KSERVE, KEDA, TRAINER = "serving.kserve.io/v1beta1", "keda.sh/v1alpha1", "trainer.kubeflow.org/v1alpha1"
METRICS = "metrics.k8s.io/v1beta1"
"""APIs that add-ons bring."""
MODEL_POD: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "400Mi"}, "limits": {"memory": "2Gi"}}
"""Resources of a pod that serves models/tiny-base or a model as small."""
JOB_RESOURCES: Mapping[str, Any] = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "3Gi"}}
"""Of a job on a model of 70,000 parameters: torch takes nearly all of it."""
RESTRICTED: Mapping[str, Any] = {
    "runAsNonRoot": True, "runAsUser": RUNS_AS, "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}
"""Security contexts that the restricted standard asks for."""
UNPACKS = """
import base64, io, sys, tarfile
with tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.stdin.read()))) as archive:
    archive.extractall("{place}")
"""


@dataclass(frozen=True)
class Bed:
    """What the cluster offers: see docs/cluster.md for the variables."""

    cluster: Cluster
    registry: str
    tag: str
    storage_class: str
    """"" is the cluster's default; "-" stands for volumes by hand, in `volumes`."""
    volumes: Path | None
    """Folder of this machine, which is the node then."""

    def image(self, repository: str = "xinstruct") -> str:
        """An image's full name."""
        return f"{self.registry}/{repository}:{self.tag}" if self.registry else f"{repository}:{self.tag}"

    def has(self, api: str) -> bool:
        """Whether the cluster knows an API."""
        return api in self.cluster.kubectl("api-versions").split()


def app_version() -> str:
    """The tag that the chart takes by itself."""
    found = re.search(r"^appVersion: (\S+)$", (CHART / "Chart.yaml").read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1]


def variable(name: str, default: str) -> str:
    """A variable of the environment that make test-cluster documents."""
    return os.environ.get(f"XINSTRUCT_{name}", default)


@contextmanager
def namespace(bed: Bed, *, claims: tuple[str, ...] = CLAIMS) -> Iterator[Cluster]:
    """A new namespace in which nothing runs that the restricted standard forbids; removed with all that is in it."""
    name = f"xinstruct-{secrets.token_hex(4)}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    bed.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    inside = replace(bed.cluster, namespace=name)
    inside.apply(
        secret("xinstruct-token", {"token": secrets.token_hex(16)}),
        secret("xinstruct-database", {"password": secrets.token_hex(16)}),
    )
    made = [_volume(bed.volumes, name, claim) for claim in claims] if bed.volumes else []
    if made:
        bed.cluster.apply(*made)
    try:
        yield inside
    finally:
        _tell_restarts(inside)
        bed.cluster.kubectl("delete", "namespace", name, "--wait=true", within_s=180)
        for volume in made:
            bed.cluster.kubectl("delete", "pv", volume["metadata"]["name"], "--wait=false")
        if bed.volumes:
            shutil.rmtree(bed.volumes / name, ignore_errors=True)


def _tell_restarts(inside: Cluster) -> None:
    """For whoever reads why a test failed: the namespace goes, and what its containers said with it."""
    with suppress(Refused, subprocess.TimeoutExpired):
        print(*inside.restarts(), sep="\n", end="")


def models(bed: Bed, *, answer_s: float = 0.0) -> list[Manifest]:
    """A pod that answers as an OpenAI-compatible server of every role would, and its Service `models`.

    `answer_s`: seconds that it takes to write, as a model does whose answers keep its callers waiting.
    """
    program = (ROOT / "tests/contract/inference/openai_stub.py").read_text("utf-8")
    server = {"name": "models"}
    container = {
        "name": "models", "image": bed.image(), "securityContext": dict(CONTAINER),
        "command": ["python", "-c", f"import openai_stub; openai_stub.serve({MODELS_PORT}, answer_s={answer_s})"],
        "env": [{"name": "PYTHONPATH", "value": "/program"}],
        "readinessProbe": {"tcpSocket": {"port": MODELS_PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "program", "mountPath": "/program", "readOnly": True}],
    }
    pod = {
        "automountServiceAccountToken": False, "securityContext": dict(RESTRICTED), "containers": [container],
        "volumes": [{"name": "program", "configMap": server}],
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": server, "data": {"openai_stub.py": program}},
        {"apiVersion": "v1", "kind": "Service", "metadata": server,
         "spec": {"selector": {"app": "models"}, "ports": [{"port": 80, "targetPort": MODELS_PORT}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": server, "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "models"}},
            "template": {"metadata": {"labels": {"app": "models"}}, "spec": pod},
        }},
    ]


def small(bed: Bed, *more: Mapping[str, Any]) -> dict[str, Any]:
    """Values over the small profile for this bed: models at `models`, or nothing would ever be ready."""
    tags = {name: {"tag": bed.tag} for name in ("light", "model", "kafka", "postgres")}
    made: dict[str, Any] = {
        "imageRegistry": bed.registry, "images": tags,
        "storage": {"storageClass": bed.storage_class},
        "kafka": {"storageClass": bed.storage_class, "storageSize": "1Gi"},
        "postgres": {"storageClass": bed.storage_class, "storageSize": "1Gi"},
        "config": {
            "crawler": {"fetch": {"contact_url": "https://example.org/bot"}},
            "inference": {role: {"kind": "openai", "url": "http://models/v1"} for role in ("generator", "evaluator")},
            # So that training has its rights, and no torch in its own pod; its jobs are in test_jobs.py.
            "training": {"jobs": {"kind": "kubernetes"}},
        },
        "services": {"training": {"image": "light"}},
        "trainingJobs": {"trainJob": "never", "resources": JOB_RESOURCES},
    }
    for values in more:
        made = merged(made, values)
    return made


def install(
    inside: Cluster, values: Mapping[str, Any], folder: Path, *options: str, within_s: float = 300.0
) -> str:
    """`helm upgrade --install` of the small profile with `values` over it. Refused with what Helm said."""
    return install_chart(inside, RELEASE, CHART, values, folder, *options, profile="small", within_s=within_s)


def install_chart(
    inside: Cluster, release: str, chart: Path, values: Mapping[str, Any], folder: Path, *options: str,
    profile: str = "", within_s: float = 300.0,
) -> str:
    """`helm upgrade --install` of a chart with `values` over its profile. Refused with what Helm said."""
    file = folder / f"{inside.namespace}-{secrets.token_hex(4)}.yaml"
    file.write_text(yaml.safe_dump(dict(values)), "utf-8")
    below = ["-f", str(chart / "profiles" / f"{profile}.yaml")] if profile else []
    return inside.helm(
        "upgrade", "--install", release, str(chart), *below, "-f", str(file), *options, within_s=within_s
    )


def claim(bed: Bed, name: str) -> Manifest:
    """A claim that no chart makes."""
    wanted: Manifest = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    if bed.storage_class:
        wanted["storageClassName"] = "" if bed.storage_class == "-" else bed.storage_class
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def put(bed: Bed, inside: Cluster, folder: Path, *, below: str, claim: str = CLAIMS[0]) -> None:
    """Copy a folder of this machine to `below` in a claim's volume, wherever the cluster is: a pod unpacks it there."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", dereference=True) as archive:
        archive.add(folder, ".")
    pod = probe("carrier", bed, UNPACKS.format(place=f"/volume/{below}"))
    pod["spec"]["containers"][0] |= {
        "stdin": True, "stdinOnce": True, "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
    }
    pod["spec"]["securityContext"]["fsGroup"] = RUNS_AS
    pod["spec"]["volumes"] = [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}]
    inside.apply(pod)
    try:
        until(lambda: inside.pod_ready("carrier"), f"a pod has the volume of {claim}", within_s=120)
        inside.kubectl("attach", "-i", "carrier", stdin=base64.b64encode(packed.getvalue()).decode(), within_s=300)
        until(lambda: inside.ended("carrier"), "all is unpacked", within_s=60)
        assert inside.get("pod", "carrier")["status"]["phase"] == "Succeeded", inside.kubectl("logs", "carrier")
    finally:
        inside.kubectl("delete", "pod", "carrier", "--now")


def probe(name: str, bed: Bed, code: str) -> Manifest:
    """A pod that runs `code` once by the light image's Python, with all rights that the standard leaves: none."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        # The release's own pods may call its services where network policies are enforced.
        "metadata": {"name": name, "labels": {
            "app.kubernetes.io/name": "xinstruct", "app.kubernetes.io/instance": RELEASE,
            "app.kubernetes.io/component": "probe",
        }},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": dict(RESTRICTED),
            "containers": [{
                "name": "probe", "image": bed.image(), "command": ["python", "-c", code],
                "securityContext": dict(CONTAINER),
            }],
        },
    }


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm merges files of values: maps key by key, the rest replaced."""
    made = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = merged(made[key], value) if both else value
    return made


def secret(name: str, content: Mapping[str, str]) -> Manifest:
    """A Secret: key → text."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(content)}


def _volume(folder: Path, space: str, claim: str) -> Manifest:
    """A folder of this machine as the volume of one claim. Kubernetes changes no owners there: we do."""
    place = folder / space / claim
    place.mkdir(parents=True)
    os.chown(place, RUNS_AS, RUNS_AS)
    return {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{space}-{claim}"[:63].rstrip("-")},
        "spec": {
            "capacity": {"storage": "50Gi"}, "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "claimRef": {"namespace": space, "name": claim}, "hostPath": {"path": str(place)},
        },
    }
