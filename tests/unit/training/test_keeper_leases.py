"""Who may work on a job: one keeper at a time, of the same process or of another, however long it takes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from unit.training.keeper_house import RecordedJobs, house, model_folder, row
from xinstruct.inference.model_folder import model_digest
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.messages import ModelTrained, TrainingRequested
from xinstruct.spine.topics import MODEL_TRAINED, TRAINING_REQUESTED
from xinstruct.training.config import TrainingSettings
from xinstruct.training.jobs import JobLook, JobPhase
from xinstruct.training.loops import JobKeeper, TrainingCommands
from xinstruct.training.tables import JOBS

LAPSE_MS = 61_000
RENEWAL_S_MAX = 30.0
RUNS = JobLook(JobPhase.RUNNING, 1, 10, 2.5)


class Clock:
    """Milliseconds, set by the test."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deps(tmp_path: Path, clock: Clock) -> Iterator[Deps]:
    with house(tmp_path) as made:
        model_folder(tmp_path / "base")
        model_folder(tmp_path / "made")
        yield replace(made, instance="training-0", clock=clock)


def keeper_of(deps: Deps, number: int = 0, *, says: JobLook | None = None, lease_s: int = 60) -> JobKeeper:
    """A keeper of the process that `deps` are of, one of two; to it every job is done, if it is not told otherwise."""
    jobs = RecordedJobs()
    jobs.says = says or JobLook(JobPhase.DONE, model_folder=str(deps.home / "made"))
    return JobKeeper(TrainingSettings(jobs_max=2, lease_s=lease_s), deps, jobs, number=number)


def at_the_first_copy(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], None]) -> list[Path]:
    """Have something happen once, when a model is about to be copied; the folders that models were copied to."""
    copy, targets = shutil.copytree, list[Path]()

    def slow(source: Path, target: Path) -> Path:
        targets.append(target)
        if len(targets) == 1:
            happens()
        return copy(source, target)

    monkeypatch.setattr(shutil, "copytree", slow)
    return targets


def told(deps: Deps) -> list[str]:
    """The failure of each end that was told, "" for none."""
    return [ModelTrained.decode(record.value or b"").failure for record in deps.log.read(MODEL_TRAINED, {})]


def test_a_keeper_leaves_the_job_of_another_in_its_process_alone_however_long_that_copies(
    deps: Deps, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, worked = keeper_of(deps), keeper_of(deps, 1), list[bool]()

    def lapse() -> None:
        clock.now_ms += LAPSE_MS
        worked.append(second.step())

    at_the_first_copy(monkeypatch, lapse)
    assert first.step()
    assert (worked, told(deps), row(deps).state, len(registry.models(deps.database))) == ([False], [""], "done", 1)


def test_a_job_of_a_keeper_that_is_no_more_is_taken_over_by_another_of_its_process(deps: Deps, clock: Clock) -> None:
    keeper_of(deps, 2, says=RUNS).step()  # training.jobs_max was 3
    keeper = keeper_of(deps, says=RUNS)
    keeper.step()
    assert row(deps).owner == "training-0-2"
    clock.now_ms += LAPSE_MS
    keeper.step()
    assert row(deps).owner == "training-0"


def test_a_keeper_that_was_started_again_goes_on_with_its_own_job_before_it_takes_another(deps: Deps) -> None:
    keeper_of(deps, says=RUNS).step()
    command = TrainingRequested.decode(next(iter(deps.log.read(TRAINING_REQUESTED, {}))).value or b"")
    deps.log.append([replace(command, job_name="a", request_id="a").record(TRAINING_REQUESTED.name)])
    TrainingCommands(deps).step()
    keeper_of(deps, says=RUNS).step()
    with deps.database.connect() as connection:
        owners = dict(connection.execute(sa.select(JOBS.c.job_name, JOBS.c.owner)).tuples().all())
    assert owners == {command.job_name: "training-0", "a": ""}


def test_a_lease_is_renewed_while_a_model_is_copied_and_another_process_does_not_take_the_job(
    deps: Deps, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, other = keeper_of(deps, lease_s=5), keeper_of(replace(deps, instance="training-1"))

    renewed = threading.Event()

    def committed(_connection: sa.Connection) -> None:
        if threading.current_thread() is not threading.main_thread():
            renewed.set()  # about to be there: the other's transaction waits for that

    def wait_for_a_renewal() -> None:
        clock.now_ms += LAPSE_MS
        sa.event.listen(deps.database, "commit", committed)
        assert renewed.wait(RENEWAL_S_MAX)
        assert not other.step()

    at_the_first_copy(monkeypatch, wait_for_a_renewal)
    assert keeper.step()
    assert (told(deps), row(deps).state) == ([""], "done")


def test_a_keeper_that_lost_its_job_while_it_copied_tells_nothing_and_the_other_writes_elsewhere(
    deps: Deps, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, other = keeper_of(deps), keeper_of(replace(deps, instance="training-1"))

    def stand_still() -> None:
        clock.now_ms += LAPSE_MS
        assert other.step()

    targets = at_the_first_copy(monkeypatch, stand_still)
    with pytest.raises(Unavailable, match="made"):  # the other has stored it, and removed it here
        keeper.step()
    assert keeper.step() and not keeper.step()
    assert len(set(targets)) == 2
    assert (told(deps), row(deps).state, row(deps).waiting_for) == ([""], "done", "")
    (stored,) = (deps.home / "models").iterdir()
    assert model_digest(stored) == row(deps).model_digest
