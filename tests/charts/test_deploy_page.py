"""docs/deploy.md: each of its helm lines is rendered by the real Helm as it stands; its kustomizations build."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    profile,
    read,
    rendered,
)
from charts.test_k8s import FOLDERS, built

PAGE = ROOT / "docs" / "deploy.md"
VARIABLES = {
    "REGISTRY": "registry.example/team", "GENERATOR": "1" * 64, "EVALUATOR": "2" * 64,
    "VLLM_DIGEST": f"sha256:{'3' * 64}",
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
