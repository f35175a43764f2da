"""What the contract of job back ends is asked of: real jobs on a model of 70,000 parameters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from xinstruct.spine.errors import Unavailable
from xinstruct.training import work_folder
from xinstruct.training.domain import JobSpec, PairRow
from xinstruct.training.jobs import JobLook, JobPhase, Jobs
from xinstruct.training.pretrain import Part, Plan, pretrain

SMALL = Plan(
    ("sw",), vocabulary=400, hidden=64, heads=2, layers=2, intermediate=96,
    parts=(Part(steps=3, threads=1, learning_rate_max=0.01),),
)
RECIPE = {
    "prompt_family": "tiny", "epochs": 8.0, "rows_per_batch": 4, "learning_rate": 0.02, "checkpoint_steps": 5,
    "held_out_ratio": 0.1, "tokens_max": 256,
}
LOOK_S = 0.05


class Bench(Protocol):
    """A back end to try. `folder`: where jobs have their folders, as this process and the jobs see it."""

    folder: Path

    def open(self) -> Jobs:
        """The back end as a service finds it that has just been started."""

    def kill(self, job_name: str) -> None:
        """Kill what runs the job, as a machine would that fails. Fails where nothing does."""


def base_in(folder: Path) -> Path:
    """A base model that has learned nothing."""
    base = folder / "base"
    if not base.exists():
        pretrain(SMALL, base)
    return base


def spec_in(bench: Bench, job_name: str, *, rows_count: int = 60, **recipe: Any) -> JobSpec:
    """A job on pairs that all have one instruction, with everything it needs in its place."""
    work = bench.folder / job_name
    work.mkdir(parents=True)
    pairs = [PairRow(f"{n:03}", "Describe the lake.", f"Ziwa {n}\n\nNi ziwa.", "sw", "seed") for n in range(rows_count)]
    (work / "rows.jsonl").write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
    base = base_in(bench.folder)
    return JobSpec(job_name, "generator", 0, str(base), "", str(work / "rows.jsonl"), str(work), RECIPE | recipe)


def until(jobs: Jobs, spec: JobSpec, there: Callable[[JobLook], bool]) -> JobLook:
    """Look at a job as its keeper does, and start it when nothing runs it, until it is `there`."""
    while True:
        look = jobs.look(spec.job_name)
        if there(look):
            return look
        assert not ended(look), look
        if look.phase is JobPhase.ABSENT:
            with suppress(Unavailable):  # the one before is still about to end
                jobs.start(spec)
        time.sleep(LOOK_S)


def ended(look: JobLook) -> bool:
    """Whether the job is at its end."""
    return look.phase in (JobPhase.DONE, JobPhase.FAILED)


def checkpoint_steps(spec: JobSpec) -> int:
    """Steps in the newest whole checkpoint, 0 when there is none."""
    last = work_folder.last_checkpoint(Path(spec.work_folder))
    return work_folder.checkpoint_steps(last) if last else 0


def steps_told(spec: JobSpec) -> list[int]:
    """The steps of every line of progress, in the order of their writing."""
    lines = (Path(spec.work_folder) / "progress.jsonl").read_text().splitlines()
    return [int(json.loads(line)["steps_done"]) for line in lines]
