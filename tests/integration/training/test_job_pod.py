"""The one process of a job's pod: it holds the folder, says everything twice, and ends when it is told to."""

from __future__ import annotations

import fcntl
import json
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xinstruct.spine.signals import TERMINATED_EXIT
from xinstruct.training.domain import JobSpec

LINE_S_MAX = 30.0


def told(work: Path, **recipe: object) -> list[str]:
    """The command of a job on no rows, with everything it needs in its folder."""
    work.mkdir()
    (work / "rows.jsonl").write_text("")
    spec = JobSpec("generator-r0-0", "generator", 0, "/base", "", str(work / "rows.jsonl"), str(work), recipe)
    (work / "spec.json").write_text(spec.to_json())
    return [sys.executable, "-m", "xinstruct.training.job_pod", "--spec", str(work / "spec.json")]


def ran(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.mark.parametrize(("recipe", "failure"), [({}, "holds no pairs"), ({"threads_count": "many"}, "valid integer")])
def test_a_failure_that_the_job_knows_is_a_result_and_no_failure_of_the_pod(
    tmp_path: Path, recipe: dict[str, object], failure: str
) -> None:
    assert ran(told(tmp_path / "job", **recipe)).returncode == 0
    assert failure in json.loads((tmp_path / "job" / "result.json").read_text())["failure"]


def test_what_a_crashing_job_says_stands_in_the_pods_output_and_beside_its_spec(tmp_path: Path) -> None:
    command = told(tmp_path / "job")
    (tmp_path / "job" / "rows.jsonl").write_text("no row\n")
    ended = ran(command)
    assert ended.returncode == 1
    assert "Traceback" in ended.stdout and "JSONDecodeError" in ended.stdout
    assert (tmp_path / "job" / "job.log").read_text() == ended.stdout
    assert not (tmp_path / "job" / "result.json").exists()


def test_a_line_of_a_pod_is_copied_when_it_is_said_and_not_when_the_pod_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # a machine that sets it would hide the fault
    file = tmp_path / "job.log"
    program = (
        "import sys; from pathlib import Path; from xinstruct.training.job_pod import _copy_output;"
        "_copy_output(Path(sys.argv[1])); print('step 1'); sys.stdin.read(); print('step 2')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as pod:
        assert pod.stdin is not None and pod.stdout is not None
        assert select.select([pod.stdout], [], [], LINE_S_MAX)[0]
        assert pod.stdout.readline() == b"step 1\n"
        pod.stdin.close()
        assert pod.stdout.read() == b"step 2\n"
    assert file.read_text() == "step 1\nstep 2\n"


def test_a_pod_waits_for_the_one_that_holds_its_folder_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    work = tmp_path / "job"
    command = told(work)
    with (work / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert waiting.stderr.readline() == f"waits for the process that holds {work / 'lock'}\n"
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(timeout=60) == TERMINATED_EXIT
        waiting.stderr.close()
