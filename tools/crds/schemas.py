"""Takes CustomResourceDefinitions apart: OUT/<group>/<version>/<Kind>.json holds the schema of one version of a kind.

Called by tools/crds.sh with OUT and the folders to read: every YAML file in them, other kinds are passed over.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml


def main(out: Path, folders: list[Path]) -> None:
    """Write them all."""
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")) if folder.is_dir() else [folder]:
            for item in yaml.load_all(file.read_text("utf-8"), Loader=_Loader):
                if item and item["kind"] == "CustomResourceDefinition":
                    _write(out, item["spec"])


def _write(out: Path, spec: dict) -> None:  # type: ignore[type-arg]
    for version in spec["versions"]:
        path = out / spec["group"] / version["name"] / f"{spec['names']['kind']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(version["schema"]["openAPIV3Schema"]), "utf-8")


class _Loader(yaml.CSafeLoader):
    """Reads an unquoted "=", which YAML 1.1 has a meaning for that nobody uses."""


_Loader.add_constructor("tag:yaml.org,2002:value", yaml.SafeLoader.construct_yaml_str)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
