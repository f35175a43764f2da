"""The profiles: what people start from is right for each Kubernetes that is promised, and its configurations work."""

from __future__ import annotations

import re
import time
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from architecture.source import ROOT
from charts.golden_files import GOLDEN, golden, golden_file
from charts.rendering import (
    CHARTS,
    KUBERNETES,
    OPTIONAL_APIS,
    PROFILES,
    SERVICES,
    OurChart,
    chart,
    lint_faults,
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
"""Of the chart of services."""
all_profiles = pytest.mark.parametrize(
    ("of", "name"), [pytest.param(of, name, id=f"{of.name}:{name}") for of in CHARTS for name in of.profiles]
)
both = pytest.mark.parametrize("of", CHARTS, ids=lambda of: of.name)

RENDER_S_MAX = 2.0


@all_profiles
def test_helm_lint_has_nothing_against_a_profile(of: OurChart, name: str) -> None:
    assert lint_faults(profile(name, of), KUBERNETES[0], of) == []


@all_profiles
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_manifest_of_a_profile_and_knows_each_field(
    of: OurChart, name: str, version: str
) -> None:
    items = manifests(profile(name, of), apis=OPTIONAL_APIS, kubernetes=version, of=of)
    items += manifests(profile(name, of), kubernetes=version, of=of)  # without any operator
    wrong = [fault for item in items if not is_custom(item) for fault in faults(item, version)]
    assert not wrong, "\n".join(wrong)


@all_profiles
def test_no_key_of_a_manifest_stands_twice(of: OurChart, name: str) -> None:
    # Kubernetes would take the second, without a word.
    for file, text in rendered(profile(name, of), apis=OPTIONAL_APIS, of=of).items():
        if file.endswith(".yaml"):
            assert list(YAML(typ="safe").load_all(text)) is not None, file  # refuses such a key


@all_profiles
def test_a_profile_gives_what_its_golden_file_says(of: OurChart, name: str) -> None:
    assert golden(name, of) == golden_file(name, of).read_text("utf-8"), "if it was meant: make golden-charts"


def test_there_is_a_golden_file_for_each_profile_and_no_other() -> None:
    assert set(GOLDEN.iterdir()) == {golden_file(name, of) for of in CHARTS for name in of.profiles}
    for of in CHARTS:
        assert {path.stem for path in (of.folder / "profiles").iterdir()} == set(of.profiles)


@all_profiles
def test_a_profile_renders_the_same_twice_and_within_two_seconds(of: OurChart, name: str) -> None:
    begin = time.monotonic()
    first = rendered(profile(name, of), apis=OPTIONAL_APIS, of=of)
    assert time.monotonic() - begin <= RENDER_S_MAX
    assert rendered(profile(name, of), apis=OPTIONAL_APIS, of=of) == first


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


@both
def test_no_template_is_random_or_looks_at_a_cluster_or_at_what_was_installed_before(of: OurChart) -> None:
    wrong = [f"{item['name']}: {word}" for item in chart(of).templates for word in undecided(item["data"])]
    assert not wrong, wrong


@pytest.mark.parametrize(("template", "words"), [
    ("{{ lookup \"v1\" \"Secret\" }}", ["lookup"]),
    ("{{- $x := (lookup \"v1\").data | default (randAlphaNum 8) }}", ["lookup", "randAlphaNum"]),
    ("{{ if and $m.x $.Release.IsInstall }}", [".Release.IsInstall"]),
    ("{{ .Release.IsUpgrade }}{{ .Release.Revision }}", [".Release.IsUpgrade", ".Release.Revision"]),
    ("{{/* never lookup */}}now {{ \"genCA\" }} {{ .Values.now }} {{ $now }}", []),
])
def test_what_gives_another_manifest_another_time_is_found(template: str, words: list[str]) -> None:
    assert undecided(template) == words


def undecided(template: str) -> list[str]:
    """Words of a template whose value is not decided by chart and values: chance, clock, cluster, history."""
    actions = " ".join(re.findall(r"\{\{-?(?!\s*/\*)(.*?)\}\}", template, re.DOTALL))
    return re.findall(
        r"\.Release\.(?:IsInstall|IsUpgrade|Revision)\b|(?<![\w.$])(?:lookup|now|ago|rand\w+|shuffle|uuidv4|htpasswd|bcrypt"
        r"|genCA\w*|genSelf\w*|genSigned\w*|genPrivateKey|encryptAES|derivePassword|getHostByName)\b",
        re.sub(r'"(?:\\.|[^"\\])*"|`[^`]*`', '""', actions),
    )


@both
def test_the_chart_installs_the_version_of_the_code(of: OurChart) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert read(of.folder / "Chart.yaml")["appVersion"] == version


@both
def test_the_chart_promises_no_kubernetes_that_is_not_checked(of: OurChart) -> None:
    oldest = KUBERNETES[0].rpartition(".")[0]
    assert read(of.folder / "Chart.yaml")["kubeVersion"] == f">={oldest}.0-0"
