"""The values: each is documented, in the schema and used; a wrong one is refused with a sentence."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import pytest

from architecture.source import ROOT
from charts.reads import values_read
from charts.rendering import (
    CHARTS,
    INFERENCE,
    OPTIONAL_APIS,
    SERVICES,
    XINSTRUCT,
    OurChart,
    Values,
    changed,
    chart,
    profile,
    read,
    rendered,
)

both = pytest.mark.parametrize("of", CHARTS, ids=lambda of: of.name)
VALUES = {of: read(of.folder / "values.yaml") for of in CHARTS}
PEER = {"podSelector": {"matchLabels": {"other": "pods"}}}

OTHER: dict[str, Any] = {
    # What a value is changed to, where its own default does not tell what else it could be.
    "imagePullPolicy": "Never", "imageRegistry": "registry.example:5000/ours", "imagePullSecrets": ["pull"],
    "images.digest": f"sha256:{'0' * 64}",
    "tests.mainJob.site": "site.example:80",
    "objectStore.endpointUrl": "https://store.example", "tls.certificate": "never", "tls.issuer.kind": "ClusterIssuer",
    "storage.accessModes": ["ReadWriteOnce"], "monitoring.serviceMonitor": "never", "keda.scaledObject": "never",
    "monitoring.prometheusRule": "never", "defaults.image": "model", "defaults.scaling.kind": "hpa",
    "defaults.tolerations": [{"key": "a", "operator": "Exists"}], "defaults.affinity": {"nodeAffinity": {}},
    "podSecurity.runAsUser": 20000, "podSecurity.fsGroup": 20000, "kafka.storageSize": "1Gi", "storage.size": "1Gi",
    "postgres.storageSize": "1Gi", "defaults.scratchSize": "3Gi", "trainingJobs.scratchSize": "3Gi",
    "trainingJobs.tolerations": [{"key": "a", "operator": "Exists"}], "trainingJobs.affinity": {"nodeAffinity": {}},
    "trainingJobs.trainJob": "never",
    "kserve.enabled": "never", "defaults.role": "encoder", "defaults.runtime": "openai", "defaults.args": ["--more"],
    "defaults.storageUri": "pvc://other/model", "defaults.modelDigest": f"sha256:{'1' * 64}", "defaults.command": ["x"],
    "defaults.rollout": "replace", "defaults.sharedMemorySize": "3Gi",
}


def leaves(values: Values, path: str = "") -> list[str]:
    """Dotted paths of everything that is no map with keys."""
    found: list[str] = []
    for key, value in values.items():
        below = isinstance(value, dict) and value and key != "resources" and path not in ("services.", "models.")
        found += leaves(value, f"{path}{key}.") if below else [f"{path}{key}"]
    return found


def own_servers() -> Values:
    """Everything of our own: broker, database, certificate by cert-manager, pods that are scaled by nothing."""
    tls = {"enabled": True, "issuer": {"name": "house"}, "mutual": {"enabled": True}}
    values = changed(profile("small"), "tls", tls)
    values = changed(values, "objectStore.credentialsSecret.name", "store")
    values = changed(values, "config.training.jobs.kind", "kubernetes")
    values = changed(values, "tests.mainJob.enabled", True)
    values = changed(values, "networkPolicy.crawl.privateTo", [PEER])
    return changed(values, "services", _off("backgen", "scoring-a", "scoring-b", "curation"))


def foreign_servers() -> Values:
    """Everything of somebody else: Kafka, database, object store, API keys, autoscaling of both kinds."""
    values = changed(profile("standard"), "config.telemetry.traces_endpoint", "http://collector:4317")
    for role in ("generator", "evaluator", "encoder"):
        values = changed(values, f"inferenceKeySecrets.{role}.name", "keys")
    values = changed(values, "kafkaClient.certificateSecret.name", "client")
    values = changed(values, "objectStore.caSecret.name", "store-ca")
    scaled = {service: {"scaling": {"kind": kind}} for service, kind in (("crawler", "hpa"), ("backgen", "keda"))}
    values = changed(values, "services", scaled | _off("scoring-a", "scoring-b", "curation", "training"))
    values = changed(values, "kafkaClient.userPerService", False)
    return changed(values, "jobs.topics.enabled", True)


def deployed() -> Values:
    """Models as plain Deployments: of a claim and of an object store, on images of ours and of others."""
    values = changed(profile("small", INFERENCE), "kserve.enabled", "never")
    values = changed(values, "networkPolicy.monitoring.from", [PEER])
    values = changed(values, "objectStore.caSecret.name", "store-ca")
    values = changed(values, "objectStore.credentialsSecret.name", "store")
    values = changed(values, "images", {"vllm": {"tag": "v1"}, "tgi": {"repository": "tgi", "tag": "v1"}})
    values = changed(values, "models.other", {"runtime": "tgi", "role": "generator", "storageUri": "pvc://claim"})
    return changed(values, "models.generator", {"runtime": "vllm", "storageUri": "s3://bucket/model"})


def by_kserve() -> Values:
    """Models by KServe, scaled by KEDA: what is left to the defaults is the predictor's."""
    values = changed(profile("small", INFERENCE), "kserve.enabled", "always")
    values = changed(values, "models.generator", {"runtime": "tgi", "storageUri": "s3://bucket/model"})
    values = changed(values, "images.tgi", {"repository": "tgi", "digest": f"sha256:{'a' * 64}"})
    return changed(values, "models.evaluator", {"scaling": {"kind": "keda"}, "storageUri": "pvc://claim/model"})


