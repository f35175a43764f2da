"""The job keeper: what it does with a job that ended, died, or was taken over. Its port is a recorded one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from builders import digest
from unit.training.keeper_house import RecordedJobs, house, model_folder, row
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Conflict, NotFound, Unavailable
from xinstruct.spine.messages import ModelTrained, TrainingRequested
from xinstruct.spine.topics import MODEL_TRAINED, TRAINING_REQUESTED
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import TrainingSettings
from xinstruct.training.domain import JobSpec
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.loops import JobKeeper, TrainingCommands, resolve_base
from xinstruct.training.tables import JOBS
from xinstruct.v1.training_service_pb2 import CancelJobRequest


@pytest.fixture
def deps(tmp_path: Path) -> Iterator[Deps]:
    with house(tmp_path) as made:
        yield made


def test_a_command_read_twice_is_one_job(deps: Deps) -> None:
    deps.log.append([next(iter(deps.log.read(TRAINING_REQUESTED, {})))])
    commands = TrainingCommands(deps)
    assert commands.step() and not commands.step() and not commands.pending()
    assert row(deps).state == "queued"


def test_progress_of_a_running_job_is_told(deps: Deps) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    keeper.step()
    keeper.step()
    assert (row(deps).state, row(deps).steps_done, row(deps).steps_count, row(deps).loss) == ("running", 1, 10, 2.5)
    assert keeper.pending()


def test_a_job_that_keeps_dying_is_given_up_and_the_topic_says_why(deps: Deps) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(attempts_max=2), deps, jobs)
    for _ in range(6):
        keeper.step()
        jobs.says = JobLook(JobPhase.ABSENT)
    assert len(jobs.started) == 2
    assert row(deps).state == "failed" and "given up after 2 starts" in row(deps).failure
    assert len(list(deps.log.read(MODEL_TRAINED, {}))) == 1


def test_a_job_that_had_ended_when_its_keeper_died_is_not_started_again(deps: Deps) -> None:
    jobs = RecordedJobs()
    jobs.says = JobLook(JobPhase.FAILED, failure="the disk is full")
    JobKeeper(TrainingSettings(), deps, jobs).step()
    assert jobs.started == []
    assert (row(deps).state, row(deps).failure) == ("failed", "the disk is full")


def test_a_job_that_works_on_without_its_keeper_is_taken_over_and_not_started_again(deps: Deps) -> None:
    first, second = RecordedJobs(), RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, first)
    keeper.step()
    keeper.close()
    second.says = JobLook(JobPhase.RUNNING, 7, 10, 2.0)
    later = JobKeeper(TrainingSettings(), deps, second)
    later.step()
    assert (first.started, second.started) == ([row(deps).job_name], [])
    assert (row(deps).state, row(deps).steps_done, row(deps).attempts_count) == ("running", 7, 1)
    second.says = JobLook(JobPhase.FAILED, failure="the disk is full")
    later.step()
    assert (row(deps).state, row(deps).failure) == ("failed", "the disk is full")


def test_what_a_job_waits_for_is_said_and_its_progress_and_lease_are_kept(deps: Deps) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    keeper.step()
    jobs.says = JobLook(JobPhase.RUNNING, 3, 10, 2.0, waiting_for="Unschedulable: no node has a GPU")
    changes = set()
    for _ in range(3):
        with pytest.raises(Unavailable, match="waits: Unschedulable: no node has a GPU"):
            keeper.step()
        changes.add(row(deps).change_number)
    assert len(changes) == 1  # it is told once, not at every look
    assert (row(deps).state, row(deps).steps_done) == ("running", 3)
    assert row(deps).waiting_for == "Unschedulable: no node has a GPU"
    jobs.says = JobLook(JobPhase.RUNNING, 4, 10, 2.0)
    assert not keeper.step()
    assert row(deps).waiting_for == ""


def test_a_job_that_cannot_be_started_now_is_tried_again_as_often_as_it_takes(deps: Deps) -> None:
    class Away(RecordedJobs):
        def start(self, spec: JobSpec) -> None:
            if len(self.started) < 5:
                self.started.append(spec.job_name)
                raise Unavailable("the API does not answer")
            super().start(spec)

    keeper, changes = JobKeeper(TrainingSettings(attempts_max=2), deps, Away()), set()
    for _ in range(5):
        with pytest.raises(Unavailable):
            keeper.step()
        changes.add(row(deps).change_number)
    assert (row(deps).state, row(deps).attempts_count) == ("queued", 0)
    assert (row(deps).waiting_for, len(changes)) == ("the API does not answer", 1)
    keeper.step()
    assert (row(deps).state, row(deps).waiting_for) == ("running", "")


def test_a_keeper_that_lost_its_job_writes_nothing_about_it(deps: Deps) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    keeper.step()
    with deps.database.begin() as connection:
        connection.execute(sa.update(JOBS).values(owner="another", owned_until_ms=9_000_000))
    jobs.says = JobLook(JobPhase.FAILED, failure="mine failed")
    assert keeper.step()
    assert (row(deps).state, row(deps).owner, jobs.closed) == ("running", "another", 1)
    assert not keeper.step()


def test_keepers_of_one_process_run_different_jobs_at_once(deps: Deps) -> None:
    deps = replace(deps, instance="training-0")
    first, second = RecordedJobs(), RecordedJobs()
    keepers = [JobKeeper(TrainingSettings(), deps, jobs, number=n) for n, jobs in enumerate((first, second))]
    assert keepers[0].step() and not keepers[1].step()
    command = next(iter(deps.log.read(TRAINING_REQUESTED, {}))).value
    another = replace(TrainingRequested.decode(command or b""), job_name="generator-1")
    deps.log.append([another.record(TRAINING_REQUESTED.name)])
    TrainingCommands(deps).step()
    assert keepers[1].step()
    assert len(first.started) == len(second.started) == 1 and first.started != second.started
    keepers[1].close()
    assert (first.closed, second.closed) == (0, 1)


@pytest.mark.parametrize(("generator", "location", "folder"), [
    ("endpoint:writer", "endpoint:writer", ""), (digest("1"), "/models/writer", "/models/writer"),
])
def test_an_evaluators_job_is_given_a_generator_that_is_a_folder_and_none_that_only_its_server_holds(
    deps: Deps, generator: str, location: str, folder: str
) -> None:
    registry.register(deps.database, registry.Model(generator, "generator", location))
    command = TrainingRequested.decode(next(iter(deps.log.read(TRAINING_REQUESTED, {}))).value or b"")
    rated = replace(command, job_name="evaluator-0", role="evaluator", generator_digest=generator)
    with deps.database.begin() as connection:
        connection.execute(sa.delete(JOBS))
    deps.log.append([rated.record(TRAINING_REQUESTED.name)])
    TrainingCommands(deps).step()
    jobs = RecordedJobs()
    JobKeeper(TrainingSettings(), deps, jobs).step()
    assert [spec.generator_folder for spec in jobs.specs] == [folder]


@pytest.mark.parametrize("failure", ["", "the disk is full"])
def test_an_ended_job_leaves_no_copy_of_its_rows_and_names_the_snapshot_that_takedowns_look_through(
    deps: Deps, failure: str
) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    keeper.step()
    rows_file = deps.home / "jobs" / row(deps).job_name / "snapshot.jsonl"
    assert rows_file.exists()
    made = model_folder(deps.home / "jobs" / "made")
    model_folder(deps.home / "base")
    left = rows_file.parent / "checkpoints" / "checkpoint-10"  # the job was killed while it removed them
    left.mkdir(parents=True)
    jobs.says = JobLook(JobPhase.FAILED if failure else JobPhase.DONE, model_folder=str(made), failure=failure)
    keeper.step()
    assert (made.exists(), left.exists()) == (bool(failure), bool(failure))
    told = ModelTrained.decode(next(iter(deps.log.read(MODEL_TRAINED, {}))).value or b"")
    assert not rows_file.exists()
    assert (told.failure, told.snapshot_digest) == (failure, row(deps).snapshot_digest)
    assert deps.blobs.get(told.snapshot_digest)


def test_a_job_whose_models_are_gone_fails_and_its_snapshot_is_known(deps: Deps) -> None:
    shutil.rmtree(deps.home / "base")
    JobKeeper(TrainingSettings(), deps, RecordedJobs()).step()
    told = ModelTrained.decode(next(iter(deps.log.read(MODEL_TRAINED, {}))).value or b"")
    assert "no base model" in told.failure and deps.blobs.get(told.snapshot_digest)
    assert not (deps.home / "jobs" / told.job_name / "snapshot.jsonl").exists()


def test_a_job_whose_base_has_gone_by_its_end_is_done_for_its_model_names_the_base(deps: Deps) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    keeper.step()
    shutil.rmtree(deps.home / "base")
    made = model_folder(deps.home / "jobs" / "made")
    (made / "MANIFEST.json").write_text(json.dumps({"licence": "mit", "base_digest": digest("b")}))
    jobs.says = JobLook(JobPhase.DONE, model_folder=str(made))
    assert keeper.step()
    told = ModelTrained.decode(next(iter(deps.log.read(MODEL_TRAINED, {}))).value or b"")
    assert (row(deps).state, told.base_digest, told.licence) == ("done", digest("b"), "mit")
    assert [(model.base_digest, model.licence) for model in registry.models(deps.database)] == [(digest("b"), "mit")]


@pytest.mark.parametrize(("gone", "said"), [("base", "no base model"), ("jobs/made", "no model folder")])
def test_a_job_whose_model_or_unnamed_base_has_gone_by_its_end_has_failed(deps: Deps, gone: str, said: str) -> None:
    made = model_folder(deps.home / "jobs" / "made")
    (made / "MANIFEST.json").write_text("{}")
    model_folder(deps.home / "base")
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    keeper.step()
    shutil.rmtree(deps.home / gone)
    jobs.says = JobLook(JobPhase.DONE, model_folder=str(made))
    assert keeper.step() and not keeper.step()
    told = ModelTrained.decode(next(iter(deps.log.read(MODEL_TRAINED, {}))).value or b"")
    assert (row(deps).state, said in row(deps).failure, said in told.failure) == ("failed", True, True)
    assert registry.models(deps.database) == []


def test_a_volume_that_takes_no_model_is_waited_for_and_the_job_is_done_when_it_does(deps: Deps) -> None:
    model_folder(deps.home / "base")
    jobs = RecordedJobs()
    models = deps.home / "a-file"
    models.touch()
    keeper = JobKeeper(TrainingSettings(models_folder=str(models)), deps, jobs)
    keeper.step()
    jobs.says = JobLook(JobPhase.DONE, model_folder=str(model_folder(deps.home / "jobs" / "made")))
    for _ in range(2):
        with pytest.raises(Unavailable, match="a-file"):
            keeper.step()
    assert (row(deps).state, "a-file" in row(deps).waiting_for) == ("running", True)
    models.unlink()
    assert keeper.step()
    assert (row(deps).state, row(deps).waiting_for) == ("done", "")


def test_a_volume_that_takes_no_rows_is_waited_for_and_that_is_no_start(deps: Deps) -> None:
    (deps.home / "jobs").touch()
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(attempts_max=1), deps, jobs)
    for _ in range(2):
        with pytest.raises(Unavailable, match="jobs"):
            keeper.step()
    assert (row(deps).state, row(deps).attempts_count, "jobs" in row(deps).waiting_for) == ("queued", 0, True)
    (deps.home / "jobs").unlink()
    assert keeper.step()
    assert (row(deps).state, len(jobs.started)) == ("running", 1)


@pytest.mark.parametrize("name", ["", "Qwen/Qwen3-0.6B"])
def test_a_hub_name_is_refused_with_how_to_download_it_and_an_empty_one_is_not_this_folder(
    deps: Deps, name: str
) -> None:
    with pytest.raises(NotFound, match=r"(?s)--base or training\.base_model.*Nothing is downloaded.*hf download"):
        resolve_base(deps, name)


@pytest.mark.parametrize("started", [True, False])
def test_a_cancelled_job_is_ended_wherever_it_runs_and_never_started_again(deps: Deps, started: bool) -> None:
    jobs = RecordedJobs()
    keeper = JobKeeper(TrainingSettings(), deps, jobs)
    if started:
        keeper.step()
    servicer, name = TrainingServicer(TrainingSettings(), deps, {}), str(row(deps).job_name)
    assert servicer.CancelJob(CancelJobRequest(job_name=name), None).failure == "cancelled"
    assert keeper.step() and not keeper.step() and not keeper.pending()
    assert (row(deps).state, row(deps).failure) == ("failed", "cancelled")
    assert (jobs.started, jobs.cancelled) == ([name] if started else [], [name])
    told = ModelTrained.decode(next(iter(deps.log.read(MODEL_TRAINED, {}))).value or b"")
    assert (told.job_name, told.failure) == (name, "cancelled")
    with pytest.raises(Conflict, match="has ended"):
        servicer.CancelJob(CancelJobRequest(job_name=name), None)
    with pytest.raises(NotFound):
        servicer.CancelJob(CancelJobRequest(job_name="another"), None)
