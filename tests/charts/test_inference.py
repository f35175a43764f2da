"""The chart of models: the same addresses however they are served, no hub, what promotion may change."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import pytest

from charts import crds
from charts.crds import need_crds
from charts.rendering import (
    INFERENCE,
    KUBERNETES,
    OPTIONAL_APIS,
    PROFILES,
    XINSTRUCT,
    Manifest,
    Values,
    changed,
    documents,
    manifests,
    named,
    of_kind,
    pods,
    profile,
    read,
    rendered,
)
from charts.schemas import is_custom

KSERVE = "serving.kserve.io/v1beta1"
DIGEST = f"sha256:{'b' * 64}"
SMALL = profile("small", INFERENCE)
GPU = profile("gpu", INFERENCE)
PROFILE_FILES = XINSTRUCT.folder / "profiles"

RUNTIMES: Mapping[str, Values] = {
    # Runtime → the model of small.yaml that is served on it, and the image where it is somebody else's.
    "predictor": {"models.evaluator.runtime": "predictor"},
    "openai": {"models.generator.runtime": "openai"},
    "vllm": {"models.generator.runtime": "vllm", "images.vllm.digest": DIGEST},
    "tgi": {"models.generator.runtime": "tgi", "images.tgi": {"repository": "mirror/tgi", "digest": DIGEST}},
}
runtimes = pytest.mark.parametrize("runtime", RUNTIMES)
either_way = pytest.mark.parametrize("kserve", ["always", "never"])

def with_all(values: Values, changes: Values) -> Values:
    for path, value in changes.items():
        values = changed(values, path, value)
    return values


def served(values: Values, kserve: str = "never", apis: tuple[str, ...] = ()) -> list[Manifest]:
    return manifests(changed(values, "kserve.enabled", kserve), apis=apis, of=INFERENCE)


def container(items: list[Manifest], name: str) -> dict[str, Any]:
    (found,) = [pod["spec"]["containers"] for owner, pod in pods(items) if owner == f"xinstruct-{name}"]
    return dict(found[0])


def has_address(service: Manifest) -> bool:
    """Whether a Service has an address of its own; a headless one has those of its pods."""
    return service["spec"].get("clusterIP") != "None"


def run(code: str, variables: Mapping[str, str]) -> str:
    """What Python prints with a container's variables and no others."""
    return subprocess.run(
        [sys.executable, "-c", code], env=dict(variables), check=True, capture_output=True, text=True
    ).stdout.strip()


# ── Addresses ─────────────────────────────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize("name", PROFILES)
def test_the_services_of_xinstruct_ask_addresses_that_this_chart_makes(name: str) -> None:
    services = filter(has_address, of_kind(served(SMALL), "Service"))
    addresses = {f"http://{item['metadata']['name']}" for item in services}
    asked = profile(name)["config"]["inference"]
    assert {role["url"].removesuffix("/v1") for role in asked.values()} == addresses


@pytest.mark.parametrize(("models", "services"), [("small", "small"), ("gpu", "gpu")])
def test_the_services_of_xinstruct_ask_each_model_as_its_server_wants_to_be_asked(models: str, services: str) -> None:
    own, defaults = profile(models, INFERENCE)["models"], read(INFERENCE.folder / "values.yaml")["models"]
    kinds = {"predictor": "kserve", "vllm": "openai", "openai": "openai", "tgi": "tgi"}
    for role, asked in profile(services)["config"]["inference"].items():
        runtime = (defaults[role] | own[role]).get("runtime", "predictor")
        assert asked["kind"] == kinds[runtime], role


def test_the_head_of_standard_says_how_the_evaluator_is_asked_with_this_charts_profile_and_without_it() -> None:
    head = re.split(r"^\w", (PROFILE_FILES / "standard.yaml").read_text("utf-8"), maxsplit=1, flags=re.MULTILINE)[0]
    values = with_all(profile("standard"), dict(re.findall(r"--set (\S+)=(\S+)", head)))
    assert "profiles/gpu.yaml" in head
    assert profile("gpu", INFERENCE)["models"]["evaluator"]["runtime"] == "vllm"
    assert profile("standard")["config"]["inference"]["evaluator"]["kind"] == "openai"
    assert read(INFERENCE.folder / "values.yaml")["defaults"]["runtime"] == "predictor"
    assert values["config"]["inference"]["evaluator"] == profile("small")["config"]["inference"]["evaluator"]


