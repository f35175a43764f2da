"""Models served by KServe: an InferenceService is told where the model of its role lies, started and stopped.

Three things of it are ours, which its chart leaves out: `spec.predictor.model.storageUri`, an annotation with the
model's digest, and KServe's annotation that stops it. Where the arguments of its container name a digest, in
`--model-digest`, that is changed with them. Everything else is its chart's. Several threads may use one object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xinstruct.spine import registry
from xinstruct.spine.errors import Conflict, NotFound, Unavailable
from xinstruct.spine.inference import Inference, of_slot
from xinstruct.training.config import ServingSettings
from xinstruct.training.kubernetes_api import INFERENCE_SERVICE, Cluster, Manifest
from xinstruct.training.serving import LOOK_S

DIGEST_ANNOTATION = "xinstruct/model-digest"
STOP_ANNOTATION = "serving.kserve.io/stop"
DIGEST_ARGUMENT = "--model-digest"


class InferenceServices:
    """InferenceServices of the namespace, by the names in `settings`; `home` is on the volume that they mount too."""

    def __init__(
        self, settings: ServingSettings, cluster: Cluster, inference: Mapping[str, Inference], home: Path, *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`inference`: endpoint by role, or by "<role>-<slot>" where slots have servers of their own."""
        self._names = {"evaluator": settings.evaluator, "encoder": settings.encoder}
        self._claim = settings.volume_claim
        self._cluster = cluster
        self._inference = inference
        self._home = home.absolute()
        self._clock_s = clock_s
        self._seen: dict[str, tuple[str, float, str]] = {}
        """InferenceService → the digest that it was last compared with, when, and what it waited for."""

    def serve(self, model: registry.Model, slot: str = "") -> str:
        """See Serving. A role without a name in the settings is served elsewhere."""
        name = self._names.get(model.role, "").replace("{slot}", slot)
        if not name:
            return ""
        digest, look_s, words = self._seen.get(name, ("", 0.0, ""))
        if digest != model.model_digest or self._clock_s() - look_s >= LOOK_S:
            words = self._look(name, model, slot)
            self._seen[name] = (model.model_digest, self._clock_s(), words)
        return words

    def rest(self, role: str, slot: str) -> None:
        """See Serving."""
        name = self._names.get(role, "").replace("{slot}", slot)
        if name:
            self._stop(name, self._cluster.get(INFERENCE_SERVICE, name))

    def first(self, role: str, model: registry.Model | None) -> str:
        """See Serving."""
        name = self._names.get(role, "")
        item = self._cluster.get(INFERENCE_SERVICE, name) if name else None
        if item is None or not _names_no_model(item):
            return ""
        if model is None:
            self._stop(name, item)
            return ""
        self._seen.pop(name, None)  # it was looked at before it was installed anew
        return self.serve(model)

    def close(self) -> None:
        """See Serving."""
        self._cluster.close()

    def _stop(self, name: str, item: Manifest | None) -> None:
        if item is not None and _annotations(item).get(STOP_ANNOTATION) != "true":
            self._seen.pop(name, None)
            stop = {"annotations": {STOP_ANNOTATION: "true"}, "resourceVersion": item["metadata"]["resourceVersion"]}
            self._patch(name, {"metadata": stop})

    def _look(self, name: str, model: registry.Model, slot: str) -> str:
        try:
            part = Path(model.location).relative_to(self._home)
        except ValueError:
            return (
                f"{model.location} is not under {self._home}, where {name} could read it: copy the folder there and "
                "register it again"
            )
        item = self._cluster.get(INFERENCE_SERVICE, name)
        if item is None or "model" not in item["spec"]["predictor"]:
            return (
                f"there is no InferenceService {name} with a model: install the chart `inference` with it, or leave "
                f"training.serving.{model.role} out and have {model.model_digest} served by hand"
            )
        changes = changes_of(item, f"pvc://{self._claim}/{part.as_posix()}", model.model_digest)
        if changes:
            changes.setdefault("metadata", {})["resourceVersion"] = item["metadata"]["resourceVersion"]
            self._patch(name, changes)
            return f"InferenceService {name} has just been given {model.model_digest}"
        return _unready(item) or self._misfit(name, model, slot)

    def _misfit(self, name: str, model: registry.Model, slot: str) -> str:
        try:
            served = of_slot(self._inference, model.role, slot).probe().model
        except Unavailable as error:
            return error.message
        return "" if served == model.model_digest else f"{name} serves {served} yet, not {model.model_digest}"

    def _patch(self, name: str, changes: Manifest) -> None:
        try:
            self._cluster.patch(INFERENCE_SERVICE, name, changes)
        except (Conflict, NotFound) as error:
            raise Unavailable(f"InferenceService {name} was changed by somebody else: {error.message}", 1.0) from error


def changes_of(item: Manifest, storage: str, digest: str) -> Manifest:
    """What has to be merged into an InferenceService so that it serves the model; {} when it is told so already."""
    changes: Manifest = {}
    annotations = _annotations(item)
    wanted: dict[str, str | None] = {DIGEST_ANNOTATION: digest}
    if annotations.get(STOP_ANNOTATION) == "true":
        wanted[STOP_ANNOTATION] = None
    if any(annotations.get(key) != value for key, value in wanted.items()):
        changes["metadata"] = {"annotations": wanted}
    model = item["spec"]["predictor"]["model"]
    told: Manifest = {}
    if model.get("storageUri") != storage:
        told["storageUri"] = storage
    arguments = model.get("args", [])
    if _with_digest(arguments, digest) != arguments:
        told["args"] = _with_digest(arguments, digest)  # lists are merged as wholes
    if told:
        changes["spec"] = {"predictor": {"model": told}}
    return changes


def _with_digest(arguments: list[str], digest: str) -> list[str]:
    """The arguments with another digest, where they name one: "--model-digest=X", or "--model-digest", "X"."""
    made = list(arguments)
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{DIGEST_ARGUMENT}="):
            made[number] = f"{DIGEST_ARGUMENT}={digest}"
        elif number and arguments[number - 1] == DIGEST_ARGUMENT:
            made[number] = digest
    return made


def _unready(item: Manifest) -> str:
    """Why an InferenceService is not ready, by its own conditions; "" when it is."""
    metadata, status = item["metadata"], item.get("status", {})
    conditions: dict[str, Any] = {condition["type"]: condition for condition in status.get("conditions", ())}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    told = [c for c in conditions.values() if c["status"] == "False" and (c.get("message") or c.get("reason"))]
    why = "; ".join(sorted({str(c.get("message") or c["reason"]) for c in told}))
    return f"InferenceService {metadata['name']} is not ready{': ' if why else ''}{why}"


def _names_no_model(item: Manifest) -> bool:
    """Whether it has a place for a model and none in it. A container of somebody's own has no such place."""
    model = item["spec"]["predictor"].get("model")
    return model is not None and not model.get("storageUri")


def _annotations(item: Manifest) -> dict[str, str]:
    return dict(item["metadata"].get("annotations") or {})
