"""The cluster as kubectl and Helm see it: real programs, one kubeconfig, one namespace. Waits are loops with an end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
LOOK_EACH_S = 0.5
COMMAND_S_MAX = 60.0


class Refused(Exception):
    """A command that the cluster, or Helm, refused; its message is what they said."""


@dataclass(frozen=True)
class Cluster:
    """A namespace of a cluster."""

    kubeconfig: Path
    programs: str
    """PATH with kubectl and helm in front."""
    namespace: str = "default"

    def kubectl(self, *arguments: str, stdin: str | None = None, within_s: float = COMMAND_S_MAX) -> str:
        """What kubectl prints. Refused with what it said."""
        return self._run("kubectl", *arguments, stdin=stdin, within_s=within_s)

    def helm(self, *arguments: str, within_s: float = 300.0) -> str:
        """What Helm prints. Refused with what it said."""
        return self._run("helm", *arguments, within_s=within_s)

    def get(self, kind: str, name: str) -> Manifest:
        """One object. Refused when it is not there."""
        return dict(json.loads(self.kubectl("get", kind, name, "-o", "json")))

    def all(self, kind: str, *, labels: str = "") -> list[Manifest]:
        """The namespace's objects of a kind."""
        chosen = ["-l", labels] if labels else []
        return list(json.loads(self.kubectl("get", kind, "-o", "json", *chosen))["items"])

    def apply(self, *items: Manifest) -> None:
        """Make or change these objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(items))

    def pod_ready(self, name: str) -> bool:
        """Whether the pod is there, not leaving, and ready."""
        try:
            pod = self.get("pod", name)
        except Refused:
            return False
        return "deletionTimestamp" not in pod["metadata"] and ready(pod)

    def pod_replaced(self, name: str, uid: str) -> bool:
        """Whether another pod of that name than the one of that uid is ready."""
        return self.pod_ready(name) and self.get("pod", name)["metadata"]["uid"] != uid

    def staying(self, component: str) -> list[Manifest]:
        """Pods of a component but those that leave."""
        found = self.all("pod", labels=f"app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def has_ready(self, component: str, count: int) -> bool:
        """Whether exactly so many pods of a component stay, all of them ready."""
        pods = self.staying(component)
        return len(pods) == count and all(ready(pod) for pod in pods)

    def ended(self, name: str) -> bool:
        """Whether a pod has come to its end, good or bad."""
        return self.get("pod", name)["status"].get("phase") in ("Succeeded", "Failed")

    def restarts(self) -> list[str]:
        """Of each container of the namespace that was started again: how it ended before, and its last lines then."""
        told = []
        for pod in self.all("pod"):
            for one in pod["status"].get("containerStatuses", ()):
                if one["restartCount"]:
                    name, ended = pod["metadata"]["name"], one["lastState"].get("terminated", {})
                    last = self.kubectl("logs", name, "-c", one["name"], "--previous", "--tail=30")
                    told.append(f"{name}, restart {one['restartCount']}, after {ended}, and it had said\n{last}")
        return told

    def evict(self, pod: str) -> None:
        """End a pod as a drain of its node does, which its disruption budget has to allow. Refused when it does not."""
        named = {"name": pod, "namespace": self.namespace}
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))

    def stats(self) -> dict[str, Manifest]:
        """Pod of the namespace → what its kubelet counts of it: cpu, memory, volumes."""
        found: dict[str, Manifest] = {}
        for node in self.all("node"):
            text = self.kubectl("get", "--raw", f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary")
            pods = [pod for pod in json.loads(text)["pods"] if pod["podRef"]["namespace"] == self.namespace]
            found |= {pod["podRef"]["name"]: pod for pod in pods}
        return found

    def output_of(self, pod: Manifest, *, within_s: float = 60.0) -> tuple[bool, str]:
        """(whether it succeeded, its log) of a pod that runs once; it is deleted afterwards."""
        name = pod["metadata"]["name"]
        self.apply(pod)
        try:
            until(lambda: self.ended(name), f"pod {name} ends", within_s=within_s)
            return self.get("pod", name)["status"]["phase"] == "Succeeded", self.kubectl("logs", name)
        finally:
            self.kubectl("delete", "pod", name, "--now", "--ignore-not-found")

    def _run(self, program: str, *arguments: str, stdin: str | None = None, within_s: float) -> str:
        variables = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PATH": self.programs}
        done = subprocess.run(
            [program, "--namespace", self.namespace, *arguments],
            env=variables, input=stdin, capture_output=True, text=True, timeout=within_s, check=False,
        )
        if done.returncode:
            raise Refused(f"{program} {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout


def ready(item: Manifest) -> bool:
    """Whether an object's condition Ready holds."""
    return condition(item, "Ready").get("status") == "True"


def condition(item: Manifest, kind: str) -> Manifest:
    """The condition of that kind; empty when it has none yet."""
    conditions: Iterable[Manifest] = item.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == kind), {})


def until(holds: Callable[[], bool], what: str, *, within_s: float) -> float:
    """Seconds until `holds`; fails with `what` when that takes longer than `within_s`."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin <= within_s, f"not within {within_s} s: {what}"
        time.sleep(LOOK_EACH_S)
    return time.monotonic() - begin