@pytest.mark.parametrize(("models", "services"), [("small", "small"), ("gpu", "gpu")])
@either_way
def test_both_charts_fit_into_one_namespace(models: str, services: str, kserve: str) -> None:
    values = changed(profile(models, INFERENCE), "kserve.enabled", kserve)
    here = manifests(values, apis=OPTIONAL_APIS, of=INFERENCE)
    there = rendered(profile(services), apis=OPTIONAL_APIS, release="xinstruct")
    both = [*here, *(item for name, text in there.items() if name.endswith(".yaml") for item in documents(text))]
    names = [(item["kind"], item["metadata"]["name"]) for item in both]
    assert [name for name in names if names.count(name) > 1] == []


@runtimes
def test_a_model_has_one_address_whether_kserve_serves_it_or_not(runtime: str) -> None:
    values = with_all(SMALL, RUNTIMES[runtime])
    plain, kserve = (of_kind(served(values, choice), "Service") for choice in ("never", "always"))
    assert plain == kserve
    for item in filter(has_address, plain):
        assert item["spec"]["ports"][0] == {"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}


@either_way
def test_grpc_finds_each_pod_of_a_predictor_by_a_name_without_an_address(kserve: str) -> None:
    services = of_kind(served(SMALL, kserve), "Service")
    (headless,) = [item for item in services if not has_address(item)]
    assert headless["metadata"]["name"] == "xinstruct-evaluator-pods"
    # No address translates ports: a pod has to listen on that of the name.
    (port,) = headless["spec"]["ports"]
    found = {item["name"]: item["containerPort"] for item in container(served(SMALL, kserve), "evaluator")["ports"]}
    assert port["port"] == port["targetPort"] == found["grpc"]
    (evaluator,) = [item for item in services if item["metadata"]["name"] == "xinstruct-evaluator"]
    assert headless["spec"]["selector"] == evaluator["spec"]["selector"]


@pytest.mark.parametrize(("runtime", "role"), [("predictor", "evaluator"), ("openai", "generator")])
def test_a_server_in_our_image_is_started_as_a_module_for_the_image_has_no_command_of_a_library(
    runtime: str, role: str
) -> None:
    command = container(served(with_all(SMALL, RUNTIMES[runtime])), role)["command"]
    assert command[:2] == ["python", "-m"] and find_spec(command[2])


@runtimes
@either_way
def test_a_server_listens_where_its_service_and_its_probes_look(runtime: str, kserve: str) -> None:
    role = "evaluator" if runtime == "predictor" else "generator"
    found = container(served(with_all(SMALL, RUNTIMES[runtime]), kserve), role)
    port = found["args"][found["args"].index("--http-port" if runtime == "predictor" else "--port") + 1]
    assert int(port) == found["ports"][0]["containerPort"] == 8080
    assert {found[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {8080}


def test_the_predictors_arguments_are_those_of_its_parser() -> None:
    found = container(served(changed(SMALL, "models.evaluator.modelDigest", DIGEST)), "evaluator")
    assert found["command"] == ["python", "-m", "xinstruct.predictor"]
    options = found["args"][::2]
    assert options == ["--role", "--model-dir", "--http-port", "--grpc-port", "--drain-s", "--model-digest"]


# ── Models, and no hub ────────────────────────────────────────────────────────────────────────────────────────────────

@runtimes
@either_way
def test_no_server_may_ask_a_hub(runtime: str, kserve: str) -> None:
    items = served(with_all(SMALL, RUNTIMES[runtime]), kserve)
    for _, pod in pods(items):
        variables = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0]["env"]}
        assert variables["HF_HUB_OFFLINE"] == "1" and variables["DO_NOT_TRACK"] == "1"
    (policy,) = of_kind(items, "NetworkPolicy")
    assert [{port["port"] for port in rule["ports"]} for rule in policy["spec"]["egress"]] == [{53, 5353}]


@runtimes
@either_way
def test_a_library_that_asks_who_it_runs_as_is_answered_though_no_passwd_file_knows_the_user(
    runtime: str, kserve: str
) -> None:
    for _, pod in pods(served(with_all(SMALL, RUNTIMES[runtime]), kserve)):
        (found,) = pod["spec"]["containers"]
        variables = {entry["name"]: entry["value"] for entry in found["env"]}
        assert run("import getpass; print(getpass.getuser())", variables) == variables["USER"] == "xinstruct"


@runtimes
@either_way
def test_every_server_loads_the_folder_that_is_mounted(runtime: str, kserve: str) -> None:
    for item in pods(served(with_all(SMALL, RUNTIMES[runtime]), kserve)):
        (found,) = item[1]["spec"]["containers"]
        assert "/mnt/models" in [*found["command"], *found["args"]]


@pytest.mark.parametrize(("uri", "claim", "path"), [
    ("pvc://claim/models/one", "claim", "models/one"), ("pvc://claim/", "claim", None), ("pvc://claim", "claim", None),
])
def test_a_claim_is_mounted_read_only_at_its_path(uri: str, claim: str, path: str | None) -> None:
    items = served(changed(SMALL, "models.generator.storageUri", uri))
    pod = named(items, "Deployment", "generator", INFERENCE)["spec"]["template"]["spec"]
    assert {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}} in pod["volumes"]
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "model"]
    assert (mount["mountPath"], mount["readOnly"], mount.get("subPath")) == ("/mnt/models", True, path)
    assert "initContainers" not in pod


