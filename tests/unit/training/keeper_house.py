"""What tests of the job keeper share: a job that waits, and a back end that is told what to say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from builders import training_request
from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.sql import METADATA, open_engine
from xinstruct.spine.topics import TRAINING_REQUESTED
from xinstruct.training.domain import JobSpec
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.loops import TrainingCommands
from xinstruct.training.tables import JOBS


class RecordedJobs:
    """Says of every job what it was told to say, and records what was started."""

    def __init__(self) -> None:
        self.says = JobLook(JobPhase.ABSENT)
        self.started: list[str] = []
        self.specs: list[JobSpec] = []
        self.cancelled: list[str] = []
        self.closed = 0

    def start(self, spec: JobSpec) -> None:
        self.started.append(spec.job_name)
        self.specs.append(spec)
        self.says = JobLook(JobPhase.RUNNING, 1, 10, 2.5)

    def look(self, job_name: str) -> JobLook:
        return self.says

    def cancel(self, job_name: str) -> None:
        self.cancelled.append(job_name)
        self.says = JobLook(JobPhase.ABSENT)

    def close(self) -> None:
        self.closed += 1


@contextmanager
def house(tmp_path: Path) -> Iterator[Deps]:
    """What a keeper is given, with one generator's job that waits; its base is an empty folder."""
    engine = open_engine(f"sqlite:///{tmp_path / 'db.sqlite'}")
    METADATA.create_all(engine)
    log = SqliteLog(tmp_path / "log.sqlite", clock=lambda: 1_000_000)
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text(json.dumps({"instruction": "Describe it.", "response": "Ni ziwa.", "language": "sw"}) + "\n")
    base = tmp_path / "base"
    base.mkdir()
    made = Deps(log, engine, Blobs(str(tmp_path / "blobs")), {}, lambda: 1_000_000, tmp_path)
    command = training_request(
        role="generator", round=0, evaluator_digest="", generator_digest="", base_model=str(base), languages=(),
        seeds_location=str(seeds), recipe="{}",
    )
    log.append([command.record(TRAINING_REQUESTED.name)])
    TrainingCommands(made).step()
    yield made
    log.close()
    engine.dispose()


def row(deps: Deps) -> sa.Row[tuple[object, ...]]:
    """The job's row."""
    with deps.database.connect() as connection:
        return connection.execute(sa.select(JOBS)).one()


def model_folder(folder: Path) -> Path:
    """A folder with all that a model's digest wants."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder
