"""The makers' manifest of an add-on, on stdin, as this cluster installs it, on stdout.

Local images, no cert-manager, probes that look sooner. One function an add-on says what is changed; nothing else is.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
IMAGES = {
    "metrics-server": "metrics-server", "kserve-controller-manager": "kserve-controller-manager",
    "keda-operator": "keda-operator", "keda-metrics-apiserver": "keda-adapter",
    "jobset-controller-manager": "jobset", "kubeflow-trainer-controller-manager": "trainer",
}
"""Deployment → repository of the image that was built here."""


def main() -> None:
    """Read, change, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addon", choices=ADDONS)
    parser.add_argument("version")
    parser.add_argument("--authority", type=Path, required=True, help="folder of the cluster's certificates")
    options = parser.parse_args()
    items = [item for item in yaml.load_all(sys.stdin, Loader=yaml.CSafeLoader) if item]
    made = [with_our_image(item, options.version) for item in ADDONS[options.addon](items, options)]
    yaml.dump_all(made, sys.stdout, Dumper=yaml.CSafeDumper, sort_keys=False)


def with_our_image(item: Manifest, version: str) -> Manifest:
    """A Deployment with one pod of the image that was built here, looked at every other second."""
    if item["kind"] != "Deployment":
        return item
    item["spec"]["replicas"] = 1
    for container in item["spec"]["template"]["spec"]["containers"]:
        container["image"] = f"localhost/{IMAGES[item['metadata']['name']]}:{version}"
        container["imagePullPolicy"] = "IfNotPresent"
        # Two cores carry everything: a limit would make each start wait for the next slice, its makers' request would
        # leave no room for others, and none at all would leave it nothing of a busy machine.
        requests = container.get("resources", {}).get("requests", {})
        container["resources"] = {"requests": requests | {"cpu": "20m"}}
        # Nobody else could lead, and who renews no lease in time on a busy machine would end.
        container["args"] = [one for one in container.get("args", ()) if one != "--leader-elect"]
        if "readinessProbe" in container:
            container["readinessProbe"] |= {
                "initialDelaySeconds": 1, "periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 30,
            }
        if "livenessProbe" in container:
            container["livenessProbe"] |= {"timeoutSeconds": 10, "failureThreshold": 12}
    return item


def metrics(items: Iterable[Manifest], options: argparse.Namespace) -> Iterator[Manifest]:
    """metrics-server: looks at the kubelet every ten seconds and takes its own certificate."""
    for item in items:
        if item["kind"] == "Deployment":
            (container,) = item["spec"]["template"]["spec"]["containers"]
            kept = [one for one in container["args"] if not one.startswith("--metric-resolution")]
            # The resolution has to be longer than the timeout.
            container["args"] = [
                *kept, "--metric-resolution=10s", "--kubelet-request-timeout=5s", "--kubelet-insecure-tls",
            ]
        yield item


def kserve(items: Iterable[Manifest], options: argparse.Namespace) -> Iterator[Manifest]:
    """KServe in Standard mode: its main controller only, with a certificate of the cluster's authority."""
    ours = base64.b64encode((options.authority / "ca.crt").read_bytes()).decode()
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}}
    yield {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "kserve-webhook-server-cert", "namespace": "kserve"},
        "data": {
            key: base64.b64encode((options.authority / f"kserve-webhook{end}").read_bytes()).decode()
            for key, end in (("tls.crt", ".crt"), ("tls.key", ".key"))
        },
    }
    for item in items:
        kind, name = item["kind"], item["metadata"]["name"]
        others = ("llm", "localmodel", "leaderworker")
        if kind in ("Certificate", "Issuer") or any(word in name for word in others):
            continue
        if kind.endswith("WebhookConfiguration"):
            item["metadata"].get("annotations", {}).pop("cert-manager.io/inject-ca-from", None)
            for webhook in item["webhooks"]:
                webhook["clientConfig"]["caBundle"] = ours
        if kind == "CustomResourceDefinition" and item["spec"].get("conversion", {}).get("strategy") == "Webhook":
            item["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"] = ours
        if kind == "ConfigMap" and name == "inferenceservice-config":
            _configure_kserve(item["data"], options.version)
        if kind == "Deployment":
            pod = item["spec"]["template"]["spec"]
            pod["containers"] = [one for one in pod["containers"] if one["name"] == "manager"]
        yield item


def _configure_kserve(settings: dict[str, str], version: str) -> None:
    """No ingress of its own, and the agent that was built here."""
    changes: Mapping[str, Manifest] = {
        "deploy": {"defaultDeploymentMode": "Standard"},
        "ingress": {"disableIngressCreation": True, "disableIstioVirtualHost": True},
        "agent": {"image": f"localhost/kserve-agent:{version}"},
    }
    for section, change in changes.items():
        settings[section] = json.dumps(json.loads(settings.get(section, "{}")) | change)


def keda(items: Iterable[Manifest], options: argparse.Namespace) -> Iterator[Manifest]:
    """KEDA's operator and metrics server, without its admission webhook, which only looks for mistakes."""
    for item in items:
        name = item["metadata"]["name"]
        if item["kind"] != "ValidatingWebhookConfiguration" and "webhook" not in name and "admission" not in name:
            yield item


def jobset(items: Iterable[Manifest], options: argparse.Namespace) -> Iterator[Manifest]:
    """JobSet, whose leader is chosen in its file of settings."""
    for item in items:
        if item["kind"] == "ConfigMap":
            item["data"] = {name: said.replace("leaderElect: true", "leaderElect: false")
                            for name, said in item["data"].items()}
        yield item


def trainer(items: Iterable[Manifest], options: argparse.Namespace) -> Iterator[Manifest]:
    """The Trainer, which nobody here scrapes. Like JobSet it makes its webhooks' certificates itself."""
    yield from (item for item in items if item["kind"] != "ServiceMonitor")


ADDONS: Mapping[str, Callable[[Iterable[Manifest], argparse.Namespace], Iterator[Manifest]]] = {
    "metrics": metrics, "kserve": kserve, "keda": keda, "jobset": jobset, "trainer": trainer,
}


if __name__ == "__main__":
    main()
