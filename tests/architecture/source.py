"""Our modules as syntax trees, for the tests of the house rules. Nothing of ours is imported to be judged."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CODE = ROOT / "services" / "xinstruct"
PURE = ("domain", "stage", "prompts")
"""Modules that do no input or output, whatever their service."""


@dataclass(frozen=True, eq=False)
class Module:
    """One file: `name` as imported, `part` the folder (or top-level module) under xinstruct that it belongs to."""

    name: str
    part: str
    path: Path
    tree: ast.Module
    lines: tuple[str, ...]

    @property
    def leaf(self) -> str:
        """Last part of the name: "domain" of xinstruct.crawler.domain."""
        return self.name.rpartition(".")[2]

    @property
    def shown(self) -> str:
        """Path as a person names it."""
        return str(self.path.relative_to(ROOT))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of services/xinstruct."""
    return tuple(_module(path) for path in sorted(CODE.rglob("*.py")) if "__pycache__" not in path.parts)


@cache
def by_name() -> dict[str, Module]:
    """Module name → module."""
    return {module.name: module for module in modules()}


@cache
def imports(module: Module) -> tuple[tuple[str, int], ...]:
    """(dotted name, line) of everything that `module` imports when it runs, inside functions too."""
    found: list[tuple[str, int]] = []
    for node in running_nodes(module):
        if isinstance(node, ast.Import):
            found += ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.shown}:{node.lineno}: a relative import"
            found += ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
    return tuple(found)


def own_imports(module: Module) -> Iterator[tuple[str, int]]:
    """(module name, line) of what it imports of ours: `from xinstruct.spine import sql` gives xinstruct.spine.sql."""
    for name, line in imports(module):
        if name == "xinstruct" or name.startswith("xinstruct."):
            known = name if name in by_name() else name.rpartition(".")[0]
            yield known, line


def part_of(name: str) -> str:
    """"crawler" of xinstruct.crawler.domain; "targets" of xinstruct.targets."""
    return [*name.split("."), ""][1]


@cache
def nodes(module: Module) -> tuple[ast.AST, ...]:
    """All nodes of a module's tree."""
    return tuple(ast.walk(module.tree))


@cache
def running_nodes(module: Module) -> tuple[ast.AST, ...]:
    """All nodes but those under `if TYPE_CHECKING:`."""
    found: list[ast.AST] = []
    queue: list[ast.AST] = [module.tree]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        found.append(node)
        queue += ast.iter_child_nodes(node)
    return tuple(found)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method."""
    for node in nodes(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def called(node: ast.Call) -> str:
    """Dotted name of what a call calls: "datetime.now"; what cannot be named is "?"."""
    parts: list[str] = []
    target: ast.expr = node.func
    while isinstance(target, ast.Attribute):
        parts.append(target.attr)
        target = target.value
    parts.append(target.id if isinstance(target, ast.Name) else "?")
    return ".".join(reversed(parts))


@cache
def tracked_files() -> tuple[Path, ...]:
    """Every file that is, or would be, in a commit."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout
    return tuple(path for name in listing.split("\0") if name and (path := ROOT / name).is_file())


def _module(path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    names = list(path.relative_to(CODE.parent).with_suffix("").parts)
    if names[-1] == "__init__":
        names.pop()
    name = ".".join(names)
    return Module(name, part_of(name), path, ast.parse(text, str(path)), tuple(text.splitlines()))
