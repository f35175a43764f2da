"""The folder of a job: what its process is given there, and what it leaves there. The same wherever jobs run."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xinstruct.spine.errors import Unavailable
from xinstruct.training.domain import FAILURE_CHARS_MAX, JobSpec
from xinstruct.training.jobs import JobLook, JobPhase

SPEC, PROGRESS, RESULT, OUTPUT, LOCK, MODEL = "spec.json", "progress.jsonl", "result.json", "job.log", "lock", "model"
JOBS, CHECKPOINTS = "jobs", "checkpoints"
VOLUME_LOOK_S = 10.0
_TAIL_BYTES = 4096
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PROMPT = {"PYTHONUNBUFFERED": "1"}
"""A line of the log is there when it is said, not when 8 KB of them are."""
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}


def work_folder_of(home: Path, job_name: str) -> Path:
    """The folder of a job of the service whose home folder is `home`, absolute; wherever jobs run."""
    return (home / JOBS / job_name).absolute()


@contextmanager
def held(work: Path) -> Iterator[None]:
    """The folder's lock, for one process works in it. Waits while another holds it, and says so to whoever reads along:
    the one of a keeper that was lost, or of a node that does not answer, may still be at work.
    """
    with (work / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"waits for the process that holds {lock.name}\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_spec(spec: JobSpec) -> Path:
    """Write the file that the job's process is told by, and make its folder; returns the file. OSError as it comes."""
    file = Path(spec.work_folder) / SPEC
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, spec.to_json().encode())
    return file


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that a reader sees as it was or as it is now, never half written."""
    partial = file.with_name(f"{file.name}.part")
    partial.write_bytes(content)
    os.replace(partial, file)


def variables(spec: JobSpec) -> dict[str, str]:
    """What the process's environment must hold before a library is loaded: pinned threads, no hub, prompt output."""
    threads = str(spec.recipe.get("threads_count", 1))
    return {name: threads for name in _THREAD_VARIABLES} | _OFFLINE | _PROMPT


def ended(work: Path) -> JobLook | None:
    """The job as its own last word tells it, DONE or FAILED; None while there is none. Unavailable as _content."""
    content = _content(work / RESULT)
    if content is None:
        return None
    result: dict[str, Any] = json.loads(content)
    steps = (int(result.get("steps_done", 0)), int(result.get("steps_count", 0)), result.get("loss"))
    if result.get("failure"):
        return JobLook(JobPhase.FAILED, *steps, failure=str(result["failure"])[:FAILURE_CHARS_MAX])
    metrics = json.dumps(result.get("metrics", {}), sort_keys=True)
    return JobLook(JobPhase.DONE, *steps, model_folder=str(work / MODEL), metrics=metrics)


def steps(work: Path) -> tuple[int, int, float | None]:
    """(steps done, steps in all, loss) of the last whole line of progress; zeros before the first.

    Unavailable as ended.
    """
    lines = (_content(work / PROGRESS) or b"")[-_TAIL_BYTES:].split(b"\n")
    last: dict[str, Any] = json.loads(lines[-2]) if len(lines) > 1 and lines[-2].startswith(b"{") else {}
    return int(last.get("steps_done", 0)), int(last.get("steps_count", 0)), last.get("loss")


def last_checkpoint(work: Path) -> Path | None:
    """Folder of the newest whole checkpoint. The trainer writes its state last, and may be killed while it does."""
    found = [path for path in (work / CHECKPOINTS).glob("checkpoint-*") if _is_json(path / "trainer_state.json")]
    return max(found, key=checkpoint_steps) if found else None


def checkpoint_steps(folder: Path) -> int:
    """Steps after which a checkpoint was written."""
    return int(folder.name.rpartition("-")[2])


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True


def last_words(work: Path) -> str:
    """The end of what the process said; "" when it said nothing. Unavailable as ended."""
    said = (_content(work / OUTPUT) or b"")[-_TAIL_BYTES:]
    return said.decode("utf-8", "replace").strip()[-FAILURE_CHARS_MAX:]


def _content(file: Path) -> bytes | None:
    """None where nothing is. Unavailable when that cannot be known: a volume that is shared may be away for a while."""
    with refusals(file, VOLUME_LOOK_S):
        try:
            return file.read_bytes()
        except FileNotFoundError:
            return None


@contextmanager
def refusals(file: Path, retry_after_s: float | None = None) -> Iterator[None]:
    """What the system says of a file that cannot be read now, as Unavailable."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot read {file}: {error.strerror}", retry_after_s) from error
