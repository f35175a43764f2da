"""xinstruct init."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from xinstruct.__main__ import main as serve_targets
from xinstruct.cli.configuration import chosen_settings, commented_settings
from xinstruct.cli.main import main
from xinstruct.cli.output import ExitCode
from xinstruct.settings import XinstructSettings, load_settings
from xinstruct.spine.config import parse
from xinstruct.spine.errors import Invalid

UNKNOWN = (
    "unknown language '{0}'; known are bn (Bengali), fi (Finnish), hi (Hindi), id (Indonesian), sw (Swahili), "
    "ta (Tamil), th (Thai), tr (Turkish), ur (Urdu), vi (Vietnamese). To add one, write spine/languages_data/{0}.yaml "
    "after a neighbour's example, found '{0}'"
)


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


@pytest.fixture
def refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """What `config check` says of a file with that text, line by line, without the file's name."""

    def check(text: str) -> list[str]:
        file = tmp_path / "xinstruct.yaml"
        file.write_text(text, "utf-8")
        assert main(["config", "check", "--config", str(file)]) == ExitCode.INVALID
        return [line.removeprefix(str(file)) for line in capsys.readouterr().err.splitlines()]

    return check


def test_every_combination_that_cannot_work_is_named_at_once_with_the_line_to_change(
    refusals: Callable[[str], list[str]],
) -> None:
    lines = refusals(
        "addresses:\n  crawler: crawler:7700\n"
        "inference:\n  generator:\n    kind: openai\n  evaluator:\n    kind: ngram\n"
        "  encoder: {api_key_env: KEY, api_key_file: key}\n"
        "backgen:\n  prompt_family: tiny\n"
        "training:\n  evaluator:\n    prompt_family: tiny\n"
        "database_url: ''\n"
        "curation:\n  body_retention_days: 1\n"
    )  # fmt: skip
    expected = [
        ":4: inference.generator.url: kind openai needs the server's URL",
        ":7: inference.evaluator.kind: ngram only embeds; use local or openai for the evaluator",
        ":8: inference.encoder.api_key_file: set api_key_env or api_key_file, not both",
        ":10: backgen.prompt_family: training.generator.prompt_family is chat, backgen.prompt_family is tiny",
        ":13: training.evaluator.prompt_family: training.evaluator.prompt_family is tiny, scoring.",
        ":16: curation.body_retention_days: curation.body_retention_days is 1, crawler.fetch.body_retention_days is 90",
        ":1: addresses: a process that runs only some services needs a log that others can reach: set log.kind",
        ":14: database_url: services in several processes need a shared database",
    ]
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * 8, lines


def test_only_a_server_of_one_model_can_have_the_promoted_one(refusals: Callable[[str], list[str]]) -> None:
    (line,) = refusals("inference:\n  evaluator: {kind: kserve, url: http://models, by_digest: true}\n")
    assert line.endswith("inference.evaluator.by_digest: kind kserve asks by digest or by nothing: leave it out")


def test_what_text_generation_inference_cannot_do_is_named(refusals: Callable[[str], list[str]]) -> None:
    lines = refusals("inference:\n  generator: {kind: tgi}\n  encoder: {kind: tgi, url: http://models}\n")
    expected = [
        ":2: inference.generator.url: kind tgi needs the server's URL",
        ":3: inference.encoder.kind: tgi only writes text; use openai, local or ngram for the encoder",
    ]
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * 2, lines


def test_a_predictor_needs_its_url_and_writes_nothing(refusals: Callable[[str], list[str]]) -> None:
    lines = refusals(
        "inference:\n  generator: {kind: kserve, url: 'http://writer:8080'}\n"
        "  evaluator: {kind: kserve, url: 'evaluator:8080'}\n  encoder: {kind: kserve, url: 'grpc://encoder:8081'}\n"
    )
    expected = [
        ":2: inference.generator.kind: a predictor labels and embeds; use local or openai for the generator",
        ":3: inference.evaluator.url: kind kserve needs the predictor's URL",
    ]
    assert [line.startswith(start) for line, start in zip(lines, expected, strict=True)] == [True] * 2, lines


def test_a_process_of_one_service_is_told_the_same_with_its_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "xinstruct.yaml"
    file.write_text("log:\n  kind: sqlite\nbackgen: {prompt_family: tiny}\n", "utf-8")
    assert serve_targets(["crawler", "--config", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(str(file)).partition(": ")[0] for line in lines] == [":3", ":2", ":1"]
    assert serve_targets(["crawler"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["log.kind", "database_url"]


def test_whoever_only_asks_others_needs_no_log_or_database_of_theirs(tmp_path: Path) -> None:
    file = tmp_path / "xinstruct.yaml"
    file.write_text("addresses: {crawler: 'crawler:7700'}\n", "utf-8")
    assert load_settings(file).addresses == {"crawler": "crawler:7700"}


def test_an_unknown_language_and_a_threshold_that_is_no_probability_are_named_at_once(
    refusals: Callable[[str], list[str]],
) -> None:
    lines = refusals(
        "crawler:\n  languages:\n  - sw\n  - zz\n"
        "curation:\n  best_thresholds:\n    yy: 0.5\n    sw: 2.0\n    fi: 0.9\n"
    )  # fmt: skip
    assert lines == [
        f":4: crawler.languages.1: {UNKNOWN.format('zz')}",
        f":7: curation.best_thresholds.yy: {UNKNOWN.format('yy')}",
        ":8: curation.best_thresholds.sw: Input should be less than or equal to 1, found '2.0'",
    ]


def test_known_languages_have_thresholds_of_their_own() -> None:
    text = "crawler: {languages: [sw, fi]}\ncuration: {best_thresholds: {sw: 0, fi: 1}}"
    settings = parse(text, XinstructSettings)
    assert settings.crawler.languages == ("sw", "fi")
    assert [settings.curation.threshold(code) for code in ("sw", "fi", "ur")] == [0, 1, 0.5]
