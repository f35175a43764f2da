"""Who may import whom: targets → services → inference → spine → protos; in a service app → api → stage → domain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from architecture.source import (
    PURE,
    Module,
    by_name,
    called,
    imports,
    modules,
    nodes,
    own_imports,
    part_of,
    running_nodes,
)

SERVICES = ("crawler", "backgen", "scoring", "curation", "training")
BASE = ("spine", "v1")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "spine": BASE,
    **{service: (service, *BASE) for service in SERVICES},
    # Backends of the inference port. Services know the port; training and releases also run models themselves.
    "inference": ("inference", *BASE),
    "training": ("training", "inference", *BASE),
    # A model server around the models in process: no service, and no service imports it.
    "predictor": ("predictor", "inference", *BASE),
    # The one form of URLs, which the crawler stores and takedowns compare with.
    "urls": BASE,
    "crawler": ("crawler", "urls", *BASE),
    "curation": ("curation", "inference", "urls", *BASE),
    # A leaf: it knows nothing of the factory that is judged by it.
    "microworld": ("microworld",),
    # One model of the whole configuration: config models of every service, and nothing else of them (test below).
    "settings": (*SERVICES, "inference", *BASE),
    # The lock on the data folder of one process, whose parts share it.
    "home": BASE,
    # The one module that knows every service.
    "targets": (*SERVICES, "inference", "settings", "home", *BASE),
    "__main__": ("targets", "settings", *BASE),
    # Talks gRPC, also to the process that it embeds; mounts the microworld's own commands.
    "cli": ("cli", "__main__", "targets", "settings", "home", "inference", "microworld", *BASE),
}

MAINTAINERS_COMMANDS = {
    # `make tiny-base`: reads microworld texts and what a catalogue says of them (no site, no instruction), and writes
    # a model folder that is checked in. No service runs it, and nothing of a service imports it (test below).
    "xinstruct.training.pretrain": "microworld",
}

INNER = ("domain", "stage", "api", "app")
"""Inside a service each of these may import the ones before it."""

TRUTH = "xinstruct.microworld.truth"
COMPARES_WITH_TRUTH = "xinstruct.cli.report.quality"
"""Compares what a run made with the truth, after the release is out; it writes nothing that a stage reads."""

IMPURE_LIBRARIES = {
    "os", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "socket", "ssl", "subprocess", "signal",
    "multiprocessing", "threading", "asyncio", "sys", "time", "random", "secrets", "uuid", "logging", "warnings",
    "sqlite3", "http", "urllib.request", "sqlalchemy", "fsspec", "grpc", "kafka", "aiohttp", "structlog",
    "prometheus_client", "opentelemetry", "psutil", "ruamel", "torch", "transformers", "numpy.random",
}
IMPURE_SPINE = {"sql", "blobs", "rpc", "telemetry", "process", "runner", "registry", "migrations"}
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint"}
CLOCK_CALLS = ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")


def test_every_part_imports_only_what_its_layer_may() -> None:
    wrong = [
        f"{module.shown}:{line}: {module.part} imports {name}"
        for module in modules()
        for name, line in own_imports(module)
        if part_of(name) not in (*MAY_IMPORT.get(module.part, ()), MAINTAINERS_COMMANDS.get(module.name))
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_a_maintainers_command() -> None:
    wrong = [f"{module.shown}:{line}" for module in modules() for name, line in own_imports(module)
             if name in MAINTAINERS_COMMANDS]
    assert not wrong, wrong


def test_every_part_of_the_tree_has_a_layer() -> None:
    assert {module.part for module in modules()} <= set(MAY_IMPORT)


def test_the_configuration_model_knows_only_the_config_models_of_services() -> None:
    names = [name for name, _ in own_imports(by_name()["xinstruct.settings"]) if part_of(name) in SERVICES]
    assert not [name for name in names if _leaf(name) != "config"]


def test_inside_a_service_imports_point_from_app_to_domain() -> None:
    wrong = [
        f"{module.shown}:{line}: {module.leaf} imports {name}"
        for module in modules()
        if module.part in SERVICES and module.leaf in INNER
        for name, line in own_imports(module)
        if part_of(name) == module.part and _leaf(name) in INNER[INNER.index(module.leaf) + 1:]
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_microworld_and_the_report_import_the_truth() -> None:
    # The command `xinstruct microworld truth` lives in the microworld too: the CLI mounts it, and touches no truth.
    wrong = [
        f"{module.shown}:{line}"
        for module in modules()
        if module.part != "microworld" and module.name != COMPARES_WITH_TRUTH
        for name, line in imports(module)
        if name == TRUTH or name.startswith(f"{TRUTH}.")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_service_names_the_microworld_or_its_truth() -> None:
    # Not by a path, a module or a command in a string either (prose aside): nothing may read what judges it.
    wrong = [
        f"{module.shown}:{node.lineno}: {node.value[:60]!r}"
        for module in modules()
        if module.part in (*SERVICES, "inference", "spine")
        for node in nodes(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        and re.search(r"\bmicroworld\b|\btruth\b", node.value) and " " not in node.value
    ]
    assert not wrong, "\n".join(wrong)


def test_domain_stage_and_prompts_do_no_input_or_output_and_read_no_clock_or_chance() -> None:
    wrong = [fault for module in modules() if _is_pure(module) for fault in _impurities(module)]
    assert not wrong, "\n".join(wrong)


def test_what_domain_stage_and_prompts_import_of_their_service_is_as_pure() -> None:
    wrong = []
    for module in modules():
        if _is_pure(module):
            for reached, chain in _reached(module):
                wrong += [f"{fault} (reached by {' → '.join(chain)})" for fault in _impurities(reached)]
    assert not wrong, "\n".join(sorted(set(wrong)))


def _is_pure(module: Module) -> bool:
    return module.part in SERVICES and module.leaf in PURE


def _reached(start: Module) -> Iterator[tuple[Module, tuple[str, ...]]]:
    """Modules of the same service that `start` imports, however indirectly, with the chain; config models aside."""
    seen = {start.name}
    queue = [(start, (start.leaf,))]
    while queue:
        module, chain = queue.pop()
        for name, _ in own_imports(module):
            if part_of(name) != start.part or name in seen or _leaf(name) == "config":
                continue
            seen.add(name)
            reached = by_name()[name]
            queue.append((reached, (*chain, reached.leaf)))
            yield reached, (*chain, reached.leaf)


def _impurities(module: Module) -> Iterator[str]:
    for name, line in imports(module):
        parts = name.split(".")
        prefixes = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        if prefixes & IMPURE_LIBRARIES:
            yield f"{module.shown}:{line}: imports {name}"
        if parts[:2] == ["xinstruct", "spine"] and len(parts) > 2 and parts[2] in IMPURE_SPINE:
            yield f"{module.shown}:{line}: imports {name}"
    for node in running_nodes(module):
        if isinstance(node, ast.Call) and (called(node) in IMPURE_CALLS or called(node).endswith(CLOCK_CALLS)):
            yield f"{module.shown}:{node.lineno}: calls {called(node)}"


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
