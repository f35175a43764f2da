"""The port that runs a training job somewhere: a process of this one (local_jobs.py), or a pod (kubernetes_jobs.py).

Both are held to tests/contract/jobs. Whatever runs a job, its folder is the same (work_folder.py), and this process and
the job see it at the same path.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from xinstruct.training.domain import JobSpec


class JobPhase(StrEnum):
    """What is known of a job. ABSENT: nothing runs it, because it was never started or died without a result."""

    ABSENT = "absent"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobLook:
    """A job as it is now. loss: nats a token, None before the first step. failure: for a person, when FAILED.

    waiting_for: for a person, when it is RUNNING by name and something outside keeps it from going on.
    """

    phase: JobPhase
    steps_done: int = 0
    steps_count: int = 0
    loss: float | None = None
    model_folder: str = ""
    metrics: str = "{}"
    failure: str = ""
    waiting_for: str = ""


class Jobs(Protocol):
    """Runs jobs by name. Starting one that runs is no error and starts nothing."""

    def start(self, spec: JobSpec) -> None:
        """Run the job, from its last checkpoint when it has one. Unavailable when it cannot be started now."""

    def look(self, job_name: str) -> JobLook:
        """What the job is doing, whoever started it. Unavailable when that cannot be known now."""

    def cancel(self, job_name: str) -> None:
        """End the job; no error when nothing runs it. What it wrote stays: a later start goes on from there.

        Returns when its end is certain, which it may come after: until then a start is Unavailable.
        """

    def close(self) -> None:
        """Leave jobs to the next process: what cannot live without this one ends, and a later start resumes it."""
