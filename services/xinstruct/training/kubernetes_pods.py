"""What a job's pods say of why it waits or failed, in a sentence. Pure: pods are what the API gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

STARTING = ("ContainerCreating", "PodInitializing")
"""What every container waits for at first."""
MESSAGE_CHARS_MAX = 400

Pod = dict[str, Any]


def waiting_for(job: Pod, pods: Sequence[Pod]) -> str:
    """What keeps an unfinished Job or TrainJob from going on; "" when nothing does. `pods`: its own, oldest first."""
    if "deletionTimestamp" in job["metadata"]:
        return f"{job['kind']} {job['metadata']['name']} is being deleted"
    if "Suspended" in conditions(job):
        return f"{job['kind']} {job['metadata']['name']} is suspended: a queue, or somebody, lets it go on"
    living = [pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")]
    if living:
        return _hindrance(living[-1])
    if pods and _phase(pods[-1]) == "Failed":
        return f"to be started again after {failure_of(pods)}"
    if pods:
        return ""
    return f"no pod yet; if it stays so, kubectl describe {job['kind'].lower()} {job['metadata']['name']} says why"


def failure_of(pods: Sequence[Pod]) -> str:
    """Why the newest pod that failed did so; "" when none did."""
    failed = [pod for pod in pods if _phase(pod) == "Failed"]
    if not failed:
        return ""
    pod = failed[-1]
    for name, ended in _states(pod, "terminated"):
        if ended.get("reason") == "OOMKilled":
            return f"OOMKilled: it took more memory than its limit of {_memory_limit(pod, name)}"
        if ended.get("exitCode"):
            said = str(ended.get("message", "")).strip()[-MESSAGE_CHARS_MAX:]
            return f"exit code {ended['exitCode']}{': ' if said else ''}{said}"
    moved = conditions(pod).get("DisruptionTarget", {})
    reason = pod["status"].get("reason") or moved.get("reason") or "its pod failed"
    message = pod["status"].get("message") or moved.get("message") or ""
    return f"{reason}{': ' if message else ''}{message[:MESSAGE_CHARS_MAX]}"


def _hindrance(pod: Pod) -> str:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason')}: {condition.get('message', '')[:MESSAGE_CHARS_MAX]}"
    for _, waiting in _states(pod, "waiting"):
        if waiting.get("reason") not in STARTING:
            return f"{waiting.get('reason')}: {waiting.get('message', '')[:MESSAGE_CHARS_MAX]}"
    return ""


def _states(pod: Pod, state: str) -> Iterator[tuple[str, Pod]]:
    """(container, details) of each container that is in `state`."""
    status = pod["status"]
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        if state in container.get("state", {}):
            yield container["name"], container["state"][state]


def conditions(item: Pod) -> dict[str, Pod]:
    """Type → condition, of those that are true."""
    found = item.get("status", {}).get("conditions", ())
    return {condition["type"]: condition for condition in found if condition["status"] == "True"}


def _memory_limit(pod: Pod, name: str) -> str:
    for container in pod["spec"]["containers"]:
        if container["name"] == name:
            return str(container.get("resources", {}).get("limits", {}).get("memory", "its node"))
    return "its node"


def _phase(pod: Pod) -> str:
    return str(pod["status"].get("phase", ""))
