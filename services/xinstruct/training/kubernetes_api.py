"""The Kubernetes API as training uses it: objects of one namespace by kind and name, as plain dictionaries.

Only the generic call of the client is used: its typed models take 90 MB and three seconds of every start. The client
brings the pod's account, its token's renewal and TLS. Several threads may use one object.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException, load_incluster_config

from xinstruct.spine.errors import Conflict, Invalid, NotFound, Unavailable

Manifest = dict[str, Any]
"""An object of the API, as its JSON is."""

NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
FIELD_MANAGER = "xinstruct-training"
CALL_S = (5.0, 20.0)
"""Seconds to connect, and of silence."""
RETRY_S, MISFIT_RETRY_S = 5.0, 30.0
"""Seconds until the next try where the API is away, and where somebody has to change something."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: its API ("batch/v1"), its name, and its plural in URLs."""

    api: str
    name: str
    plural: str


JOB = Kind("batch/v1", "Job", "jobs")
TRAIN_JOB = Kind("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
_POD = Kind("v1", "Pod", "pods")


class Cluster:
    """One namespace of a cluster. Every call raises Unavailable, with a sentence, when the API is away or refuses."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    @classmethod
    def of_this_pod(cls) -> Cluster:
        """The namespace of this pod, with its account. Invalid where this process runs in no pod, or has no token."""
        configuration = Configuration()
        try:
            load_incluster_config(client_configuration=configuration)
            with open(NAMESPACE_FILE, encoding="utf-8") as file:
                namespace = file.read().strip()
        except (ConfigException, OSError) as error:
            raise Invalid(
                f"there is no account of the Kubernetes API here ({error}): run it in a pod with its account's token "
                "(rbac.enabled of the chart), or set training.jobs.kind to local and leave training.serving out"
            ) from error
        configuration.retries = False  # the loops of the service ask again
        return cls(ApiClient(configuration), namespace)

    def get(self, kind: Kind, name: str) -> Manifest | None:
        """The object, None when there is none, or no such kind."""
        try:
            return self._ask("GET", kind, name)
        except NotFound:
            return None

    def create(self, kind: Kind, manifest: Manifest) -> None:
        """Make the object; a field that the API does not know is refused. Conflict when one of its name is there."""
        query = {"fieldValidation": "Strict", "fieldManager": FIELD_MANAGER}
        try:
            self._ask("POST", kind, body=manifest, query=query)
        except NotFound as error:
            raise Unavailable(
                f"the Kubernetes API knows no {kind.name} of {kind.api}: install what brings it (for a TrainJob the "
                "Kubeflow Trainer), or have plain Jobs made (trainingJobs.trainJob: never of the chart)",
                MISFIT_RETRY_S,
            ) from error

    def patch(self, kind: Kind, name: str, changes: Manifest) -> None:
        """Merge `changes` into the object. NotFound; Conflict when they name a resourceVersion that is not its own."""
        query = {"fieldValidation": "Strict", "fieldManager": FIELD_MANAGER}
        self._ask("PATCH", kind, name, body=changes, query=query)

    def delete(self, kind: Kind, name: str) -> None:
        """Delete the object and what it made; it stays visible until its pods have ended. No error when it is gone."""
        try:
            self._ask("DELETE", kind, name, query={"propagationPolicy": "Foreground"})
        except NotFound:
            return

    def labelled(self, kind: Kind, label: str, value: str) -> list[Manifest]:
        """Objects with the label, oldest first; none when there is no such kind."""
        try:
            found = self._ask("GET", kind, query={"labelSelector": f"{label}={value}"})["items"]
        except NotFound:
            return []
        return sorted(found, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"]))

    def pods(self, label: str, value: str) -> list[Manifest]:
        """Pods with the label, oldest first."""
        return self.labelled(_POD, label, value)

    def owners(self) -> list[Manifest]:
        """References to what owns this pod, for what shall be deleted with it; none when this process is in no pod."""
        pod = self.get(_POD, socket.gethostname())
        owners = pod["metadata"].get("ownerReferences", ()) if pod else ()
        return [{key: owner[key] for key in ("apiVersion", "kind", "name", "uid")} for owner in owners]

    def close(self) -> None:
        """Release connections."""
        self._client.rest_client.close()

    def _ask(
        self, method: str, kind: Kind, name: str = "", *, body: Manifest | None = None, query: Mapping[str, str] = {}
    ) -> Manifest:
        root = "apis" if "/" in kind.api else "api"
        path = "/".join(["", root, kind.api, "namespaces", self.namespace, kind.plural, *([name] if name else [])])
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
            asked = self._client.param_serialize(  # reads the token's file again, each minute
                method, f"{path}?{urlencode(query)}" if query else path, body=body, auth_settings=["BearerToken"],
                header_params={"Accept": "application/json", "Content-Type": content},
            )
            reply = self._client.call_api(*asked, _request_timeout=CALL_S)
            status, raw = int(reply.status), reply.read()
        # The client's own errors are of neither family: ApiException is what it makes of a broken TLS handshake.
        except (ApiException, ConfigException, urllib3.exceptions.HTTPError, OSError) as error:
            said = " ".join(str(error).split())
            raise Unavailable(f"the Kubernetes API does not answer: {said}", RETRY_S) from error
        return _read(status, raw, f"{method.lower()} {kind.plural} {name}".strip())


def _read(status: int, raw: bytes, act: str) -> Manifest:
    """The object of an answer, or the error that its status stands for."""
    try:
        answer: Manifest = json.loads(raw)
    except ValueError:
        answer = {}
    if 200 <= status < 300:
        return answer
    said = str(answer.get("message") or f"status {status}")
    if status == 404:
        raise NotFound(said)
    if status == 409:
        raise Conflict(said)
    if status in (401, 403):
        raise Unavailable(
            f"the Kubernetes API does not let training {act}: {said}; the chart gives the right with rbac.enabled",
            MISFIT_RETRY_S,
        )
    if status in (400, 405, 413, 415, 422):
        raise Unavailable(f"the Kubernetes API refuses to {act}: {said}", MISFIT_RETRY_S)
    raise Unavailable(f"the Kubernetes API cannot {act} now: {said}", RETRY_S)
