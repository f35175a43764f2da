"""Jobs as local processes, each in a folder of its own under home.

A job's process holds a lock on its folder, so that it runs once, and dies with the process that started it; a later
start goes on from the last checkpoint. Run as `python -m xinstruct.training.local_jobs SPEC PARENT`, it ties itself to
its parent before torch is loaded. Linux only (parent-death signal).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from xinstruct.spine.errors import Unavailable
from xinstruct.training.domain import FAILURE_CHARS_MAX, JobSpec
from xinstruct.training.jobs import JobLook, JobPhase

SPEC, PROGRESS, RESULT, OUTPUT, LOCK, MODEL = "spec.json", "progress.jsonl", "result.json", "job.log", "lock", "model"
_PR_SET_PDEATHSIG = 1
_LOCKED_EXIT = 75
_TAIL_BYTES = 4096


class LocalJobs:
    """Job folders under `folder`; processes that end with this one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, spec: JobSpec) -> None:
        """See the port."""
        running = self._processes.get(spec.job_name)
        if running is not None and running.poll() is None:
            return
        work = Path(spec.work_folder)
        try:
            work.mkdir(parents=True, exist_ok=True)
            (work / SPEC).write_text(spec.to_json(), encoding="utf-8")
            self._processes[spec.job_name] = self._spawn(work, int(spec.recipe.get("threads_count", 1)))
        except OSError as error:
            raise Unavailable(f"cannot start the job {spec.job_name}: {error.strerror}") from error

    def look(self, job_name: str) -> JobLook:
        """See the port."""
        work = self._folder / job_name
        process = self._processes.get(job_name)
        result = _read_json(work / RESULT)
        if result is not None:
            return _finished(work, result)
        progress = _last_line(work / PROGRESS)
        steps = (int(progress.get("steps_done", 0)), int(progress.get("steps_count", 0)), progress.get("loss"))
        if process is None:
            return JobLook(JobPhase.ABSENT, *steps)
        exit_code = process.poll()
        if exit_code is None:
            return JobLook(JobPhase.RUNNING, *steps)
        if exit_code < 0 or exit_code == _LOCKED_EXIT:
            return JobLook(JobPhase.ABSENT, *steps)
        return JobLook(JobPhase.FAILED, *steps, failure=_tail(work / OUTPUT))

    def close(self) -> None:
        """See the port."""
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def _spawn(self, work: Path, threads_count: int) -> subprocess.Popen[bytes]:
        threads = {name: str(threads_count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-m", "xinstruct.training.local_jobs", str(work / SPEC), str(os.getpid())]
        with (work / OUTPUT).open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | threads | offline
            )


def _finished(work: Path, result: dict[str, Any]) -> JobLook:
    steps = (int(result.get("steps_done", 0)), int(result.get("steps_count", 0)), result.get("loss"))
    if result.get("failure"):
        return JobLook(JobPhase.FAILED, *steps, failure=str(result["failure"])[:FAILURE_CHARS_MAX])
    metrics = json.dumps(result.get("metrics", {}), sort_keys=True)
    return JobLook(JobPhase.DONE, *steps, model_folder=str(work / MODEL), metrics=metrics)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _last_line(path: Path) -> dict[str, Any]:
    """The last whole line of a file that is being written; {} when there is none."""
    try:
        lines = path.read_bytes()[-_TAIL_BYTES:].split(b"\n")
    except FileNotFoundError:
        return {}
    return dict(json.loads(lines[-2])) if len(lines) > 1 and lines[-2].startswith(b"{") else {}


def _tail(path: Path) -> str:
    text = path.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
    return text[-FAILURE_CHARS_MAX:] or "the job ended without a word"


def main(arguments: list[str]) -> int:
    """Tie this process to its parent, take the folder's lock, run the job."""
    spec_file, parent = Path(arguments[0]), int(arguments[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return _LOCKED_EXIT  # the parent died before the line above
    with (spec_file.parent / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _LOCKED_EXIT
        from xinstruct.training.job import main as run_job

        return int(run_job(["--spec", str(spec_file)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
