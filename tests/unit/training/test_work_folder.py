"""The folder of a job: which checkpoint a killed job goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xinstruct.spine.errors import Unavailable
from xinstruct.training.work_folder import (
    OUTPUT,
    PROGRESS,
    RESULT,
    checkpoint_steps,
    ended,
    last_checkpoint,
    last_words,
    steps,
)

STATE = '{"global_step": 5}'


def checkpoint(work: Path, steps: int, state: str | None) -> Path:
    folder = work / "checkpoints" / f"checkpoint-{steps}"
    folder.mkdir(parents=True)
    if state is not None:
        (folder / "trainer_state.json").write_text(state, "utf-8")
    return folder


def test_the_last_checkpoint_is_the_one_with_most_steps(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5, STATE)
    newest = checkpoint(tmp_path, 10, STATE)
    assert last_checkpoint(tmp_path) == newest
    assert checkpoint_steps(newest) == 10


@pytest.mark.parametrize("state", [None, "", STATE[:7], "\ufeff\x00"])
def test_a_checkpoint_whose_writer_was_killed_is_passed_over(tmp_path: Path, state: str | None) -> None:
    whole = checkpoint(tmp_path, 5, STATE)
    checkpoint(tmp_path, 10, state)
    assert last_checkpoint(tmp_path) == whole


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    checkpoint(tmp_path, 5, "")
    assert last_checkpoint(tmp_path) is None


@pytest.mark.parametrize(("file", "read"), [(RESULT, ended), (PROGRESS, steps), (OUTPUT, last_words)])
def test_a_folder_that_cannot_be_read_now_is_no_job_that_has_said_nothing(
    tmp_path: Path, file: str, read: Callable[[Path], object]
) -> None:
    said_nothing = read(tmp_path)
    (tmp_path / file).mkdir()
    with pytest.raises(Unavailable, match=f"cannot read .*{file}") as error:
        read(tmp_path)
    assert said_nothing in (None, (0, 0, None), "") and error.value.retry_after_s
