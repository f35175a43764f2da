"""A predictor that was started before anybody named a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def predictor(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xinstruct.predictor", "--role", "evaluator", "--model-dir", str(folder), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["none", ""], ids=["no folder", "an empty one"])
def test_a_predictor_that_may_wait_for_its_model_waits_until_it_is_told_to_end(tmp_path: Path, name: str) -> None:
    process = predictor(tmp_path / name, "--await-model")
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["event"] == "model_awaited"
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=30) == 0


def test_a_predictor_that_may_not_ends_at_once_with_a_sentence(tmp_path: Path) -> None:
    _, said = (process := predictor(tmp_path / "none")).communicate(timeout=60)
    assert (process.returncode, said.strip()) == (2, f"no model folder {tmp_path / 'none'}")
