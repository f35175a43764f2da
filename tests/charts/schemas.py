"""Kubernetes' own schemas (kubernetes-validate), with unknown fields forbidden."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema.validators import Draft202012Validator
from kubernetes_validate import utils
from referencing import Registry, Resource


def is_custom(manifest: dict[str, Any]) -> bool:
    """Whether the kind is an operator's, whose schema is not in the package."""
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def faults(manifest: dict[str, Any], version: str) -> list[str]:
    """What Kubernetes `version` has against the manifest, one sentence a fault."""
    return list(_faults(json.dumps(manifest), version))


@cache  # profiles share most of their manifests
def _faults(text: str, version: str) -> tuple[str, ...]:
    manifest = json.loads(text)
    return tuple(
        f"{version}: {manifest['kind']} {manifest['metadata']['name']}: {error.json_path}: {error.message[:200]}"
        for error in _validator(manifest["apiVersion"], manifest["kind"], version).iter_errors(manifest)
    )


@cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    # kubernetes_validate.validate reads 2 MB of definitions for every manifest: the same is kept here.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    file = f"kubernetes-json-schema/{_folder(version)}/{kind.lower()}-{group}.json"
    return Draft202012Validator(utils.schema_contents(file, version), registry=registry(version))


@cache
def registry(version: str) -> Registry[Any]:
    """Definitions that the schemas of Kubernetes `version` refer to, ObjectMeta among them."""
    definitions = utils.schema_contents(f"kubernetes-json-schema/{_folder(version)}/_definitions.json", version)
    return Resource.from_contents(definitions) @ Registry()


def _folder(version: str) -> str:
    assert version in utils.all_versions() or f"{version}-local-strict" in utils.all_versions(), utils.all_versions()
    return f"v{version}-local-strict"
