"""Models served by KServe: what InferenceServices are told, and when a model counts as served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.training.kubernetes_stub import Item, Store, kubernetes
from xinstruct.inference.scripted import ScriptedInference
from xinstruct.spine import registry
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Features
from xinstruct.training.config import ServingSettings
from xinstruct.training.kubernetes_api import Cluster
from xinstruct.training.kubernetes_serving import InferenceServices
from xinstruct.training.serving import LOOK_S

FIRST, SECOND = ("sha256:" + letter * 64 for letter in "ab")
SETTINGS = ServingSettings(evaluator="judge-{slot}", encoder="near", volume_claim="data")
Api = tuple[Store, Cluster]


class Server(ScriptedInference):
    """An endpoint that says which model it serves; None: it is away."""

    serves: str | None = FIRST

    def probe(self) -> Features:
        if self.serves is None:
            raise Unavailable("the server does not answer")
        return Features(False, True, False, self.serves)


@pytest.fixture
def api() -> Iterator[Api]:
    with kubernetes() as made:
        yield made


@pytest.fixture
def servers() -> dict[str, Server]:
    return {role: Server() for role in ("evaluator-a", "evaluator-b", "encoder")}


@pytest.fixture
def now_s() -> list[float]:
    return [100.0]


@pytest.fixture
def serving(api: Api, servers: dict[str, Server], now_s: list[float], tmp_path: Path) -> InferenceServices:
    return InferenceServices(SETTINGS, api[1], servers, tmp_path, clock_s=lambda: now_s[0])


def service(name: str, *, args: list[str] | None = None, ready: bool = True) -> Item:
    """An InferenceService as the chart makes it."""
    model: Item = {"runtime": "predictor", "modelFormat": {"name": "predictor"}}
    return {
        "apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"serving.kserve.io/stop": "true", "mine": "kept"}},
        "spec": {"predictor": {"minReplicas": 2, "model": model | ({"args": args} if args else {})}},
        "status": {"conditions": [
            {"type": "PredictorReady", "status": "False", "message": "the pod has no GPU"} if not ready else
            {"type": "PredictorReady", "status": "True"},
            {"type": "Ready", "status": "True" if ready else "False"},
        ]},
    }


def evaluator(digest: str, folder: Path) -> registry.Model:
    return registry.Model(digest, "evaluator", str(folder / "models" / digest.removeprefix("sha256:")))


def encoder(digest: str, folder: Path) -> registry.Model:
    return registry.Model(digest, "encoder", str(folder / "encoders" / digest.removeprefix("sha256:")))


def test_a_slots_inference_service_is_told_the_model_and_started(
    api: Api, serving: InferenceServices, now_s: list[float], tmp_path: Path
) -> None:
    store, _ = api
    store.put("inferenceservices", service("judge-a", args=["--role", "evaluator", "--model-digest", SECOND]))
    other = store.put("inferenceservices", service("judge-b"))
    before = str(other)
    assert "has just been given" in serving.serve(evaluator(FIRST, tmp_path), "a")
    told = store.of("inferenceservices")[0]
    assert told["metadata"]["annotations"] == {"mine": "kept", "xinstruct/model-digest": FIRST}
    assert told["spec"]["predictor"] == {
        "minReplicas": 2,
        "model": {
            "runtime": "predictor", "modelFormat": {"name": "predictor"},
            "storageUri": f"pvc://data/models/{FIRST.removeprefix('sha256:')}",
            "args": ["--role", "evaluator", "--model-digest", FIRST],
        },
    }
    assert str(other) == before
    patches = len([call for call in store.calls if call[0] == "PATCH"])
    now_s[0] += LOOK_S
    assert serving.serve(evaluator(FIRST, tmp_path), "a") == ""
    assert len([call for call in store.calls if call[0] == "PATCH"]) == patches == 1


def test_a_model_counts_as_served_when_its_service_is_ready_and_its_endpoint_says_its_digest(
    api: Api, serving: InferenceServices, servers: dict[str, Server], now_s: list[float], tmp_path: Path
) -> None:
    store, _ = api
    item = store.put("inferenceservices", service("judge-b", ready=False))
    said = []
    for change in ("given", "not ready", "away", "another", "served"):
        if change == "away":
            item["status"] = service("judge-b")["status"]
        servers["evaluator-b"].serves = {"away": None, "another": SECOND}.get(change, FIRST)
        said.append(serving.serve(evaluator(FIRST, tmp_path), "b"))
        now_s[0] += LOOK_S
    assert said == [
        f"InferenceService judge-b has just been given {FIRST}",
        "InferenceService judge-b is not ready: the pod has no GPU",
        "the server does not answer",
        f"judge-b serves {SECOND} yet, not {FIRST}",
        "",
    ]


def test_an_inference_service_is_not_looked_at_more_often_than_every_five_seconds(
    api: Api, serving: InferenceServices, now_s: list[float], tmp_path: Path
) -> None:
    store, _ = api
    store.put("inferenceservices", service("judge-a"))
    serving.serve(evaluator(FIRST, tmp_path), "a")
    asked = len(store.calls)
    assert "has just been given" in serving.serve(evaluator(FIRST, tmp_path), "a")
    assert len(store.calls) == asked
    assert SECOND in serving.serve(evaluator(SECOND, tmp_path), "a")  # another model does not wait for that
    now_s[0] += LOOK_S
    serving.serve(evaluator(SECOND, tmp_path), "a")
    assert len(store.calls) > asked


def test_a_resting_slots_server_is_stopped_once(api: Api, serving: InferenceServices, tmp_path: Path) -> None:
    store, _ = api
    item = store.put("inferenceservices", service("judge-a"))
    serving.serve(evaluator(FIRST, tmp_path), "a")
    serving.rest("evaluator", "a")
    serving.rest("evaluator", "a")
    serving.rest("evaluator", "b")  # there is none
    assert item["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    assert len([call for call in store.calls if call[0] == "PATCH"]) == 2
    assert "has just been given" in serving.serve(evaluator(FIRST, tmp_path), "a")
    assert "serving.kserve.io/stop" not in item["metadata"]["annotations"]


def test_the_encoders_server_rests_until_it_is_given_a_model_and_no_longer(
    api: Api, serving: InferenceServices, tmp_path: Path
) -> None:
    # Its chart installs it running: what Helm says of it may not depend on whether that is the first time.
    store, _ = api
    installed = service("near")
    del installed["metadata"]["annotations"]["serving.kserve.io/stop"]
    item = store.put("inferenceservices", installed)
    assert serving.first("encoder", None) == ""
    assert item["metadata"]["annotations"]["serving.kserve.io/stop"] == "true"
    serving.serve(encoder(FIRST, tmp_path))
    assert serving.first("encoder", None) == ""
    assert serving.first("generator", None) == ""  # there is none
    assert "serving.kserve.io/stop" not in item["metadata"]["annotations"]


def test_an_encoders_server_that_is_installed_anew_gets_the_promoted_one_and_keeps_the_next(
    api: Api, serving: InferenceServices, tmp_path: Path
) -> None:
    store, _ = api
    promoted = encoder(FIRST, tmp_path)
    store.put("inferenceservices", service("near"))
    serving.serve(promoted)
    item = store.put("inferenceservices", service("near"))
    assert "has just been given" in serving.first("encoder", promoted)
    assert item["metadata"]["annotations"]["xinstruct/model-digest"] == FIRST
    assert "serving.kserve.io/stop" not in item["metadata"]["annotations"]
    serving.serve(encoder(SECOND, tmp_path))  # on its way to be promoted
    assert serving.first("encoder", promoted) == ""
    assert item["metadata"]["annotations"]["xinstruct/model-digest"] == SECOND


def test_a_container_of_ones_own_where_a_model_would_be_is_left_alone(api: Api, serving: InferenceServices) -> None:
    store, _ = api
    installed = service("near")
    installed["metadata"]["annotations"] = {}
    installed["spec"]["predictor"] = {"containers": [{"name": "ours"}]}
    store.put("inferenceservices", installed)
    serving.first("encoder", None)
    assert not [call for call in store.calls if call[0] == "PATCH"]


def test_a_role_without_slots_has_one_inference_service_and_one_without_a_name_none(
    api: Api, serving: InferenceServices, tmp_path: Path
) -> None:
    store, _ = api
    item = store.put("inferenceservices", service("near"))
    serving.serve(registry.Model(FIRST, "encoder", str(tmp_path / "encoders" / "e5")))
    assert item["spec"]["predictor"]["model"]["storageUri"] == "pvc://data/encoders/e5"
    asked = len(store.calls)
    assert serving.serve(registry.Model(FIRST, "generator", "/anywhere")) == ""
    assert len(store.calls) == asked


def test_what_cannot_be_served_says_what_to_change(api: Api, serving: InferenceServices, tmp_path: Path) -> None:
    assert "there is no InferenceService judge-a" in serving.serve(evaluator(FIRST, tmp_path), "a")
    elsewhere = serving.serve(registry.Model(FIRST, "evaluator", "/elsewhere/model"), "b")
    assert "/elsewhere/model is not under" in elsewhere and "register it again" in elsewhere


def test_a_change_by_somebody_else_at_the_same_time_is_not_written_over(
    api: Api, serving: InferenceServices, tmp_path: Path
) -> None:
    store, _ = api
    item = store.put("inferenceservices", service("judge-a"))
    answer = store.answer

    def meanwhile(method: str, url: str, body: Item) -> tuple[int, Item]:
        if method == "PATCH":
            item["metadata"]["resourceVersion"] = "999"
        return answer(method, url, body)

    store.answer = meanwhile  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="changed by somebody else"):
        serving.serve(evaluator(FIRST, tmp_path), "a")
    assert "storageUri" not in item["spec"]["predictor"]["model"]


def test_without_the_right_to_patch_the_sentence_names_it(
    api: Api, serving: InferenceServices, tmp_path: Path
) -> None:
    api[0].refuses = 403
    with pytest.raises(Unavailable, match=r"get inferenceservices judge-a.*rbac\.enabled"):
        serving.serve(evaluator(FIRST, tmp_path), "a")