def left_to_defaults() -> Values:
    """One model that says nothing of itself."""
    return {"defaults": {"storageUri": "pvc://claim/model"}, "models": {"generator": {"enabled": False}}}


BASES = {XINSTRUCT: (own_servers, foreign_servers), INFERENCE: (deployed, by_kserve, left_to_defaults)}
"""Chart → sets of values; each value of the chart changes something that one of them gives."""


def _off(*services: str) -> Values:
    # Two services show what a value does as well as six, in half the time.
    return {service: {"enabled": False} for service in services}


@cache
def base(of: OurChart, number: int) -> tuple[Values, dict[str, str]]:
    """One of the sets of values above, and what they give."""
    values = BASES[of][number]()
    return values, rendered(values, apis=OPTIONAL_APIS, of=of)


@pytest.mark.parametrize(("of", "path"), [
    pytest.param(of, path, id=f"{of.name}:{path}")
    for of in CHARTS for path in leaves(VALUES[of]) if not path.startswith(("services.", "models.", "config"))
])
def test_a_value_is_used_by_a_template(of: OurChart, path: str) -> None:
    assert any(_changes_something(of, path, number) for number in range(len(BASES[of]))), f"{path} changes nothing"


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_own_values_win_over_the_defaults(service: str) -> None:
    values = changed(own_servers(), f"services.{service}", {"replicas": 7, "config": {"runner": {"attempts_max": 9}}})
    files = rendered(values, apis=OPTIONAL_APIS)
    assert files["statefulsets.yaml"].count("replicas: 7") == 1
    assert files["configmaps.yaml"].count("attempts_max: 9") == 1


@both
def test_every_value_that_a_template_reads_is_in_the_schema(of: OurChart) -> None:
    root: Any = chart(of).schema
    # A service's own `config` stands in no default.
    found = [(item["name"], path) for item in chart(of).templates for path in values_read(item["data"])]
    assert {path for _, path in found} > {("images",)}
    wrong = [(name, path) for name, path in found if path != ("defaults", "config") and not _in_schema(root, [*path])]
    assert not wrong, wrong


@both
def test_every_value_has_a_comment_and_a_default_in_the_schema(of: OurChart) -> None:
    text = (of.folder / "README.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    wrong = [
        path for path in leaves(VALUES[of])
        if path not in documented or not _in_schema(chart(of).schema, path.split("."))
    ]
    assert not wrong, wrong


