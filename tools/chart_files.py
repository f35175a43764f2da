"""Writes what each chart is generated of itself: values.schema.json, and the table of values in its README.

A schema is one of tools/chart/ with what it refers to; that of the chart xinstruct has the keys of the configuration
models in it, so that a wrong key is refused by `helm install` as the service would refuse it at its start. A table is
the chart's values.yaml with its comments.
Run by tools/gen.sh with the folder to write to; `make check-gen` fails when the files are not what this gives.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from xinstruct.settings import XinstructSettings

ROOT = Path(__file__).parents[1]
CHARTS = Path("charts")
TABLE_BEGIN, TABLE_END = "<!-- values: generated from values.yaml by make gen -->", "<!-- end of values -->"
WIDTH_OF_DEFAULT_MAX = 60

KNOWN_BY_THE_CHART = {
    "XinstructSettings": ("home", "instance", "addresses", "database_password_file"),
    "KafkaLogSettings": (
        "kind", "topics", "ssl_ca_file", "ssl_certificate_file", "ssl_key_file", "sasl_password_file",
    ),
    "RpcSettings": (
        "host", "port", "health_port", "token_file", "tls_certificate_file", "tls_key_file", "tls_client_ca_file",
        "tls_ca_file",
    ),
    "TelemetrySettings": ("metrics_host", "metrics_port"),
    "RoleSettings": ("api_key_env", "api_key_file"),
    "JobsSettings": ("manifest_file",),
    "ServingSettings": ("volume_claim",),
}
"""Model → keys that templates set: a value must not be settable in two places."""
ONE_FOR_ALL = ("log", "database_url", "blobs_url")
"""Keys that a service's own `config` has not: services that disagree on them do not meet."""


def main(out: Path) -> None:
    """Write the files of both charts under `out`."""
    for chart, schema in (("xinstruct", xinstruct_schema()), ("inference", inference_schema())):
        folder = out / CHARTS / chart
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "values.schema.json").write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (folder / "README.md").write_text(readme(chart), "utf-8")


def xinstruct_schema() -> dict[str, Any]:
    """The whole schema; every object that names its properties takes no others."""
    made = _own_part("values")
    service = made["$defs"]["service"]["properties"]
    made["properties"]["defaults"]["properties"] = {name: item for name, item in service.items() if name != "config"}
    _close(made)
    made["$defs"] |= _config_definitions()
    return made


def inference_schema() -> dict[str, Any]:
    """The same of the other chart, which shares definitions with the first."""
    made = _own_part("inference")
    made["$defs"] = _reached(made, _own_part("values")["$defs"] | made["$defs"])
    _close(made)
    return made


def _own_part(name: str) -> dict[str, Any]:
    read: dict[str, Any] = YAML(typ="safe").load((ROOT / f"tools/chart/{name}.schema.yaml").read_text("utf-8"))
    return read


def _config_definitions() -> dict[str, Any]:
    """ "config", "serviceConfig" and the models under them: nothing is required, for what is absent is a default."""
    whole = XinstructSettings.model_json_schema()
    models = {**whole["$defs"], "XinstructSettings": {key: item for key, item in whole.items() if key != "$defs"}}
    models["XinstructSettings"]["properties"]["log"] = {"$ref": "#/$defs/KafkaLogSettings"}
    for name, keys in KNOWN_BY_THE_CHART.items():
        for key in keys:
            del models[name]["properties"][key]
    config = models.pop("XinstructSettings")
    own = config | {"properties": {key: item for key, item in config["properties"].items() if key not in ONE_FOR_ALL}}
    found = {"config": config, "serviceConfig": own}
    found |= _reached(config, models)
    return {name: _plain(model) for name, model in found.items()}


def _reached(start: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Those of the definitions that `start` refers to, however indirectly, by name; its own $defs do not count."""
    reached: set[str] = set()
    queue: list[Any] = [{key: item for key, item in start.items() if key != "$defs"}]
    while queue:
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(queue.pop())):
            if name not in reached:
                reached.add(name)
                queue.append(definitions[name])
    return {name: definitions[name] for name in sorted(reached)}


def _plain(node: Any) -> Any:
    """A model's schema without titles, defaults and required keys."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: item for key, item in node.items() if key not in ("title", "default", "required")}
    return {
        key: {name: _plain(item) for name, item in value.items()} if key == "properties" else _plain(value)
        for key, value in kept.items()
    }


def _close(node: Any) -> None:
    """Refuse unknown keys in every object below `node` that names its properties."""
    if isinstance(node, list):
        for item in node:
            _close(item)
    elif isinstance(node, dict):
        for item in list(node.values()):
            _close(item)
        if node.get("type") == "object" and isinstance(node.get("properties"), dict):
            node["additionalProperties"] = False


def readme(chart: str) -> str:
    """The chart's README with the table of values in its place."""
    text = (ROOT / CHARTS / chart / "README.md").read_text("utf-8")
    head, _, rest = text.partition(TABLE_BEGIN)
    _, _, tail = rest.partition(TABLE_END)
    rows = [f"| `{path}` | {_shown(default)} | {meaning} |" for path, default, meaning in documented(chart)]
    table = "\n".join(["| value | default | meaning |", "| --- | --- | --- |", *rows])
    return f"{head}{TABLE_BEGIN}\n\n{table}\n\n{TABLE_END}{tail}"


def documented(chart: str) -> Iterator[tuple[str, Any, str]]:
    """(path, default, comment) of every value with a comment above it, in the order of values.yaml."""
    text = (ROOT / CHARTS / chart / "values.yaml").read_text("utf-8")
    values = YAML(typ="safe").load(text)
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := re.match(r"^ *# ?(.*)$", line):
            comment.append(found[1])
            continue
        if found := re.match(r"^( *)([a-zA-Z-]+):(.*)$", line):
            depth = len(found[1])
            above = [*(item for item in above if item[0] < depth), (depth, found[2])]
            if comment:
                path = [name for _, name in above]
                yield ".".join(path), _at(values, path), " ".join(comment).replace("|", "\\|")
        comment = []


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def _shown(default: Any) -> str:
    text = json.dumps(default, ensure_ascii=False)
    return f"`{text}`" if len(text) <= WIDTH_OF_DEFAULT_MAX else "see `values.yaml`"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
