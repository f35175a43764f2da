"""Jobs as local processes, each in a folder of its own under home.

A job's process holds a lock on its folder, so that it runs once, and dies with the process that started it; a later
start goes on from the last checkpoint. Run as `python -m xinstruct.training.local_jobs SPEC PARENT`, it ties itself to
its parent before torch is loaded. Linux only (parent-death signal).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from xinstruct.spine.errors import Unavailable
from xinstruct.training.domain import JobSpec
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.work_folder import OUTPUT, ended, held, last_words, steps, variables, write_spec

_PR_SET_PDEATHSIG = 1
_ORPHAN_EXIT = 75


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
        try:
            self._processes[spec.job_name] = _spawn(spec, write_spec(spec))
        except OSError as error:
            raise Unavailable(f"cannot start the job {spec.job_name}: {error.strerror}") from error

    def look(self, job_name: str) -> JobLook:
        """See the port."""
        work = self._folder / job_name
        process = self._processes.get(job_name)
        exit_code = None if process is None else process.poll()
        end = ended(work)
        if end is not None:
            return end
        if process is None:
            return JobLook(JobPhase.ABSENT, *steps(work))
        if exit_code is None:
            return JobLook(JobPhase.RUNNING, *steps(work))
        if exit_code < 0:
            return JobLook(JobPhase.ABSENT, *steps(work))
        return JobLook(JobPhase.FAILED, *steps(work), failure=last_words(work) or "the job ended without a word")

    def cancel(self, job_name: str) -> None:
        """See the port."""
        process = self._processes.pop(job_name, None)
        if process is not None:
            _end(process)

    def close(self) -> None:
        """See the port."""
        for process in self._processes.values():
            _end(process)


def _spawn(spec: JobSpec, spec_file: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "xinstruct.training.local_jobs", str(spec_file), str(os.getpid())]
    with (spec_file.parent / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | variables(spec)
        )
    # Nobody looks again after a job's last word, and it ends a moment later: without this it would stay as a zombie.
    threading.Thread(target=process.wait, name="job-end", daemon=True).start()
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def main(arguments: list[str]) -> int:
    """Tie this process to its parent, take the folder's lock, run the job."""
    spec_file, parent = Path(arguments[0]), int(arguments[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return _ORPHAN_EXIT  # the parent died before the line above
    with held(spec_file.parent):
        from xinstruct.training.job import main as run_job

        return int(run_job(["--spec", str(spec_file)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