def test_a_folder_of_an_object_store_is_fetched_before_the_server_starts_with_credentials_by_reference() -> None:
    items = served(changed(GPU, "objectStore.endpointUrl", "https://store.example"))
    pod = named(items, "Deployment", "generator", INFERENCE)["spec"]["template"]["spec"]
    (fetch,) = pod["initContainers"]
    assert fetch["args"][1] == "s3://xinstruct/models/generator"
    variables = {entry["name"]: entry for entry in fetch["env"]}
    assert variables["AWS_SECRET_ACCESS_KEY"]["valueFrom"] == {
        "secretKeyRef": {"name": "xinstruct-object-store", "key": "AWS_SECRET_ACCESS_KEY"}}
    assert variables["AWS_ENDPOINT_URL"]["value"] == "https://store.example"
    assert "AWS" not in str(pod["containers"][0]["env"])
    kserve = named(served(GPU, "always"), "InferenceService", "generator", INFERENCE)
    assert kserve["spec"]["predictor"]["model"]["storageUri"] == "s3://xinstruct/models/generator"
    assert kserve["metadata"]["annotations"]["serving.kserve.io/storageSecretName"] == "xinstruct-object-store"


def test_the_stores_authority_is_where_its_client_looks_and_nowhere_else() -> None:
    values = changed(GPU, "objectStore.caSecret", {"name": "store-ca", "key": "bundle.pem"})
    pod = named(served(values), "Deployment", "generator", INFERENCE)["spec"]["template"]["spec"]
    (fetch,), (server,) = pod["initContainers"], pod["containers"]
    (file,) = [entry["value"] for entry in fetch["env"] if entry["name"] == "AWS_CA_BUNDLE"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "object-store-ca"]
    (mount,) = [mount for mount in fetch["volumeMounts"] if mount["name"] == volume["name"]]
    (item,) = volume["secret"]["items"]
    assert (volume["secret"]["secretName"], item["key"]) == ("store-ca", "bundle.pem")
    assert (f"{mount['mountPath']}/{item['path']}", mount["readOnly"]) == (file, True)
    assert volume["name"] not in {mount["name"] for mount in server["volumeMounts"]}
    claimed = named(served(changed(values, "models.generator.storageUri", "pvc://c/m")), "Deployment", "generator",
                    INFERENCE)["spec"]["template"]["spec"]
    assert "object-store-ca" not in {volume["name"] for volume in claimed["volumes"]}


