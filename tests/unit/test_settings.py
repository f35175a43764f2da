"""The whole configuration: who a process is among its replicas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xinstruct.__main__ import EXIT_REFUSED, INSTANCE, main
from xinstruct.settings import XinstructSettings, load_settings, named
from xinstruct.spine.errors import Invalid
from xinstruct.targets import TARGETS, TASKS


def test_a_name_from_outside_replaces_the_configured_one_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "xinstruct.yaml"
    file.write_text("instance: one-for-all\ncrawler: {fetch: {body_retention_days: 30}}\n", "utf-8")
    settings = load_settings(file)
    assert named(settings, "backgen-2") == settings.model_copy(update={"instance": "backgen-2"})


def test_no_name_from_outside_leaves_the_configured_one() -> None:
    assert named(XinstructSettings(instance="a"), "").instance == "a"


@pytest.mark.parametrize("name", ["Backgen-0", "backgen.0", "a" * 41, "backgen-$(POD_INDEX)"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="lower-case letters"):
        named(XinstructSettings(), name)


def test_a_process_takes_its_name_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(INSTANCE, "No Name")
    assert main(["all"]) == EXIT_REFUSED
    assert "instance 'No Name' is no name" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "said"), [("migrate", "set database_url"), ("topics", "set log.kind to kafka")])
def test_a_task_that_one_process_does_for_itself_is_refused(
    task: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([task]) == EXIT_REFUSED
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["crawlr"], "invalid choice: 'crawlr' (choose from 'all', 'crawler', "),
    (["crawlr", "--help"], "invalid choice: 'crawlr'"),
    (["crawler", "migrate"], "migrate: alone, or not at all"),
    (["all", "crawler"], "all: alone, or not at all"),
])
def test_what_is_no_target_is_refused_before_anything_is_read(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--config", "none.yaml"])
    assert ended.value.code == EXIT_REFUSED
    assert said in capsys.readouterr().err


def test_help_names_every_target_and_task(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["crawler", "--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(";", " ").split()
    assert {"all", *TARGETS, *TASKS} <= set(words)


@pytest.mark.parametrize(("text", "said"), [
    ("training: {jobs: {kind: kubernetes}}", "training.jobs.manifest_file: kind kubernetes needs the file"),
    ("training: {serving: {evaluator: 'judge-{slot}'}}", "inference.evaluator.url: training.serving.evaluator names"),
    ("training: {serving: {evaluator: judge}}", "training.serving.evaluator: String should match"),
    ("inference: {evaluator: {kind: openai, url: 'http://judge-{slot}'}}", "only an evaluator of kind kserve"),
    ("inference: {generator: {kind: openai, url: 'http://writer-{slot}'}}", "only an evaluator of kind kserve"),
])
def test_what_cannot_work_on_kubernetes_is_refused_at_its_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "xinstruct.yaml").write_text(text, "utf-8")
    with pytest.raises(Invalid, match=re.escape(said)):
        load_settings(tmp_path / "xinstruct.yaml")
