"""The documents name only what is there: paths, make targets, topics, configuration keys, commands, options."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from architecture.source import ROOT, modules, tracked_files
from xinstruct.spine.topics import TOPICS

DOCUMENTS = tuple(sorted(
    path for pattern in ("*.md", "docs/*.md", "charts/*/README.md", "k8s/*.md") for path in ROOT.glob(pattern)
))

WRITTEN_WHEN_RUN = (
    ".venv", ".cache", "var", "dist",
    "calibration.json", "manifest.json", "report.json", "seeds.jsonl", "xinstruct.yaml",
)
"""Files, and first folders of paths, that a clean clone does not have."""

documents = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@documents
def test_every_path_that_a_document_names_exists(path: Path) -> None:
    wrong = [token for token in _code(path) if _is_path(token) and not _exists(token)]
    assert not wrong, wrong


@documents
def test_every_link_between_documents_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    wrong = [link for link in links if "://" not in link and not _link_works(path, link)]
    assert not wrong, wrong


@documents
def test_every_make_target_that_a_document_names_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for token in _code(path) for word in re.findall(r"(?:^|&& )make ([a-z][a-z-]*)", token)}
    assert named <= targets, named - targets


@documents
def test_every_topic_that_a_document_names_exists(path: Path) -> None:
    wrong = [token for token in _code(path) if re.fullmatch(r"[a-z-]+-v\d+", token) and token not in TOPICS]
    assert not wrong, wrong


@documents
def test_every_configuration_key_that_a_document_names_exists(path: Path) -> None:
    keys = _configuration_keys()
    sections = {key.split(".")[0] for key in keys}
    wrong = [
        token for token in _code(path)
        if re.fullmatch(r"[a-z_]+(\.[a-z_<>\[\]]+)+", token) and token.split(".")[0] in sections and not _is_path(token)
        and not any(key == token or key.startswith((f"{token}.", f"{token}[")) for key in keys)
    ]
    assert not wrong, wrong


@documents
def test_every_xinstruct_command_that_a_document_shows_exists_with_its_options(path: Path) -> None:
    wrong = [f"{line}: {fault}" for line in _command_lines(path) for fault in _faults(shlex.split(line)[1:])]
    assert not wrong, "\n".join(wrong)


def test_every_configuration_key_has_a_description() -> None:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    wrong = re.findall(r"^\| (`[^`]+`) .*\|  \|$", page, re.MULTILINE)
    assert not wrong, wrong


def test_every_document_that_the_code_refers_to_exists() -> None:
    names = re.compile(r"(?<![\w/-])((?:docs/)?[\w-]+\.md)\b")
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in tracked_files()
        if path.suffix in (".py", ".proto", ".toml", ".yaml") and path != Path(__file__)
        for name in names.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).exists() and not any(file.name == name for file in tracked_files())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_changelog_knows_the_version_of_the_code() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_make_target_is_listed_by_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z-]+):.*## \S", text, re.MULTILINE))
    assert targets == {word for line in re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE) for word in line.split()}


def test_the_architecture_page_names_every_part_of_the_tree() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    folders = {module.part for module in modules() if module.path.parent.name == module.part}
    assert not [part for part in folders if f"{part}/" not in page]


@cache
def _code(path: Path) -> tuple[str, ...]:
    """What a document sets in code: inline pieces, and the lines of fenced blocks."""
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return (*inline, *(line.strip() for block in fenced for line in block.splitlines()))


def _is_path(token: str) -> bool:
    """A relative path ("spine/log/kafka.py", "docs/") or the name of a source file ("topics.py")."""
    if not re.fullmatch(r"[\w.*<>/-]+", token) or token.startswith(("/", "-")):
        return False
    is_file_name = re.search(r"\w\.(py|proto|md|sh|toml|lock|yaml|json|safetensors)$", token)
    return bool(is_file_name) or ("/" in token and not re.fullmatch(r"[a-z_]+/[a-z_]+", token) and token.count("/") < 8)


def _exists(token: str) -> bool:
    """Somewhere in the tree, by its whole path or by its end; <name> stands for any name."""
    if token.split("/")[0] in WRITTEN_WHEN_RUN:
        return True
    pattern = re.escape(token.rstrip("/")).replace(r"\*", "[^/]*")
    pattern = re.sub(r"<[^>]*>", "[^/]*", pattern)
    wanted = re.compile(rf"(^|/){pattern}($|/)")
    return any(wanted.search(str(path.relative_to(ROOT))) for path in tracked_files())


def _link_works(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (document.parent / name) if name else document
    if not target.exists():
        return False
    return not anchor or anchor in {_anchor(line) for line in target.read_text(encoding="utf-8").splitlines()}


def _anchor(line: str) -> str:
    """The anchor that a heading gets; "" for other lines."""
    if not line.startswith("#"):
        return ""
    return re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")


@cache
def _configuration_keys() -> frozenset[str]:
    page = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))


def _command_lines(path: Path) -> Iterator[str]:
    """Lines of code that run `xinstruct`, without comments, shell syntax and the folder of the command."""
    for token in _code(path):
        line = re.sub(r"^(\$ )?(\.venv/bin/)?(?=xinstruct )", "", token)
        if line.startswith("xinstruct ") and not re.search(r"[…|<>]|\.\.\.", line):
            yield re.sub(r"\s+#.*$", "", line).rstrip(" &;")


def _faults(words: list[str]) -> Iterator[str]:
    """What is wrong with the words after `xinstruct`: an unknown command or option."""
    command: Any = _command()
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        name, *words = words
        if name == "microworld":
            command = _microworld_command()
            continue
        if name not in command.commands:
            yield f"no command {name!r}"
            return
        command = command.commands[name]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    yield from (f"no option {word!r}" for word in words if word.startswith("-") and word.partition("=")[0] not in known)


@cache
def _microworld_command() -> Any:
    from xinstruct.microworld.command import application

    return typer.main.get_command(application)


@cache
def _command() -> Any:
    from xinstruct.cli.main import app

    return typer.main.get_command(app)
