"""The charts through real Helm 4 (its Go library, by helm-python-sdk), as `helm template` would see it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
OPTIONAL_APIS = (
    "keda.sh/v1alpha1", "monitoring.coreos.com/v1", "cert-manager.io/v1", "serving.kserve.io/v1beta1",
    "trainer.kubeflow.org/v1alpha1",
)
"""APIs of operators whose kinds are made where they are there."""
PROFILES: Mapping[str, tuple[str, ...]] = {"small": ("small",), "standard": ("standard",), "gpu": ("standard", "gpu")}
"""Profile → files under profiles/, the later over the earlier."""
SERVICES = ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation")



@dataclass(frozen=True, eq=False)
class OurChart:
    """One of our charts: what names of its objects begin with, and its profiles: files, the later over the earlier."""

    name: str
    prefix: str
    profiles: Mapping[str, tuple[str, ...]]

    @property
    def folder(self) -> Path:
        """Where it stands."""
        return ROOT / "charts" / self.name


XINSTRUCT = OurChart("xinstruct", f"{RELEASE}-xinstruct", PROFILES)
INFERENCE = OurChart("inference", "xinstruct", {"small": ("small",), "gpu": ("gpu",)})
CHARTS = (XINSTRUCT, INFERENCE)

Values = dict[str, Any]
Manifest = dict[str, Any]


def manifests(
    values: Values, *, apis: Iterable[str] = (), kubernetes: str = KUBERNETES[-2], of: OurChart = XINSTRUCT
) -> list[Manifest]:
    """Every object that `values` give, by template file; shared by tests, which only read. HelmError with a reason."""
    files = rendered(values, apis=apis, kubernetes=kubernetes, of=of)
    return [item for name, text in files.items() if name.endswith(".yaml") for item in documents(text)]


def rendered(
    values: Values, *, apis: Iterable[str] = (), kubernetes: str = KUBERNETES[-2], of: OurChart = XINSTRUCT,
    upgrade: bool = False, release: str = RELEASE, namespace: str = NAMESPACE,
) -> dict[str, str]:
    """File of the chart's templates → its text, checked against the schema first as `helm install` does."""
    chart(of).validate_schema(values)
    # The Python method of the same name does not pass on the APIs of the cluster, which the library takes.
    options = {"name": release, "namespace": namespace, "api_versions": list(apis), "kube_version": f"v{kubernetes}"}
    options |= {"is_upgrade": upgrade, "is_install": not upgrade}
    text = _native.call_string("helm_render", chart(of)._raw(), json.dumps(values), json.dumps(options))
    return {name.partition("templates/")[2]: content for name, content in sorted(json.loads(text).items())}


def lint_faults(values: Values, kubernetes: str, of: OurChart = XINSTRUCT) -> list[Any]:
    """What `helm lint --strict` has against these values, advice left out (it misses an icon)."""
    report = helm_python.lint(of.folder, values, strict=True, kube_version=f"v{kubernetes}")
    advice = 1
    return [item for item in report["messages"] if item["severity"] > advice] + list(report["errors"])


@cache
def chart(of: OurChart = XINSTRUCT) -> helm_python.Chart:
    """The chart, loaded once."""
    return helm_python.Chart.load(of.folder)


def profile(name: str, of: OurChart = XINSTRUCT) -> Values:
    """The values of a profile; a new copy each time."""
    return copy.deepcopy(_profile(name, of))


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


def named(items: Iterable[Manifest], kind: str, suffix: str, of: OurChart = XINSTRUCT) -> Manifest:
    """The one of `kind` whose name ends with the suffix."""
    (found,) = [item for item in of_kind(items, kind) if item["metadata"]["name"] == f"{of.prefix}-{suffix}"]
    return found


def pods(items: Iterable[Manifest]) -> list[tuple[str, Manifest]]:
    """(name of its owner, pod template) of everything that makes pods: KServe's as its controller makes them, and those
    of training jobs to come."""
    found = list(items)
    owners = of_kind(found, "StatefulSet", "Deployment", "DaemonSet", "Job")
    made = [(item["metadata"]["name"], item["spec"]["template"]) for item in owners]
    made += [(item["metadata"]["name"], _predictor(item, found)) for item in of_kind(found, "InferenceService")]
    return made + [("a training job", job["template"]) for job in training_jobs(found)]


def before_the_release(items: Iterable[Manifest]) -> list[Manifest]:
    """Jobs that an installation or an upgrade waits for: not that of `helm test`."""
    return [job for job in of_kind(items, "Job") if job["metadata"]["annotations"]["helm.sh/hook"] != "test"]


def training_jobs(items: Sequence[Manifest]) -> list[Manifest]:
    """The spec of the Job that each training job will be, made by training or by the Trainer; none where local."""
    runtimes = [item["spec"]["template"]["spec"]["replicatedJobs"] for item in of_kind(items, "TrainingRuntime")]
    manifest = job_manifest(items)
    plain = [manifest["spec"]] if manifest.get("kind") == "Job" else []
    return plain + [job["template"]["spec"] for (job,) in runtimes]


def job_manifest(items: Sequence[Manifest]) -> Manifest:
    """The object that training makes each job's of; {} where jobs are local."""
    files = [item["data"] for item in of_kind(items, "ConfigMap") if "job.json" in item["data"]]
    return dict(json.loads(files[0]["job.json"])) if files else {}


def _predictor(service: Manifest, items: list[Manifest]) -> Manifest:
    """The pod template of an InferenceService: its runtime's container with its own arguments and resources."""
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    (runtime,) = [item for item in of_kind(items, "ServingRuntime") if item["metadata"]["name"] == model["runtime"]]
    (container,) = runtime["spec"]["containers"]
    both = container | {"args": [*container["args"], *model.get("args", ())], "resources": model["resources"]}
    return {
        "metadata": {"labels": service["metadata"]["labels"] | predictor.get("labels", {})},
        "spec": predictor | {"containers": [both], "volumes": runtime["spec"]["volumes"]},
    }


@cache
def _profile(name: str, of: OurChart) -> Values:
    made: Values = {}
    for file in of.profiles[name]:
        made = merged(made, read(of.folder / "profiles" / f"{file}.yaml"))
    return made


def merged(below: Values, above: Values) -> Values:
    """As Helm merges files of values: maps key by key, the rest replaced."""
    both = {key: merged(below[key], item) for key, item in above.items()
            if isinstance(item, dict) and isinstance(below.get(key), dict)}
    return below | above | both
