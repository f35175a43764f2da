"""docs/deploy.md: each of its helm lines is rendered by the real Helm as it stands; its kustomizations build."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import yaml

from architecture.source import ROOT
from charts.rendering import (
    CHARTS,
    OPTIONAL_APIS,
    SERVICES,
    Manifest,
    OurChart,
    Values,
    changed,
    documents,
    job_manifest,
    manifests,
    merged,
    of_kind,
    pods,
    profile,
    read,
    rendered,
)
from charts.test_k8s import FOLDERS, built

PAGE = ROOT / "docs" / "deploy.md"
VARIABLES = {
    "REGISTRY": "registry.example/team", "GENERATOR": "1" * 64, "EVALUATOR": "2" * 64,
    "VLLM_DIGEST": f"sha256:{'3' * 64}", "BUCKET": "a-bucket",
}
"""What the page's shell has in them."""
OVER_THE_LAST = "--reset-then-reuse-values"
FLAGS = {OVER_THE_LAST, "--wait", "--logs", "--no-hooks"}
WITH_VALUE = {"-n", "-f", "--set", "--timeout"}
OTHER_VERBS = {"test", "rollback", "uninstall"}


@dataclass(frozen=True)
class Installation:
    """One `helm install` or `helm upgrade` of the page."""

    line: str
    release: str
    of: OurChart
    values: Values
    upgrade: bool


def blocks() -> list[str]:
    """The page's blocks of commands, variables put in and lines that go on joined."""
    text = re.sub(r"\$(\w+)", lambda found: VARIABLES.get(found[1], found[0]), PAGE.read_text("utf-8"))
    return re.findall(r"^```sh\n(.*?)^```", text.replace("\\\n", " "), re.MULTILINE | re.DOTALL)


def lines(program: str) -> Iterator[list[str]]:
    """The words of each command line that begins with `program`."""
    for block in blocks():
        for line in block.splitlines():
            if line.startswith(f"{program} "):
                yield shlex.split(line.partition(" <")[0])


@cache
def installations() -> Sequence[Installation]:
    """In the order of the page: an upgrade goes on from the values that its release has at that place."""
    found: list[Installation] = []
    now: dict[str, Values] = {}
    for _, verb, release, *words in lines("helm"):
        if verb in OTHER_VERBS:
            continue
        assert verb in ("install", "upgrade"), verb
        (of,) = [chart for chart in CHARTS if words[0] == f"charts/{chart.name}"]
        below = now.get(release, {}) if OVER_THE_LAST in words else {}
        now[release] = given(words[1:], below)
        found.append(Installation(shlex.join([verb, release, *words]), release, of, now[release], verb == "upgrade"))
    return found


def given(words: Sequence[str], below: Mapping[str, Any]) -> Values:
    """The values that the options give, over `below`."""
    values, rest = dict(below), list(words)
    while rest:
        option = rest.pop(0)
        if option in FLAGS:
            continue
        assert option in WITH_VALUE, f"the page has an option that no test reads: {option}"
        chosen = rest.pop(0)
        if option == "-f":
            values = merged(values, read(ROOT / chosen))
        elif option == "--set":
            key, _, value = chosen.partition("=")
            values = changed(values, key, yaml.safe_load(value))
    return values


def objects(item: Installation, apis: Sequence[str]) -> list[Manifest]:
    """What the line makes where these APIs are there. HelmError with a reason."""
    files = rendered(
        item.values, apis=apis, of=item.of, upgrade=item.upgrade, release=item.release, namespace="xinstruct"
    )
    return [found for name, text in files.items() if name.endswith(".yaml") for found in documents(text)]


@pytest.mark.parametrize("apis", [(), OPTIONAL_APIS], ids=["no operators", "operators"])
def test_every_helm_line_of_the_page_renders(apis: Sequence[str]) -> None:
    for item in installations():
        if item.values.get("tls", {}).get("enabled") and not apis:
            continue  # that way has cert-manager
        made = objects(item, apis)
        assert of_kind(made, "StatefulSet", "Deployment", "InferenceService"), item.line


def test_the_page_installs_both_charts_and_every_profile_of_theirs() -> None:
    text = PAGE.read_text("utf-8")
    assert {item.of for item in installations()} == set(CHARTS)
    files = {f"{file.relative_to(ROOT)}" for of in CHARTS for file in (of.folder / "profiles").iterdir()}
    assert not [file for file in files if file not in text]


def test_the_page_applies_every_kustomization_or_sends_the_reader_to_it() -> None:
    named = {words[words.index("-k") + 1] for words in lines("kubectl") if "-k" in words}
    by_link = {"k8s/keda"}  # after a Secret of its own: k8s/README.md
    assert named | by_link == {f"k8s/{folder}" for folder in FOLDERS}
    assert all(built(folder.removeprefix("k8s/")) for folder in named)


