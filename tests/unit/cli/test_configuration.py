"""xinstruct init."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from xinstruct.cli.configuration import chosen_settings, commented_settings
from xinstruct.cli.main import main
from xinstruct.cli.output import ExitCode
from xinstruct.settings import XinstructSettings, load_settings
from xinstruct.spine.config import parse
from xinstruct.spine.errors import Invalid


def test_the_written_file_changes_nothing_until_it_is_edited() -> None:
    assert parse(commented_settings({}), XinstructSettings) == XinstructSettings()


def test_what_was_chosen_is_active() -> None:
    chosen = chosen_settings(endpoint="http://localhost:8000/v1", model="qwen", contact="https://me.example")
    settings = parse(commented_settings(chosen), XinstructSettings)
    assert settings.inference.generator.url == settings.inference.evaluator.url == "http://localhost:8000/v1"
    assert settings.inference.generator.kind == "openai"
    assert settings.crawler.fetch.contact_url == "https://me.example"


def test_every_key_can_be_uncommented_and_stays_what_it_was() -> None:
    text = re.sub(r"(?m)^( *)#(?=[a-z_]+:)", r"\1", commented_settings({}))
    assert parse(text, XinstructSettings) == XinstructSettings()


def test_every_key_is_described() -> None:
    rows = commented_settings({}).splitlines()
    bare = [row for before, row in pairwise(rows) if re.match(r" *#[a-z_]+:", row) and not re.match(r" *# ", before)]
    assert bare == ["  #kind: sqlite"]


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "xinstruct.yaml"
    assert main(["init", str(file)]) == ExitCode.OK
    file.write_text("home: mine\n", "utf-8")
    assert main(["init", str(file)]) == ExitCode.CONFLICT
    assert file.read_text("utf-8") == "home: mine\n"
    assert main(["init", str(file), "--force"]) == ExitCode.OK


def test_home_is_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "xinstruct.yaml"
    file.write_text("home: mine\n", "utf-8")
    assert load_settings(file).home_path() == tmp_path / "mine"


def test_bodies_have_one_retention_the_crawlers(tmp_path: Path) -> None:
    file = tmp_path / "xinstruct.yaml"
    file.write_text("crawler: {fetch: {body_retention_days: 30}}\n", "utf-8")
    assert load_settings(file).curation.body_retention_days == 30
    file.write_text("curation: {body_retention_days: 0}\n", "utf-8")
    with pytest.raises(Invalid, match=r"curation\.body_retention_days is 0, crawler\.fetch\.body_retention_days is 90"):
        load_settings(file)
    file.write_text("curation: {body_retention_days: 90}\n", "utf-8")
    assert load_settings(file).curation.body_retention_days == 90
