"""The chart of models: what scales them, what is scraped of them, how long their pods take to end."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from charts.network import selects
from charts.rendering import INFERENCE, OPTIONAL_APIS, changed, named, of_kind, pods
from charts.test_inference import RUNTIMES, SMALL, either_way, served, with_all


@pytest.mark.parametrize("runtime", ["predictor", "vllm", "tgi"])
@either_way
def test_keda_scales_the_deployment_by_the_queue_of_its_server(runtime: str, kserve: str) -> None:
    role = "evaluator" if runtime == "predictor" else "generator"
    values = with_all(SMALL, {**RUNTIMES[runtime], f"models.{role}.scaling": {"kind": "keda", "queuedRequests": 7}})
    items = served(values, kserve, OPTIONAL_APIS)
    scaled = named(items, "ScaledObject", role, INFERENCE)["spec"]
    by_kserve = kserve == "always"
    assert scaled["scaleTargetRef"]["name"] == f"xinstruct-{role}{'-predictor' if by_kserve else ''}"
    (trigger,) = scaled["triggers"]
    queue = {"predictor": "xinstruct_predictor_waiting_rows", "vllm": "vllm:num_requests_waiting",
             "tgi": "tgi_queue_size"}
    assert trigger["metadata"]["valueLocation"] == queue[runtime]
    assert trigger["metadata"]["targetValue"] == "7"
    assert trigger["metadata"]["aggregateFromKubeServiceEndpoints"] == "true"
    assert asked_by_keda(trigger["metadata"]["url"]) == (f"xinstruct-{role}", "lab", 8080, "/metrics")
    if by_kserve:
        service = named(items, "InferenceService", role, INFERENCE)
        assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "external"
        assert "minReplicas" not in service["spec"]["predictor"]
    else:
        assert "replicas" not in named(items, "Deployment", role, INFERENCE)["spec"]


def asked_by_keda(url: str) -> tuple[str, str, int | None, str]:
    """Service, its namespace, port of its pods, path: as KEDA 2.21 takes an address apart to ask each pod
    (getEndpointsUrlsFromServiceURL): it splits Go's Host, which holds the port, at every dot."""
    found = urlsplit(url)
    service, namespace = found.netloc.split(".")[:2]
    return service, namespace, found.port, found.path


@either_way
def test_without_keda_a_model_keeps_its_replicas_and_kserve_scales_nothing(kserve: str) -> None:
    values = with_all(SMALL, {"models.evaluator.scaling.kind": "keda", "models.evaluator.replicas": 2})
    items = served(values, kserve)
    assert not of_kind(items, "ScaledObject")
    if kserve == "always":
        service = named(items, "InferenceService", "evaluator", INFERENCE)
        assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "none"
        assert service["spec"]["predictor"]["minReplicas"] == 2
    else:
        assert named(items, "Deployment", "evaluator", INFERENCE)["spec"]["replicas"] == 2


def test_metrics_are_scraped_of_servers_that_have_some() -> None:
    monitors = of_kind(served(SMALL, "never", OPTIONAL_APIS), "ServiceMonitor")
    assert [item["metadata"]["name"] for item in monitors] == ["xinstruct-evaluator"]


@either_way
def test_each_model_is_scraped_once_for_kserves_own_service_has_the_labels_of_ours(kserve: str) -> None:
    items = served(SMALL, kserve, OPTIONAL_APIS)
    # As KServe 0.19 names and labels a predictor's Service (Predictor.buildObjectMeta).
    of_kserve = [
        (f"{item['metadata']['name']}-predictor", item["metadata"]["labels"] | {
            "serving.kserve.io/inferenceservice": item["metadata"]["name"], "component": "predictor"})
        for item in of_kind(items, "InferenceService")
    ]
    ours = [(item["metadata"]["name"], item["metadata"]["labels"]) for item in of_kind(items, "Service")
            if item["spec"]["ports"][0]["name"] == "http"]
    (monitor,) = of_kind(items, "ServiceMonitor")
    assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == ["http"]
    scraped = [name for name, labels in [*ours, *of_kserve] if selects(monitor["spec"]["selector"], labels)]
    assert scraped == ["xinstruct-evaluator"]


@pytest.mark.parametrize("grace_s", [None, 5, 6, 10, 61, 3600])
@either_way
def test_a_predictor_answers_to_the_last_second_of_its_grace_and_ends_before_it_is_killed(
    grace_s: int | None, kserve: str
) -> None:
    values = SMALL if grace_s is None else changed(SMALL, "models.evaluator.graceS", grace_s)
    (pod,) = [template["spec"] for owner, template in pods(served(values, kserve)) if owner == "xinstruct-evaluator"]
    (found,) = pod["containers"]
    drain_s = int(found["args"][found["args"].index("--drain-s") + 1])
    assert 1 <= drain_s <= 3600  # what its parser takes
    # KServe's server ends REST first, and then gRPC: each may take that long.
    ended_s = found["lifecycle"]["preStop"]["sleep"]["seconds"] + 2 * drain_s
    assert 1 <= pod["terminationGracePeriodSeconds"] - ended_s <= 2
