"""The profiles: what people start from is right for each Kubernetes that is promised, and its configurations work."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import helm_python
import pytest
from ruamel.yaml import YAML

from architecture.source import ROOT
from charts.golden_files import GOLDEN, golden
from charts.rendering import (
    CHART,
    KUBERNETES,
    OPTIONAL_APIS,
    PROFILES,
    SERVICES,
    chart,
    manifests,
    named,
    profile,
    read,
    rendered,
)
from charts.schemas import faults, is_custom
from xinstruct.settings import load_settings
from xinstruct.settings import named as with_name
from xinstruct.spine.log.kafka import KafkaSettings

profiles = pytest.mark.parametrize("name", PROFILES)

RENDER_S_MAX = 2.0


@profiles
def test_helm_lint_has_nothing_against_a_profile(name: str) -> None:
    report = helm_python.lint(CHART, profile(name), strict=True, kube_version=f"v{KUBERNETES[0]}")
    information = 1
    assert [item for item in report["messages"] if item["severity"] > information] == []
    assert report["errors"] == []


@profiles
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest_of_a_profile_and_knows_each_field(name: str, version: str) -> None:
    items = manifests(profile(name), apis=OPTIONAL_APIS, kubernetes=version)
    wrong = [fault for item in items if not is_custom(item) for fault in faults(item, version)]
    assert not wrong, "\n".join(wrong)


@profiles
def test_no_key_of_a_manifest_stands_twice(name: str) -> None:
    # Kubernetes would take the second, without a word.
    for file, text in rendered(profile(name), apis=OPTIONAL_APIS).items():
        if file.endswith(".yaml"):
            assert list(YAML(typ="safe").load_all(text)) is not None, file  # refuses such a key


@profiles
def test_a_profile_gives_what_its_golden_file_says(name: str) -> None:
    assert golden(name) == (GOLDEN / f"{name}.yaml").read_text("utf-8"), "if it was meant: make golden-charts"


def test_there_is_a_golden_file_for_each_profile_and_no_other() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(PROFILES)
    assert {path.stem for path in (CHART / "profiles").iterdir()} == set(PROFILES)


@profiles
def test_a_profile_renders_the_same_twice_and_within_two_seconds(name: str) -> None:
    begin = time.monotonic()
    first = rendered(profile(name), apis=OPTIONAL_APIS)
    assert time.monotonic() - begin <= RENDER_S_MAX
    assert rendered(profile(name), apis=OPTIONAL_APIS) == first


@profiles
@pytest.mark.parametrize("service", SERVICES)
def test_the_services_take_the_configuration_that_the_chart_writes(name: str, service: str, tmp_path: Path) -> None:
    text = named(manifests(profile(name)), "ConfigMap", service)["data"]["config.yaml"]
    file = tmp_path / "config.yaml"
    file.write_text(text, "utf-8")
    settings = with_name(load_settings(file, [service]), f"{service}-0")
    assert isinstance(settings.log, KafkaSettings)
    assert settings.addresses[service] == f"try-xinstruct-{service}.lab.svc:7700"
    assert settings.home == "/var/lib/xinstruct"


@profiles
def test_the_jobs_take_the_configuration_that_the_chart_writes(name: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(named(manifests(profile(name)), "ConfigMap", "jobs")["data"]["config.yaml"], "utf-8")
    settings = load_settings(file)
    assert settings.database_url and settings.log.kind == "kafka"


def test_no_template_is_random_or_looks_at_a_cluster() -> None:
    words = ("lookup ", "rand", "uuidv4", "now ", "genCA", "genSelfSigned", "genSigned", "genPrivateKey", "htpasswd")
    wrong = [
        f"{item['name']}: {word}" for item in chart().templates for word in words if f"{{ {word}" in item["data"]
        or f"({word}" in item["data"] or f"include {word}" in item["data"]
    ]
    assert not wrong, wrong


def test_the_chart_installs_the_version_of_the_code() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert read(CHART / "Chart.yaml")["appVersion"] == version


def test_the_chart_promises_no_kubernetes_that_is_not_checked() -> None:
    oldest = KUBERNETES[0].rpartition(".")[0]
    assert read(CHART / "Chart.yaml")["kubeVersion"] == f">={oldest}.0-0"
