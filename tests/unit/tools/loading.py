"""Programs of tools/cluster, which is no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from architecture.source import ROOT


def loaded(name: str) -> Any:
    """tools/cluster/<name>.py. Those that it imports from beside it have to be loaded before."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / "cluster" / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
