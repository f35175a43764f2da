"""No password stands in values: every URL that could hold one is refused with where its Secret is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest

from charts.rendering import INFERENCE, XINSTRUCT, OurChart, Values, changed, chart, profile, rendered

DATABASE = "postgresql+psycopg://x@db/x"
ENDPOINT = "config.inference.generator.url"
STORE = "objectStore.credentialsSecret.name"


def standard(path: str, value: str) -> Values:
    """The profile standard with one value of another kind."""
    return changed(profile("standard"), path, value)


@pytest.mark.parametrize(
    ("path", "url", "secret"),
    [
        ("config.database_url", "postgresql+psycopg://x:secret@db/x", "database.passwordSecret.name"),
        ("config.database_url", "postgresql+psycopg://x:se/cret@db/x", "database.passwordSecret.name"),
        ("config.database_url", f"{DATABASE}?password=secret", "database.passwordSecret.name"),
        ("config.database_url", f"{DATABASE}?sslmode=verify-full&password=secret", "database.passwordSecret.name"),
        ("config.database_url", f"{DATABASE}?sslpassword=secret", "database.passwordSecret.name"),
        ("config.inference.generator.url", "http://user:secret@models/v1", "inferenceKeySecrets.generator.name"),
        ("config.inference.evaluator.url", "http://:secret@models/v1", "inferenceKeySecrets.evaluator.name"),
        ("config.inference.encoder.url", "http://user:secret@models/v1", "inferenceKeySecrets.encoder.name"),
        ("services.backgen.config.inference.generator.url", "http://u:secret@models/v1",
         "inferenceKeySecrets.generator.name"),
        ("config.telemetry.traces_endpoint", "http://user:secret@collector:4317", "a collector that asks for none"),
        ("config.blobs_url", "s3://key:secret@bucket/blobs", STORE),
        ("config.curation.releases_location", "s3://key:secret@bucket/releases", STORE),
        ("config.training.seeds_location", "s3://key:secret@bucket/seeds.jsonl", STORE),
        ("services.training.config.training.seeds_location", "s3://key:secret@bucket/seeds.jsonl", STORE),
        ("config.crawler.fetch.contact_url", "https://user:secret@your.site/bot", "a page that asks for none"),
        ("config.curation.removal_contact", "https://user:secret@your.site/removal", "a page that asks for none"),
        ("config.log.bootstrap_servers", "SASL_SSL://user:secret@kafka:9093", "kafkaClient.saslPasswordSecret.name"),
        ("objectStore.endpointUrl", "https://key:secret@store.example", STORE),
    ],
)
def test_a_password_in_a_url_of_the_services_is_refused(path: str, url: str, secret: str) -> None:
    with pytest.raises(helm_python.HelmError) as refused:
        rendered(standard(path, url))
    assert f"{path} holds a password" in str(refused.value) and secret in str(refused.value)


def test_every_key_of_the_configuration_that_may_be_a_url_is_looked_at() -> None:
    found = [path for path in texts("config") if re.search("(url|location|endpoint|servers|contact)$", path)]
    assert len(found) == 12
    for path in found:
        with pytest.raises(helm_python.HelmError, match=r"holds a password|is a URL"):
            rendered(standard(path, "s3://key:secret@bucket/folder"))


def texts(path: str, at: str = "config") -> Iterator[str]:
    """Dotted paths of what may be any text in the configuration, `path`, which is that of the schema's definition."""
    node: Any = chart().schema["$defs"][at]
    for key, item in node.get("properties", {}).items():
        if "$ref" in item:
            yield from texts(f"{path}.{key}", item["$ref"].rpartition("/")[2])
        elif item.get("type") == "string" and "enum" not in item:
            yield f"{path}.{key}"


def test_a_password_in_the_url_of_the_models_store_is_refused() -> None:
    values = changed(profile("small", INFERENCE), "objectStore.endpointUrl", "https://key:secret@store.example")
    with pytest.raises(helm_python.HelmError, match=r"objectStore\.endpointUrl holds a password.*credentialsSecret"):
        rendered(values, of=INFERENCE)


@pytest.mark.parametrize(
    ("of", "path", "url"),
    [
        (XINSTRUCT, "config.database_url", "postgresql+psycopg://x%40y@db:5432/x?sslmode=verify-full"),
        (XINSTRUCT, "config.database_url", "postgresql+psycopg://db:5432/x?user=me@server&sslmode=verify-full"),
        (XINSTRUCT, ENDPOINT, "http://models:8000/v1"),
        (XINSTRUCT, ENDPOINT, "http://[fd00::1]:8000/v1"),
        (XINSTRUCT, "objectStore.endpointUrl", "https://store.example:9000"),
        (INFERENCE, "objectStore.endpointUrl", "https://store.example:9000"),
    ],
)
def test_a_port_or_a_user_without_a_password_is_none(of: OurChart, path: str, url: str) -> None:
    base = "standard" if of is XINSTRUCT else "small"
    assert rendered(changed(profile(base, of), path, url), of=of)