def test_the_services_of_the_chart_are_the_targets_of_the_code() -> None:
    from xinstruct.targets import TARGETS

    # "scoring" is both slots in one process: for a laptop.
    assert set(VALUES[XINSTRUCT]["services"]) == set(SERVICES) == set(TARGETS) - {"scoring"}


def test_schema_and_table_are_what_their_sources_give(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "tools/chart_files.py", tmp_path], cwd=ROOT, check=True)
    for of in CHARTS:
        for name in ("values.schema.json", "README.md"):
            made = (tmp_path / "charts" / of.name / name).read_bytes()
            assert made == (of.folder / name).read_bytes(), f"{of.name}: {name}: run make gen"


UNKNOWN = "additional properties"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("replicas", 3, UNKNOWN),
        ("services.backgen.replica", 3, UNKNOWN),
        ("services.crawlers", {}, UNKNOWN),
        ("config.crawler.fetch.host_delay_s", 1, UNKNOWN),
        ("config.backgen.promptFamily", "tiny", UNKNOWN),
        ("config.home", "/data", UNKNOWN),
        ("config.instance", "0", UNKNOWN),
        ("config.log.kind", "sqlite", UNKNOWN),
        ("config.rpc.host", "127.0.0.1", UNKNOWN),
        ("config.telemetry.metrics_port", 9000, UNKNOWN),
        ("config.database_password_file", "/somewhere", UNKNOWN),
        ("services.backgen.config.database_url", "postgresql+psycopg://other/db", UNKNOWN),
        ("services.backgen.replicas", "three", "want integer"),
        ("services.backgen.replicas", 13, "maximum"),
        ("config.runner.attempts_max", "many", "want integer"),
        ("config.curation.best_threshold", 1.5, "maximum"),
        ("config.inference.generator.kind", "triton", "value must be one of"),
        ("images.light.tag", "latest", "'not' failed"),
        ("images.light.digest", "sha256:abc", "pattern"),
        ("commonAnnotations", {"example.org/on": True}, "want string"),
        ("storage.size", "50", "pattern"),
        ("storage.accessModes", ["ReadWriteOncePod"], "value must be one of"),
        ("config.training.serving.evaluator", "one-for-both", "pattern"),
        ("config.training.jobs.manifest_file", "/elsewhere", UNKNOWN),
        ("podSecurity.runAsUser", 0, "minimum"),
        ("networkPolicy.kafka.ports", [], "minItems"),
    ],
)
def test_a_wrong_value_is_refused_by_its_path(path: str, value: Any, said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        rendered(changed(profile("small"), path, value))
    message = str(refused.value)
    assert said in message
    assert "/".join(path.split(".")[:-1] if said == UNKNOWN else path.split(".")) in message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("replicas", 3, UNKNOWN),
        ("models.generator.replica", 3, UNKNOWN),
        ("models.Generator", {}, "propertyName"),
        ("models.a-name-too-long", {}, "propertyName"),
        ("models.generator.storageUri", "hf://some/model", "pattern"),
        ("models.generator.storageUri", "pvc://Claim", "pattern"),
        ("models.generator.role", "judge", "value must be one of"),
        ("models.generator.runtime", "triton", "value must be one of"),
        ("models.generator.scaling.replicasMin", 0, "minimum"),
        ("models.evaluator.modelDigest", "sha256:abc", "pattern"),
        ("images.tgi.tag", "latest", "'not' failed"),
        ("kserve.enabled", True, "value must be one of"),
    ],
)
def test_a_wrong_value_of_the_models_is_refused_by_its_path(path: str, value: Any, said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        rendered(changed(profile("small", INFERENCE), path, value), of=INFERENCE)
    message = str(refused.value)
    assert said in message
    assert said == "propertyName" or "/".join(path.split(".")[:-1]) in message


@pytest.mark.parametrize("path", ["commonLabels", "defaults.podLabels", "services.backgen.podLabels"])
def test_a_label_that_selects_pods_cannot_be_given_a_second_value(path: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=r"invalid propertyName 'app\.kubernetes\.io/name'"):
        rendered(changed(profile("small"), path, {"app.kubernetes.io/name": "mine"}))


OWN, FOREIGN = "small", "standard"


@pytest.mark.parametrize(
    ("name", "path", "value", "said"),
    [
        (OWN, "tokenSecret.name", "", "tokenSecret.name is empty"),
        (OWN, "config.log.bootstrap_servers", "kafka:9092", "both say where Kafka is"),
        (FOREIGN, "kafka.enabled", True, "both say where Kafka is"),
        (OWN, "kafka.enabled", False, "there is no Kafka"),
        (OWN, "config.log.security_protocol", "SSL", "speaks PLAINTEXT only"),
        (FOREIGN, "kafkaClient.saslPasswordSecret.name", "", "kafkaClient.saslPasswordSecret.name"),
        (OWN, "config.database_url", "postgresql+psycopg://db/x", "both say where the database is"),
        (OWN, "postgres.enabled", False, "there is no database"),
        (OWN, "database.passwordSecret.name", "", "needs database.passwordSecret.name"),
        (OWN, "podSecurity.runAsUser", None, "needs podSecurity.runAsUser"),
        (FOREIGN, "config.database_url", "postgresql+psycopg://x:secret@db/x", "holds a password"),
        (OWN, "database.caSecret.name", "ca", "speaks no TLS"),
        (FOREIGN, "config.database_url", "postgresql+psycopg://x@db/x?sslmode=require", "say verify-full"),
        (FOREIGN, "database.caSecret.name", "", "name a Secret in database.caSecret.name"),
        (OWN, "storage.enabled", False, "set config.blobs_url"),
        (FOREIGN, "storage.enabled", False, "services.training.enabled to false"),
        (OWN, "tls.enabled", True, "tls.enabled has no certificate"),
        (OWN, "tls", {"enabled": True, "certificate": "always"}, "tls.issuer.name is empty"),
        (OWN, "tls.mutual.enabled", True, "set tls.enabled, too"),
        (FOREIGN, "jobs.topics.enabled", True, "set jobs.topics.enabled to false"),
        (OWN, "defaults.enabled", False, "every service is off"),
        (OWN, "services.curation.scaling.kind", "hpa", "set replicas"),
        (OWN, "services.backgen.scaling", {"kind": "keda", "replicasMin": 4}, "above replicasMax"),
        (OWN, "services.backgen.scaling", {"kind": "hpa", "replicasMin": 0}, "only backgen rests safely"),
        (OWN, "services.scoring-b.scaling", {"kind": "keda", "replicasMin": 0}, "only backgen rests safely"),
        (FOREIGN, "keda.authenticationName", "", "TriggerAuthentication"),
        (OWN, "services.training.image", "light", "config.training.jobs.kind to kubernetes"),
        (FOREIGN, "services.training.config", {"training": {"jobs": {"kind": "local"}}}, "set the image to model"),
        (OWN, "config.crawler.fetch.private_hosts_allowed", ["intranet:80"], "networkPolicy.crawl.privateTo"),
        (FOREIGN, "rbac.enabled", False, "set rbac.enabled"),
        (OWN, "config.inference.generator.kind", "local", "services.backgen.image to model"),
        (OWN, "services.scoring-a.config.inference.evaluator.kind", "local", "services.scoring-a.image to model"),
        (OWN, "config.curation.reports_location", "s3://bucket/reports", "takedowns look through a folder"),
        (OWN, "config.inference.encoder.kind", "local", "services.curation.image to model"),
    ],
)
def test_what_cannot_work_together_is_refused_with_what_to_change(name: str, path: str, value: Any, said: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        rendered(changed(profile(name), path, value))
    assert said in str(refused.value)


DIGEST = f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"defaults.enabled": False}, "every model is off"),
        ({"models.generator.runtime": "tgi", "images.tgi.repository": "tgi"},
         "images.tgi.digest to that of 3.3.7, the last release"),
        ({"models.generator.runtime": "tgi", "images.tgi.digest": DIGEST}, "images.tgi.repository is empty"),
        ({"models.generator.runtime": "vllm"}, "images.vllm.digest, or its tag"),
        ({"models.generator.storageUri": ""}, "models.generator.storageUri is empty"),
        ({"models.evaluator.promoted": True}, "take models.evaluator.storageUri and modelDigest out"),
        ({"models.evaluator": {"promoted": True}}, "models.evaluator.promoted needs KServe"),
        ({"kserve.enabled": "always", "models.generator": {"promoted": True, "runtime": "openai"}},
         "models.generator.promoted needs the runtime predictor"),
        ({"models.generator.runtime": "predictor"}, "set models.generator.runtime to vllm or openai"),
        ({"models.generator.modelDigest": DIGEST}, "checked by the runtime predictor only"),
        ({"models.generator.scaling.kind": "keda"}, "counts no waiting requests"),
        ({"models.evaluator.scaling": {"kind": "keda", "replicasMin": 4}}, "above replicasMax"),
        ({"kserve.enabled": "always", "models.evaluator.storageUri": "s3://bucket/model", "objectStore.region": "eu"},
         "its Secret's annotations"),
        ({"kserve.enabled": "always", "models.evaluator.storageUri": "s3://bucket/model",
          "objectStore.caSecret.name": "store-ca"}, "caSecret out"),
    ],
)
def test_what_cannot_serve_a_model_is_refused_with_what_to_change(values: Values, said: str) -> None:
    asked = profile("small", INFERENCE)
    for path, value in values.items():
        asked = changed(asked, path, value)
    with pytest.raises(helm_python.HelmError) as refused:
        rendered(asked, of=INFERENCE)
    assert said in str(refused.value)


