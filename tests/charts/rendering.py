"""The chart through real Helm 4 (its Go library, by helm-python-sdk), as `helm template` would see it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml
from helm_python import _native

from architecture.source import ROOT

CHART = ROOT / "charts" / "xinstruct"
RELEASE, NAMESPACE = "try", "lab"
KUBERNETES = ("1.34.0", "1.35.0", "1.36.0", "1.37.0")
"""Versions of Kubernetes that manifests are checked against."""
OPTIONAL_APIS = ("keda.sh/v1alpha1", "monitoring.coreos.com/v1", "cert-manager.io/v1")
"""APIs of operators whose kinds are made where they are there."""
PROFILES: Mapping[str, tuple[str, ...]] = {"small": ("small",), "standard": ("standard",), "gpu": ("standard", "gpu")}
"""Profile → files under profiles/, the later over the earlier."""
SERVICES = ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation")

Values = dict[str, Any]
Manifest = dict[str, Any]


def manifests(values: Values, *, apis: Iterable[str] = (), kubernetes: str = KUBERNETES[-2]) -> list[Manifest]:
    """Every object that `values` give, by template file; shared by tests, which only read. HelmError with a reason."""
    files = rendered(values, apis=apis, kubernetes=kubernetes)
    return [item for name, text in files.items() if name.endswith(".yaml") for item in documents(text)]


def rendered(
    values: Values, *, apis: Iterable[str] = (), kubernetes: str = KUBERNETES[-2], release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> dict[str, str]:
    """File of the chart's templates → its text, checked against the schema first as `helm install` does."""
    chart().validate_schema(values)
    # The Python method of the same name does not pass on the APIs of the cluster, which the library takes.
    options = {"name": release, "namespace": namespace, "api_versions": list(apis), "kube_version": f"v{kubernetes}"}
    text = _native.call_string("helm_render", chart()._raw(), json.dumps(values), json.dumps(options))
    return {name.partition("templates/")[2]: content for name, content in sorted(json.loads(text).items())}


@cache
def chart() -> helm_python.Chart:
    """The chart, loaded once."""
    return helm_python.Chart.load(CHART)


def profile(name: str) -> Values:
    """The values of a profile; a new copy each time."""
    return copy.deepcopy(_profile(name))


def changed(values: Values, path: str, value: Any) -> Values:
    """A copy of `values` with `value` at the dotted `path`."""
    made = copy.deepcopy(values)
    *folders, last = path.split(".")
    place = made
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value
    return made


@cache
def documents(text: str) -> tuple[Manifest, ...]:
    """The YAML documents of a text, empty ones left out, by the rules of YAML 1.1 as Kubernetes reads them."""
    return tuple(item for item in yaml.load_all(text, Loader=yaml.CSafeLoader) if item)


def read(path: Path) -> Values:
    """The YAML file at `path`."""
    return dict(yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader) or {})


def of_kind(items: Iterable[Manifest], *kinds: str) -> list[Manifest]:
    """Those of the given kinds."""
    return [item for item in items if item["kind"] in kinds]


def named(items: Iterable[Manifest], kind: str, suffix: str) -> Manifest:
    """The one of `kind` whose name ends with the suffix."""
    (found,) = [item for item in of_kind(items, kind) if item["metadata"]["name"] == f"{RELEASE}-xinstruct-{suffix}"]
    return found


def pods(items: Iterable[Manifest]) -> list[tuple[str, Manifest]]:
    """(name of its owner, pod template) of everything that makes pods."""
    owners = of_kind(items, "StatefulSet", "Deployment", "DaemonSet", "Job")
    return [(item["metadata"]["name"], item["spec"]["template"]) for item in owners]


@cache
def _profile(name: str) -> Values:
    made: Values = {}
    for file in PROFILES[name]:
        made = merged(made, read(CHART / "profiles" / f"{file}.yaml"))
    return made


def merged(below: Values, above: Values) -> Values:
    """As Helm merges files of values: maps key by key, the rest replaced."""
    both = {key: merged(below[key], item) for key, item in above.items()
            if isinstance(item, dict) and isinstance(below.get(key), dict)}
    return below | above | both
