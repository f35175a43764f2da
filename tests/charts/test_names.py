"""What manifests take out of values: numbers, names and labels, whichever the schema lets through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
from ruamel.yaml import YAML

from charts.rendering import (
    CHARTS,
    INFERENCE,
    OPTIONAL_APIS,
    XINSTRUCT,
    OurChart,
    Values,
    changed,
    chart,
    job_manifest,
    of_kind,
    pods,
    profile,
    rendered,
)
from charts.test_values import PEER, VALUES, leaves

both = pytest.mark.parametrize("of", CHARTS, ids=lambda of: of.name)
MANY = 1_234_567
SCALED: Values = {"kind": "keda"}
WAYS: dict[str, list[Values]] = {
    "xinstruct": [
        {"services.backgen.scaling": SCALED, "config.training.jobs.kind": "kubernetes",
         "tests.mainJob.enabled": True, "networkPolicy.crawl.privateTo": [PEER]},
        {"config.training.jobs.kind": "kubernetes", "trainingJobs.trainJob": "never",
         "tls": {"enabled": True, "issuer": {"name": "house"}}},
    ],
    "inference": [{"models.evaluator.scaling": SCALED}, {"kserve.enabled": "never"}],
}
"""Chart → values with which all of its numbers are in some manifest."""


@both
def test_a_number_is_written_in_digits_however_big_it_is(of: OurChart) -> None:
    numbers = list(unlimited(of))
    written: set[str] = set()
    for way in WAYS[of.name]:
        values = with_all(profile("small", of), way)
        for number, path in enumerate(numbers):
            values = changed(values, path, MANY + number)
        text = "\n".join(rendered(values, apis=OPTIONAL_APIS, of=of).values())
        assert not re.findall(r"^.*\d[eE]\+\d.*$", text, re.MULTILINE)
        written |= {path for number, path in enumerate(numbers) if str(MANY + number) in text}
    assert numbers and set(numbers) == written


GIVEN: dict[str, Values] = {
    "inference": {
        "commonLabels": {"team": "all", "house": "ours"}, "commonAnnotations": {"team": "annotated"},
        "defaults.podLabels": {"team": "pods"}, "monitoring.labels": {"team": "watchers"},
    },
}
GIVEN["xinstruct"] = GIVEN["inference"] | {
    "trainingJobs.labels": {"team": "queue"}, "trainingJobs.podLabels": {"team": "trainers"},
}


@pytest.mark.parametrize(("of", "number"), [pytest.param(of, number, id=of.name) for of in CHARTS for number in (0, 1)])
def test_a_label_that_stands_in_several_values_is_written_once_and_the_nearest_wins(of: OurChart, number: int) -> None:
    files = rendered(with_all(profile("small", of), WAYS[of.name][number] | GIVEN[of.name]), apis=OPTIONAL_APIS, of=of)
    strict = YAML(typ="safe")  # refuses a key that stands twice
    items = [item for name, text in files.items() if name.endswith(".yaml") for item in strict.load_all(text) if item]
    watching = of_kind(items, "ServiceMonitor", "PrometheusRule")
    teams = {item["kind"]: item["metadata"]["labels"]["team"] for item in [*watching, *of_kind(items, "Service")]}
    assert teams.pop("Service") == "all" and set(teams.values()) == {"watchers"}
    assert all(item["metadata"]["labels"]["house"] == "ours" for item in items)
    labels = {owner: pod["metadata"]["labels"] for owner, pod in pods(items)}
    assert {label["house"] for label in labels.values()} == {"ours"}
    if of is XINSTRUCT:
        assert labels["a training job"]["team"] == "trainers" and labels[f"{of.prefix}-backgen"]["team"] == "pods"
        assert job_manifest(items)["metadata"]["labels"]["team"] == "queue"
    else:
        assert {label["team"] for label in labels.values()} == {"pods"}


@both
@pytest.mark.parametrize("path", ["nameOverride", "fullnameOverride"])
@pytest.mark.parametrize("name", ["v1.2", "1st", "-x", "x-"])
def test_a_name_that_no_service_can_have_is_refused(of: OurChart, path: str, name: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match="pattern"):
        rendered(changed(profile("small", of), path, name), of=of)


@pytest.mark.parametrize("release", ["v1.2", "1st"])
def test_a_release_whose_name_no_service_can_have_is_refused_unless_another_is_given(release: str) -> None:
    with pytest.raises(helm_python.HelmError, match=f"begin with {release}-xinstruct, .* set fullnameOverride"):
        rendered(profile("small"), release=release)
    assert rendered(changed(profile("small"), "fullnameOverride", "house"), release=release)
    # That of the models names no object.
    assert rendered(profile("small", INFERENCE), of=INFERENCE, release=release)


def unlimited(of: OurChart) -> Iterator[str]:
    """Paths of the numbers that may be a million."""
    for path in leaves(VALUES[of]):
        value: Any = VALUES[of]
        for key in path.split("."):
            value = value[key]
        if isinstance(value, int) and not isinstance(value, bool):
            try:
                chart(of).validate_schema(changed({}, path, MANY))
            except helm_python.HelmValuesError:
                continue
            yield path


def with_all(values: Values, changes: Values) -> Values:
    """The values with what is at each path of `changes`."""
    for path, value in changes.items():
        values = changed(values, path, value)
    return values