def test_the_defaults_alone_are_refused_because_nobody_can_guess_them() -> None:
    with pytest.raises(helm_python.HelmError, match=r"tokenSecret\.name is empty"):
        rendered({})


def _changes_something(of: OurChart, path: str, number: int) -> bool:
    values, before = base(of, number)
    try:
        after = rendered(changed(values, path, _other(of, path)), apis=OPTIONAL_APIS, of=of)
    except helm_python.HelmError:
        # Read, and refused.
        return path.endswith(("enabled", ".name", "tls.certificate", "scaling.kind", "promoted", "userPerService"))
    return after != before


def _other(of: OurChart, path: str) -> Any:
    """A valid value for `path` that is not its default."""
    default: Any = VALUES[of]
    for key in path.split("."):
        default = default[key]
    short = "images.digest" if path.endswith(".digest") else path
    if short in OTHER:
        return OTHER[short]
    if path.endswith("resources"):
        return {"requests": {"cpu": "3", "memory": "3Gi"}, "limits": {"memory": "3Gi"}}
    if path.endswith((".to", ".from", "To")):
        return [{"namespaceSelector": {"matchLabels": {"other": "space"}}}]
    if path.endswith(("orts",)):
        return [1234]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1 if default >= 1 else default / 2
    if isinstance(default, str):
        return f"{default}x"
    assert isinstance(default, dict), f"{path}: say in OTHER what else it can be"
    return {"example.org/other": "value"}


def _in_schema(root: Any, path: list[str]) -> bool:
    node: Any = root
    for key in path:
        while "$ref" in node:
            node = root["$defs"][node["$ref"].rpartition("/")[2]]
        if key not in node.get("properties", ()):
            # Free-form maps (labels), and keys of templates' own maps below them.
            return "properties" not in node and node.get("type") == "object"
        node = node["properties"][key]
    return True
