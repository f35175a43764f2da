"""Model folders: what their digest covers, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from xinstruct.inference.model_folder import model_digest
from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.training.folders import calibration_of, licence_of


def folder(path: Path, **files: str) -> Path:
    path.mkdir()
    contents = {"model.safetensors": "weights", "config.json": "{}", "tokenizer.json": "{}"} | files
    for name, content in contents.items():
        (path / name).write_text(content)
    return path


def test_the_digest_covers_weights_tokenizer_and_config_only(tmp_path: Path) -> None:
    plain = model_digest(folder(tmp_path / "a"))
    assert model_digest(folder(tmp_path / "b", **{"README.md": "hello", "MANIFEST.json": "{}"})) == plain
    for name in ("model.safetensors", "config.json", "tokenizer.json", "generation_config.json", "calibration.json"):
        assert model_digest(folder(tmp_path / name, **{name: "other"})) != plain


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "weights.pkl"])
def test_weights_that_can_execute_code_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match="execute code"):
        model_digest(folder(tmp_path / "a", **{name: "x"}))


def test_a_folder_without_weights_is_refused_and_a_missing_one_is_not_found(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Invalid, match="safetensors"):
        model_digest(empty)
    with pytest.raises(NotFound):
        model_digest(tmp_path / "missing")


@pytest.mark.parametrize(("files", "licence"), [
    ({"MANIFEST.json": '{"licence": "MIT"}'}, "MIT"),
    ({"README.md": "---\nlanguage: sw\nlicense: apache-2.0\n---\nText"}, "apache-2.0"),
    ({"README.md": "license: none of this counts"}, "other"),
    ({"MANIFEST.json": "{}"}, "other"),
    ({}, "other"),
])
def test_the_licence_is_the_one_that_the_folder_states(tmp_path: Path, files: dict[str, str], licence: str) -> None:
    assert licence_of(folder(tmp_path / "a", **files)) == licence


def test_the_calibration_is_the_one_that_the_folder_holds(tmp_path: Path) -> None:
    written = '{"bias": 1.0, "log_odds": 0.5, "log_probability": 4}'
    assert calibration_of(folder(tmp_path / "a", **{"calibration.json": written})) == written
    assert calibration_of(folder(tmp_path / "b")) == ""


@pytest.mark.parametrize("content", [
    "", "[]", "3", '{"bias": 1.0, "log_odds": 0.5}', '{"bias": 1.0, "log_odds": 0.5, "log_probability": "4"}',
    '{"bias": 1.0, "log_odds": 0.5, "log_probability": NaN}',
    '{"bias": 1.0, "log_odds": 0.5, "log_probability": 4, "more": 1}',
])
def test_a_calibration_that_scoring_could_not_apply_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(Invalid, match="bias, log_odds, log_probability"):
        calibration_of(folder(tmp_path / "a", **{"calibration.json": content}))
