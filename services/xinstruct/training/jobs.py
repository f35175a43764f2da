"""The port that runs a training job somewhere: a local process now, Kubernetes next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from xinstruct.training.domain import JobSpec


class JobPhase(StrEnum):
    """What is known of a started job. ABSENT: it was never started here, or its process died without a result."""

    ABSENT = "absent"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobLook:
    """A job as it is now. loss: nats a token, None before the first step. failure: for a person, when FAILED."""

    phase: JobPhase
    steps_done: int = 0
    steps_count: int = 0
    loss: float | None = None
    model_folder: str = ""
    metrics: str = "{}"
    failure: str = ""


class Jobs(Protocol):
    """Runs jobs by name. Starting one that runs is no error and starts nothing."""

    def start(self, spec: JobSpec) -> None:
        """Run the job, from its last checkpoint when it has one. Unavailable when it cannot be started now."""

    def look(self, job_name: str) -> JobLook:
        """What the job is doing."""

    def close(self) -> None:
        """End what runs in this process; a later start resumes it."""
