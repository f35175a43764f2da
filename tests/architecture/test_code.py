"""Sizes, names, and the habits that a reader can rely on everywhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from architecture.source import CODE, ROOT, Module, called, functions, imports, modules, nodes

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
SPINE_LINES_MAX = 4_000

MODULE_NAMES_FORBIDDEN = {"util", "utils", "common", "helper", "helpers", "misc", "shared", "base", "core"}
CLASS_WORDS_FORBIDDEN = ("Manager", "Helper", "Util", "Utils", "Processor", "Data", "Info")

BROAD_EXCEPT = {
    # The outermost entries: they log what no one foresaw, and exit.
    "xinstruct.__main__",
    "xinstruct.cli.main",
    # The runner's and the process's threads end through here, so that a bug in one stops the whole process.
    "xinstruct.spine.process",
    # The edge of gRPC: a bug becomes INTERNAL with its stack in the log, and the server lives.
    "xinstruct.spine.rpc",
}

COMMITS = {
    # Only the runner commits …
    "xinstruct.spine.runner",
    # … through the log's backends.
    "xinstruct.spine.log.sqlite", "xinstruct.spine.log.kafka", "xinstruct.spine.log.kafka_subscription",
    # A migration ends its own transaction.
    "xinstruct.spine.migrations",
}

ENVIRONMENT = {
    # Secrets and identity only.
    "xinstruct.__main__", "xinstruct.spine.process", "xinstruct.spine.rpc", "xinstruct.inference.endpoint",
}

CHANCE = {
    # Names of temporary files: two writers of one content must not share a half-written one.
    "xinstruct.spine.blobs",
}


GENERATED = CODE / "spine" / "migrations" / "versions"
"""Written by `make migration`: a revision is as long as the schema's change, and nobody edits it."""


def test_no_function_is_longer_than_seventy_lines() -> None:
    wrong = [
        f"{module.shown}:{node.lineno}: {node.name} has {lines} lines"
        for module in modules()
        if module.path.parent != GENERATED
        for node in functions(module)
        if (lines := _lines(node)) > FUNCTION_LINES_MAX
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    files = [*CODE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for path in files
        if path.parent != GENERATED
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES_MAX
    ]
    assert not wrong, "\n".join(wrong)


def test_the_spine_stays_within_its_budget() -> None:
    # Lines that hold code: a contract in a docstring must not compete with what it describes.
    spine = [module for module in modules() if module.part == "spine" and module.path.parent != GENERATED]
    count = sum(_code_lines(module) for module in spine)
    assert count <= SPINE_LINES_MAX, f"the spine has {count} lines: move what knows more than shapes to its service"


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    wrong = [module.shown for module in modules() if module.leaf.strip("_") in MODULE_NAMES_FORBIDDEN]
    assert not wrong, wrong


def test_no_class_is_named_for_nothing_in_particular() -> None:
    wrong = [
        f"{module.shown}:{node.lineno}: {node.name}"
        for module in modules()
        for node in nodes(module)
        if isinstance(node, ast.ClassDef) and node.name.endswith(CLASS_WORDS_FORBIDDEN)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_says_what_it_is_for() -> None:
    wrong = [module.shown for module in modules() if not ast.get_docstring(module.tree)]
    assert not wrong, wrong


def test_only_outermost_entries_catch_everything() -> None:
    wrong = [fault for module in modules() if module.name not in BROAD_EXCEPT for fault in _broad_excepts(module)]
    assert not wrong, "\n".join(wrong)


def test_only_the_runner_and_the_log_commit() -> None:
    wrong = [
        f"{module.shown}:{node.lineno}: {called(node)}"
        for module in modules()
        if module.name not in COMMITS
        for node in nodes(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    ]
    assert not wrong, "\n".join(wrong)


def test_settings_do_not_come_from_the_environment() -> None:
    # Written it may be, for a library or a child process.
    read = re.compile(r"\bgetenv\(|\benviron(\.get\(|\[[^]]+\](?!\s*=[^=]))|\bin os\.environ\b")
    wrong = [
        f"{module.shown}:{number}"
        for module in modules()
        if module.name not in ENVIRONMENT
        for number, line in enumerate(module.lines, 1)
        if read.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_setting_is_used_by_some_code() -> None:
    read = {node.attr for module in modules() for node in nodes(module) if isinstance(node, ast.Attribute)}
    wrong = [
        f"{module.shown}:{item.lineno}: {node.name}.{item.target.id}"
        for module in modules()
        for node in nodes(module)
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Settings", "Recipe"))
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id not in read
    ]
    assert not wrong, "\n".join(wrong)


def test_no_id_is_drawn_by_chance() -> None:
    wrong = [
        f"{module.shown}:{line}: {name}"
        for module in modules()
        if module.name not in CHANCE
        for name, line in imports(module)
        if name.split(".")[0] in ("uuid", "secrets")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_weights_are_trusted_with_code() -> None:
    wrong = [
        f"{module.shown}:{number}"
        for module in modules()
        for number, line in enumerate(module.lines, 1)
        if re.search(r"trust_remote_code\s*=\s*True|pickle\.load|torch\.load\(", line)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", ["unittest.mock", "mock", "pytest_mock"])
def test_no_test_mocks_our_code(library: str) -> None:
    pattern = re.compile(rf"^\s*(import|from) {re.escape(library)}\b", re.MULTILINE)
    assert [path for path in _test_files() if pattern.search(path.read_text(encoding="utf-8"))] == []


def test_no_unit_test_sleeps() -> None:
    wrong = [place for path in _test_files() if "unit" in path.parts for place, _ in _sleeps(path)]
    assert not wrong, "\n".join(wrong)


def test_no_test_sleeps_but_in_a_loop_that_waits_for_another_process() -> None:
    # tests/crash kills other processes at real moments, which it has to choose by the clock.
    wrong = [
        place
        for path in _test_files()
        if "crash" not in path.parts
        for place, in_loop in _sleeps(path)
        if not in_loop
    ]
    assert not wrong, "\n".join(wrong)


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def _code_lines(module: Module) -> int:
    """Lines of code without blank ones, comments and docstrings."""
    strings = (node for node in nodes(module) if isinstance(node, ast.Expr))
    texts = [node for node in strings if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    documented = {line for node in texts for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    kept = (line.strip() for number, line in enumerate(module.lines, 1) if number not in documented)
    return sum(bool(line) and not line.startswith("#") for line in kept)


def _broad_excepts(module: Module) -> Iterator[str]:
    for node in nodes(module):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            cleans_up = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if not cleans_up and (caught == "everything" or re.search(r"\b(Base)?Exception\b", caught)):
                yield f"{module.shown}:{node.lineno}: except {caught}"


def _sleeps(path: Path) -> Iterator[tuple[str, bool]]:
    """(place, whether it stands in a while loop) of every sleep."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.While)]
    looped = {node for loop in loops for node in ast.walk(loop)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in ("time.sleep", "asyncio.sleep", "sleep"):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node in looped


def _test_files() -> list[Path]:
    return [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
