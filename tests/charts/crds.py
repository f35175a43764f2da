"""Operators' own schemas (tools/crds.sh), as their API servers read them: a field that they do not know is forbidden.

Not checked: rules in CEL (x-kubernetes-validations), defaults, and what an operator's admission webhook says.
"""

from __future__ import annotations

import json
import subprocess
from functools import cache
from typing import Any

from jsonschema.validators import Draft202012Validator

import servers
from architecture.source import ROOT
from charts.schemas import registry

SCHEMAS = ROOT / ".cache" / "crds" / "schemas"

Schema = dict[str, Any]


@cache
def why_absent() -> str:
    """Why the schemas cannot be had here; "" when they are there. The first call of a clean clone fetches them."""
    fetched = subprocess.run([ROOT / "tools/crds.sh"], capture_output=True, text=True, check=False)
    return fetched.stderr.strip()[-500:] or "tools/crds.sh failed" if fetched.returncode else ""


def need_crds() -> None:
    """End a test that needs the schemas where they cannot be had."""
    if why := why_absent():
        servers.absent("crds", why)


def faults(manifest: dict[str, Any], kubernetes: str) -> list[str]:
    """What the schema of the manifest's kind has against it, one sentence a fault; metadata is that of `kubernetes`."""
    return [
        f"{manifest['kind']} {manifest['metadata']['name']}: {error.json_path}: {error.message[:300]}"
        for error in _validator(manifest["apiVersion"], manifest["kind"], kubernetes).iter_errors(manifest)
    ]


@cache
def _validator(api_version: str, kind: str, kubernetes: str) -> Draft202012Validator:
    path = SCHEMAS / api_version / f"{kind}.json"
    assert path.exists(), f"tools/crds.sh fetches no schema of {api_version} {kind}"
    root = closed(json.loads(path.read_text("utf-8")))
    root["properties"] |= {
        "apiVersion": {"const": api_version}, "kind": {"const": kind},
        "metadata": {"$ref": "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
    }
    return Draft202012Validator(root, registry=registry(kubernetes))


def closed(node: Schema) -> Schema:
    """A structural schema of Kubernetes as JSON Schema that forbids what the API server would drop.

    Below allOf, anyOf, oneOf and not, a structural schema only asks more of fields that it names elsewhere.
    """
    made = dict(node)
    if "properties" in made:
        made["properties"] = {name: closed(item) for name, item in made["properties"].items()}
    for below in ("items", "additionalProperties"):
        if isinstance(made.get(below), dict):
            made[below] = closed(made[below])
    if made.get("x-kubernetes-embedded-resource"):
        made["properties"] = {"apiVersion": {}, "kind": {}, "metadata": {}} | made.get("properties", {})
    open_ended = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if made.get("type") == "object" and not open_ended:
        made["additionalProperties"] = False
    if made.get("x-kubernetes-int-or-string") and "anyOf" not in made:
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return {"anyOf": [made, {"type": "null"}]} if made.pop("nullable", False) else made