def test_a_namespace_that_an_operator_watches_is_made_before_the_operator_is_asked_for() -> None:
    text = PAGE.read_text("utf-8")
    made = text.index("kubectl apply -f k8s/kafka/namespace.yaml")
    assert made < text.index("Strimzi 1.2 (watching") < text.index("kubectl apply -k k8s/kafka")


def test_who_finds_no_lag_is_told_where_the_brokers_policy_names_kedas_namespace() -> None:
    (listener,) = read(ROOT / "k8s/kafka/kafka.yaml")["spec"]["kafka"]["listeners"]
    named = {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
             for peer in listener["networkPolicyPeers"]}
    (row,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| nothing scales |")]
    assert "`networkPolicyPeers`" in row and named == {"xinstruct", *re.findall("`(keda)`", row)}


def test_the_page_asks_for_the_services_and_servers_that_the_charts_make() -> None:
    made = {
        f"{item['kind'].lower()}/{item['metadata']['name']}"
        for installation in installations() for item in objects(installation, OPTIONAL_APIS[:3])
    }
    asked = set(re.findall(r"\b((?:statefulset|deployment)/xinstruct-[a-z-]+)", PAGE.read_text("utf-8")))
    assert asked and asked <= made


def test_the_backup_stops_every_service_by_helm_which_gives_back_as_many_pods_as_there_were() -> None:
    (block,) = [block for block in blocks() if "pg_dump" in block]
    first, *_, last = block.splitlines()
    numbers = pods_of_a_small_release(given(shlex.split(first)[4:], profile("small")))
    assert numbers == {f"xinstruct-{name}": 0 for name in SERVICES} | {"xinstruct-kafka": 1, "xinstruct-postgres": 1}
    assert last == "helm rollback xinstruct -n xinstruct --no-hooks"


def test_what_the_page_scales_past_helm_has_the_same_number_of_pods_whatever_the_values_say() -> None:
    # Another number than Helm's own is a conflict at the next upgrade.
    last = {words[words.index("statefulset") + 1]: words[-1] for words in lines("kubectl") if "scale" in words}
    numbers = pods_of_a_small_release(changed(profile("small"), "defaults.replicas", 5))
    assert last == {"xinstruct-kafka": "--replicas=1"} and numbers["xinstruct-kafka"] == 1


def pods_of_a_small_release(values: Values) -> dict[str, int]:
    """Name of each StatefulSet → its pods."""
    made = objects(Installation("helm upgrade", "xinstruct", CHARTS[0], values, upgrade=True), ())
    return {item["metadata"]["name"]: item["spec"]["replicas"] for item in of_kind(made, "StatefulSet")}


def managed() -> tuple[list[Installation], list[Installation]]:
    """What the page does on the cluster with GPUs, from there to its last word on models: to the services, to these."""
    lines_of_it = list(installations())
    while "profiles/gpu.yaml" not in lines_of_it[0].line:
        lines_of_it.pop(0)
    while lines_of_it[-1].of is not CHARTS[1]:
        lines_of_it.pop()
    services, models = ([item for item in lines_of_it if item.of is chart] for chart in CHARTS)
    return services, models


def fit_for(values: Values, apis: Sequence[str]) -> Values:
    """The values without TLS where there is no cert-manager."""
    return values if apis else {key: value for key, value in values.items() if key != "tls"}


def gpu_pods(items: Sequence[Manifest]) -> list[Manifest]:
    """The pods that ask for a GPU, training jobs to come among them."""
    return [pod["spec"] for _, pod in pods(items)
            if any("nvidia.com/gpu" in one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"])]


@pytest.mark.parametrize("apis", [(), OPTIONAL_APIS], ids=["no operators", "operators"])
def test_pods_with_a_gpu_want_the_label_that_the_page_gives_nodes_or_none_as_it_says(apis: Sequence[str]) -> None:
    text = PAGE.read_text("utf-8")
    (label,) = re.findall(r"`kubectl label node NODE (\S+)=true`", text)
    without = re.findall(r"`--set-json (\S+)=\{\}` in step \d", text)
    services, models = managed()
    for item, key in zip((services[0], models[0]), without, strict=True):
        for chosen, wanted in ((item.values, {label: "true"}), (changed(item.values, key, {}), None)):
            found = gpu_pods(objects(replace(item, values=fit_for(chosen, apis)), apis))
            assert found and all(pod.get("nodeSelector") == wanted for pod in found), (item.line, key)


def test_releases_blobs_and_models_are_in_the_bucket_that_the_page_makes() -> None:
    assert "BUCKET=your-bucket\naws s3 mb s3://$BUCKET\n" in PAGE.read_text("utf-8")
    services, models = managed()
    for item in (services[0], models[0]):
        places = re.findall(r"s3://([\w-]+)/", yaml.safe_dump(item.values))
        assert places and set(places) == {VARIABLES["BUCKET"]}, item.line
    copied = [words[-2:] for words in lines("aws") if "--recursive" in words]
    used = {model["storageUri"] for model in models[0].values["models"].values()}
    assert {place for words in copied for place in words if place.startswith("s3://")} == used


def test_the_image_of_vllm_that_the_page_copies_is_the_one_that_the_chart_names() -> None:
    image = merged(read(CHARTS[1].folder / "values.yaml"), profile("gpu", CHARTS[1]))["images"]["vllm"]
    assert f"\nVLLM={image['repository']}:{image['tag']}\n" in PAGE.read_text("utf-8")


def test_helm_waits_longer_for_models_than_their_servers_may_take_to_start() -> None:
    _, models = managed()
    for item in models:
        (minutes,) = re.findall(r"--timeout (\d+)m", item.line)
        assert int(minutes) * 60 > item.values["defaults"]["startupS"]


def test_with_workload_identity_as_the_page_says_nothing_asks_for_keys_and_each_account_has_the_annotation() -> None:
    (emptied,) = re.findall(r"`--set (objectStore\.\S+)=`", PAGE.read_text("utf-8"))
    (annotations,) = re.findall(r"`(\S+\.serviceAccountAnnotations)`", PAGE.read_text("utf-8"))
    services, models = managed()
    for item in (services[0], models[0]):
        values = changed(changed(item.values, emptied, ""), annotations, {"cloud.example/role": "a-role"})
        for apis in (OPTIONAL_APIS, OPTIONAL_APIS[:3]):
            made = objects(replace(item, values=values), apis)
            assert "xinstruct-object-store" in f"{objects(item, apis)}" and "xinstruct-object-store" not in f"{made}"
            accounts = of_kind(made, "ServiceAccount")
            accounts = [one for one in accounts if "helm.sh/hook" not in one["metadata"].get("annotations", {})]
            assert accounts
            assert all(one["metadata"]["annotations"]["cloud.example/role"] == "a-role" for one in accounts)


def test_with_kserve_the_port_of_a_store_is_opened_as_the_page_says() -> None:
    (key, ports) = re.findall(r"`--set '(\S+)=\{([\d,]+)\}'`", PAGE.read_text("utf-8"))[0]
    item = managed()[1][0]
    values = changed(item.values, key, [int(port) for port in ports.split(",")])
    (policy,) = [one for one in of_kind(objects(replace(item, values=values), OPTIONAL_APIS), "NetworkPolicy")
                 if one["metadata"]["name"].endswith("servers-store")]
    assert [one["port"] for one in policy["spec"]["egress"][0]["ports"]] == [443, 9000]


def test_a_trained_generator_is_served_by_vllm_from_the_shared_volume_under_the_digest_that_is_promoted() -> None:
    services, models = managed()
    digest = f"sha256:{VARIABLES['GENERATOR']}"
    for apis in ((), OPTIONAL_APIS):
        made = objects(models[-1], apis)
        ((_, pod),) = [found for found in pods(made) if found[0] == "xinstruct-generator"]
        (server,) = pod["spec"]["containers"]
        assert server["image"].endswith(f"/vllm/vllm-openai@{VARIABLES['VLLM_DIGEST']}")
        assert server["args"][server["args"].index("--served-model-name") + 1] == digest
        folders = [one["subPath"] for one in server["volumeMounts"] if one["name"] == "model"]
        folders += [item["spec"]["predictor"]["model"]["storageUri"].removeprefix("pvc://xinstruct-data/")
                    for item in of_kind(made, "InferenceService") if item["metadata"]["name"] == "xinstruct-generator"]
        assert folders == [f"models/{VARIABLES['GENERATOR']}"]
    last = services[-1].values["config"]
    assert last["inference"]["generator"]["by_digest"] is True
    assert last["training"]["base_model"] == "/var/lib/xinstruct/base"
    block = next(block for block in blocks() if "config.training.base_model=" in block)
    # Until the services know, a promotion by digest is refused; before the server has it, another would answer for it.
    assert re.findall("by_digest=true|xinstruct train|servedName|models promote", block) == [
        "by_digest=true", "xinstruct train", "servedName", "models promote"]


@pytest.mark.parametrize("apis", [(), OPTIONAL_APIS], ids=["no operators", "operators"])
def test_a_trained_evaluator_gets_a_server_that_the_idle_slot_alone_asks(apis: Sequence[str]) -> None:
    services, models = managed()
    (key, url) = re.findall(r"`(services\.scoring-b\.config\S+)=(\S+)`", PAGE.read_text("utf-8"))[0]
    values = changed(services[-1].values, key, url)
    values = changed(values, "config.inference.evaluator.by_digest", value=True)
    asked = {
        name: yaml.safe_load(item["data"]["config.yaml"])["inference"]["evaluator"]
        for item in of_kind(objects(replace(services[-1], values=fit_for(values, apis)), apis), "ConfigMap")
        for name in SERVICES if item["metadata"]["name"].endswith(f"-{name}") and "config.yaml" in item["data"]
    }
    assert asked["scoring-b"]["url"] == url != asked["scoring-a"]["url"] and asked["training"]["by_digest"] is True
    second = {"role": "evaluator", "runtime": "vllm", "storageUri": "pvc://xinstruct-data/models/x", "servedName": "x"}
    made = objects(replace(models[-1], values=changed(models[-1].values, "models.evaluator-b", second)), apis)
    assert f"http://{next(one for one in services_named(made) if one.endswith('-evaluator-b'))}/v1" == url


def services_named(items: Sequence[Manifest]) -> list[str]:
    """Names of the Services."""
    return [item["metadata"]["name"] for item in of_kind(items, "Service")]


def test_without_gpus_the_models_of_the_small_profile_are_asked_as_their_servers_answer() -> None:
    (head,) = re.findall(r"(--set config\.inference\.evaluator\.kind=.*)", (
        CHARTS[0].folder / "profiles/standard.yaml").read_text("utf-8"))
    (more,) = re.findall(r"the services want\s`([^`]+)`", PAGE.read_text("utf-8"))
    values = given([*shlex.split(more), *shlex.split(head)], profile("standard"))
    made = objects(Installation("", "xinstruct", CHARTS[0], values, upgrade=False), OPTIONAL_APIS)
    (settings,) = [item for item in of_kind(made, "ConfigMap") if item["metadata"]["name"] == "xinstruct-backgen"]
    asked = yaml.safe_load(settings["data"]["config.yaml"])["inference"]
    assert (asked["generator"]["kind"], asked["generator"]["by_digest"], asked["evaluator"]["kind"]) == (
        "openai", True, "kserve")
    ((_, training),) = [found for found in pods(made) if found[0] == "xinstruct-training"]
    assert "/xinstruct-model:" in f"/{training['spec']['containers'][0]['image']}"  # the base is in it
    servers = objects(Installation("", "xinstruct-models", CHARTS[1], profile("small", CHARTS[1]), upgrade=False), ())
    assert {asked[role]["url"].removesuffix("/v1") for role in ("generator", "evaluator")} == {
        f"http://{name}" for name in services_named(servers) if not name.endswith("-pods")}


def test_what_capacity_md_measures_a_gpu_by_asks_the_port_and_the_name_of_the_charts_server() -> None:
    page = (ROOT / "docs/capacity.md").read_text("utf-8")
    (command,) = re.findall(r"^vllm bench serve .*?[^\\]\n", page, re.MULTILINE | re.DOTALL)
    words = shlex.split(command.replace("\\\n", " "))
    servers = {name: pod["spec"]["containers"][0] for name, pod in pods(objects(managed()[1][0], ()))}
    args = servers["xinstruct-generator"]["args"]
    for option in ("--port", "--served-model-name"):
        assert words[words.index(option) + 1] == args[args.index(option) + 1]


def test_what_the_page_deletes_of_left_hooks_is_every_object_of_them_and_no_other() -> None:
    (words,) = [words for words in lines("kubectl") if "delete" in words and "-l" in words]
    kinds, selector = words[words.index("delete") + 1], words[words.index("-l") + 1]
    values = merged(profile("small"), {"tests": {"mainJob": {"enabled": True}}})
    values = changed(values, "networkPolicy.crawl.privateTo", [{"podSelector": {}}])
    tried = Installation("helm upgrade", "xinstruct", CHARTS[0], values, upgrade=True)
    for item in (tried, *installations()):
        made = objects(item, OPTIONAL_APIS)
        hooks = [found for found in made if "helm.sh/hook" in found["metadata"].get("annotations", {})]
        assert bool(hooks) == (item.release == "xinstruct")
        assert [x for x in made if x["kind"].lower() in kinds.split(",") and selects(selector, x)] == hooks
    # Jobs that training made, whose pods may be at work.
    in_pods = changed(values, "config.training.jobs.kind", "kubernetes")
    assert not selects(selector, job_manifest(manifests(in_pods)))


def selects(selector: str, item: Manifest) -> bool:
    """Whether a label selector of kubectl takes the object: `key=value` and `key in (…)`, all of them."""
    labels = item["metadata"]["labels"]
    asked = re.findall(r"([\w./-]+)(?:=([\w-]+)| in \(([\w,-]+)\))(?:,|$)", selector)
    assert asked
    return all(labels.get(key) in ([value] if value else several.split(",")) for key, value, several in asked)