def test_the_region_of_the_object_store_reaches_its_client_in_both_charts() -> None:
    values = changed(profile("standard"), "objectStore.region", "eu-north-7")
    server = named(manifests(values), "StatefulSet", "curation")["spec"]["template"]["spec"]["containers"][0]
    fetch = named(served(changed(GPU, "objectStore.region", "eu-north-7")), "Deployment", "generator", INFERENCE)
    for found in (server, fetch["spec"]["template"]["spec"]["initContainers"][0]):
        variables = {entry["name"]: entry["value"] for entry in found["env"] if "value" in entry}
        client = 'import botocore.session as s; print(s.get_session().create_client("s3").meta.region_name)'
        assert run(client, variables) == "eu-north-7"


def test_only_pods_whose_model_is_in_an_object_store_reach_one() -> None:
    items = served(changed(GPU, "models.evaluator.storageUri", "pvc://claim/model"))
    store = named(items, "NetworkPolicy", "servers-store", INFERENCE)["spec"]
    (chosen,) = store["podSelector"]["matchExpressions"]
    assert chosen["values"] == ["generator"]
    assert [port["port"] for port in store["egress"][0]["ports"]] == [443]


def test_fetching_a_folder_copies_all_of_it(tmp_path: Any) -> None:
    (tmp_path / "store/model/deep").mkdir(parents=True)
    (tmp_path / "store/model/config.json").write_text("{}")
    (tmp_path / "store/model/deep/weights").write_text("w")
    pod = named(served(GPU), "Deployment", "generator", INFERENCE)["spec"]["template"]["spec"]
    code = pod["initContainers"][0]["args"][0].replace("/mnt/models", str(tmp_path / "here"))
    subprocess.run([sys.executable, "-c", code, f"file://{tmp_path}/store/model"], check=True)
    found = {str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert found == {"config.json", "deep/weights"}


def test_fetching_ends_when_it_is_told_to_though_it_is_process_1_of_its_pod() -> None:
    pod = named(served(GPU), "Deployment", "generator", INFERENCE)["spec"]["template"]["spec"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        store = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "AWS_DEFAULT_REGION": "eu-north-7",
                 "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        fetch = subprocess.Popen([sys.executable, "-c", pod["initContainers"][0]["args"][0], "s3://models/one"],
                                 env=os.environ | store)
        with silent.accept()[0]:
            fetch.terminate()
            assert fetch.wait(10) == 143, "a handler's: what a signal alone ends, process 1 sleeps through"


# ── KServe ────────────────────────────────────────────────────────────────────────────────────────────────────────────

@pytest.mark.parametrize(("choice", "apis", "kind"), [
    ("auto", (KSERVE,), "InferenceService"), ("auto", (), "Deployment"), ("always", (), "InferenceService"),
    ("never", (KSERVE,), "Deployment"),
])
def test_kserve_serves_where_it_is_there_or_forced(choice: str, apis: tuple[str, ...], kind: str) -> None:
    kinds = {item["kind"] for item in served(SMALL, choice, apis)}
    assert kinds & {"InferenceService", "ServingRuntime", "Deployment"} == (
        {"Deployment"} if kind == "Deployment" else {"InferenceService", "ServingRuntime"})


def test_an_inference_service_is_of_standard_mode_and_of_its_own_runtime() -> None:
    items = served(SMALL, "always")
    for item in of_kind(items, "InferenceService"):
        assert item["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
        model = item["spec"]["predictor"]["model"]
        runtime = named(items, "ServingRuntime", item["metadata"]["name"].removeprefix("xinstruct-"), INFERENCE)
        (offered,) = runtime["spec"]["supportedModelFormats"]
        assert offered == {**model["modelFormat"], "autoSelect": False}
        assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]


def test_the_pods_are_the_same_with_kserve_and_without_it_but_for_the_volume_of_the_model() -> None:
    for name in ("generator", "evaluator"):
        plain, kserve = (container(served(SMALL, choice), name) for choice in ("never", "always"))
        plain["volumeMounts"] = [mount for mount in plain["volumeMounts"] if mount["name"] != "model"]
        assert plain | {"name": ""} == kserve | {"name": ""}


def test_what_promotion_changes_is_in_the_inference_service_alone() -> None:
    before = served(SMALL, "always")
    after = served(with_all(SMALL, {
        "models.evaluator.storageUri": "pvc://claim/next", "models.evaluator.modelDigest": DIGEST}), "always")
    different = [item for item in after if item not in before]
    assert [(item["kind"], item["metadata"]["name"]) for item in different] == [
        ("InferenceService", "xinstruct-evaluator")]
    model = different[0]["spec"]["predictor"]["model"]
    assert (model["storageUri"], model["args"]) == ("pvc://claim/next", ["--model-digest", DIGEST])


def test_what_training_decides_of_a_model_that_it_promotes_is_never_rendered() -> None:
    # Also not at the first installation: Argo CD and its like render as if each time were the first.
    values = with_all(SMALL, {"models.evaluator": {"promoted": True}, "kserve.enabled": "always"})
    for upgrade in (False, True):
        text = rendered(values, of=INFERENCE, upgrade=upgrade)["inferenceservices.yaml"]
        evaluator = next(part for part in text.split("---") if "name: xinstruct-evaluator\n" in part)
        assert not re.search(r"storageUri|args:|--model-digest|serving.kserve.io/stop|model-digest", evaluator)


def test_the_pod_of_a_model_that_is_to_be_promoted_waits_for_it_and_that_of_another_fails_without() -> None:
    promoted = with_all(SMALL, {"models.evaluator": {"promoted": True}})
    assert "--await-model" in container(served(promoted, "always"), "evaluator")["args"]
    assert "--await-model" not in container(served(SMALL, "always"), "evaluator")["args"]


def test_a_second_evaluator_has_its_own_of_everything() -> None:
    slot = {"role": "evaluator", "promoted": True}
    slots = {f"models.evaluator-{name}": slot for name in ("a", "b")}
    values = with_all(SMALL, {"models.evaluator.enabled": False, **slots})
    items = served(values, "always")
    for kind in ("InferenceService", "ServingRuntime", "Service", "PodDisruptionBudget", "ServiceAccount"):
        names = {item["metadata"]["name"] for item in of_kind(items, kind) if kind != "Service" or has_address(item)}
        assert names == {"xinstruct-evaluator-a", "xinstruct-evaluator-b", "xinstruct-generator"}, kind
    assert container(items, "evaluator-b")["args"][:2] == ["--role", "evaluator"]


@pytest.mark.parametrize("name", ["small", "gpu"])
def test_operators_take_their_kinds_of_models_and_know_each_field(name: str) -> None:
    need_crds()
    values = {"small": changed(SMALL, "models.evaluator.modelDigest", DIGEST), "gpu": GPU}[name]
    items = [item for item in served(values, "always", OPTIONAL_APIS) if is_custom(item)]
    assert {"InferenceService", "ServingRuntime"} <= {item["kind"] for item in items}
    assert [fault for item in items for fault in crds.faults(item, KUBERNETES[-1])] == []


# ── GPUs ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

@either_way
def test_a_model_on_gpus_asks_for_them_and_for_nodes_that_have_some(kserve: str) -> None:
    for _, pod in pods(served(GPU, kserve)):
        (found,) = pod["spec"]["containers"]
        assert found["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
        assert pod["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize(("rollout", "surge"), [("surge", 1), ("replace", 0)])
def test_the_last_gpu_is_freed_before_the_next_pod_wants_it(rollout: str, surge: int) -> None:
    values = changed(SMALL, "models.generator.rollout", rollout)
    wanted = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": 1 - surge}}
    assert named(served(values), "Deployment", "generator", INFERENCE)["spec"]["strategy"] == wanted
    service = named(served(values, "always"), "InferenceService", "generator", INFERENCE)
    assert service["spec"]["predictor"]["deploymentStrategy"] == wanted
