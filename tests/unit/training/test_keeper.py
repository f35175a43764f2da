"""The keeper of jobs: whose death counts as a failed start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import TrainingRequested
from xinstruct.spine.sql import METADATA, open_engine, transaction
from xinstruct.spine.topics import TRAINING_REQUESTED
from xinstruct.training.config import TrainingSettings
from xinstruct.training.domain import JobSpec
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.loops import JobKeeper, TrainingCommands
from xinstruct.training.tables import JOBS


@dataclass
class StubbornJobs:
    """Jobs of which none ever ends; `alive` says whether the one that was started still runs."""

    alive: bool = True
    started: list[str] = field(default_factory=list)

    def start(self, spec: JobSpec) -> None:
        self.started.append(spec.job_name)

    def look(self, job_name: str) -> JobLook:
        return JobLook(JobPhase.RUNNING if self.alive else JobPhase.ABSENT)

    def close(self) -> None: ...


@pytest.fixture
def deps(tmp_path: Path) -> Deps:
    database = open_engine(f"sqlite:///{tmp_path / 'database.sqlite'}")
    METADATA.create_all(database)
    (tmp_path / "base").mkdir()
    (tmp_path / "seeds.jsonl").write_text('{"instruction": "Write.", "response": "Habari.", "language": "sw"}\n')
    made = Deps(SqliteLog(tmp_path / "log.sqlite", lambda: 1), database, Blobs(str(tmp_path / "blobs")), {},
                lambda: 1, tmp_path)
    command = TrainingRequested(
        "r1", "generator-r0-0", "generator", str(tmp_path / "base"), str(tmp_path / "seeds.jsonl"), recipe="{}",
    )
    made.log.append([command.record(TRAINING_REQUESTED.name)])
    TrainingCommands(made).step()
    return made


def job(deps: Deps) -> sa.Row[tuple[object, ...]]:
    with transaction(deps.database) as connection:
        return connection.execute(sa.select(JOBS)).one()


def test_a_job_that_dies_with_its_keeper_is_started_again_however_often(deps: Deps) -> None:
    jobs = StubbornJobs()
    for _ in range(9):
        JobKeeper(TrainingSettings(attempts_max=3), deps, jobs).step()  # and is killed
    assert (job(deps).state, job(deps).attempts_count, len(jobs.started)) == ("running", 1, 9)


def test_a_job_that_dies_by_itself_is_given_up_after_its_attempts(deps: Deps) -> None:
    jobs = StubbornJobs(alive=False)
    keeper = JobKeeper(TrainingSettings(attempts_max=3), deps, jobs)
    while job(deps).state != "failed":
        keeper.step()
    assert len(jobs.started) == 3
    assert "given up after 3 starts" in job(deps).failure
