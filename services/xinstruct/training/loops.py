"""What training does by itself: commands become job rows, jobs are run, models are registered and promoted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import sqlalchemy as sa

from xinstruct.inference.model_folder import model_digest
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Invalid, NotFound, Unavailable
from xinstruct.spine.messages import DeadLetter, ModelTrained, TrainingRequested
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.sql import insert_new, transaction, upsert
from xinstruct.spine.topics import DEAD_LETTERS, MODEL_TRAINED, TRAINING_REQUESTED
from xinstruct.training.config import TrainingSettings
from xinstruct.training.domain import FAILURE_CHARS_MAX, OPEN_STATES, JobSpec, JobState
from xinstruct.training.folders import calibration_of, licence_of, origin_of
from xinstruct.training.jobs import JobLook, JobPhase, Jobs
from xinstruct.training.snapshot import build_snapshot
from xinstruct.training.tables import JOBS, POSITIONS, change_job, open_jobs
from xinstruct.training.work_folder import CHECKPOINTS, work_folder_of, write_whole

NAME = "training"
STAGE_VERSION = "1"
SNAPSHOT = "snapshot.jsonl"
WAITING_LOOK_S = 5.0
"""Seconds until a job that something outside holds up is looked at again."""


class TrainingCommands:
    """training-requested-v1 → job rows. The position stands in the same transaction, so each command counts once."""

    name = "training-commands"

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def step(self) -> bool:
        """Read what is new."""
        positions = self._positions()
        # Taken before reading: a record that arrives in between is left to the next step.
        ends = self._deps.log.end_offsets(TRAINING_REQUESTED)
        if all(end <= positions.get(partition, 0) for partition, end in ends.items()):
            return False
        records = [r for r in self._deps.log.read(TRAINING_REQUESTED, positions) if r.offset < ends[r.partition]]
        rows = [row for record in records if (row := self._row(record)) is not None]
        with transaction(self._deps.database) as connection:
            for row in rows:
                insert_new(connection, JOBS, [row], key=("job_name",))
            upsert(connection, POSITIONS, [{"partition": p, "next_offset": o} for p, o in ends.items()],
                   key=("partition",), only_if_newer="next_offset")
        return True

    def pending(self) -> bool:
        """Whether commands are unread."""
        positions = self._positions()
        return any(end > positions.get(p, 0) for p, end in self._deps.log.end_offsets(TRAINING_REQUESTED).items())

    def close(self) -> None:
        """Nothing is open."""

    def _positions(self) -> dict[int, int]:
        with transaction(self._deps.database) as connection:
            return {row.partition: row.next_offset for row in connection.execute(sa.select(POSITIONS))}

    def _row(self, record: Record) -> dict[str, Any] | None:
        if record.value is None:
            return None
        try:
            request = TrainingRequested.decode(record.value)
        except Invalid as error:
            self._deps.log.append([_dead_letter(record, error.message, self._deps.blobs.put(record.value))])
            return None
        return {
            "job_name": request.job_name, "request_id": request.request_id, "role": request.role,
            "round": request.round, "state": JobState.QUEUED.value, "command": record.value, "snapshot_digest": "",
            "steps_done": 0, "steps_count": 0, "loss": None, "model_digest": "", "failure": "", "metrics": "",
            "attempts_count": 0, "promotion_open": False, "owner": "", "owned_until_ms": 0,
            "change_time_ms": self._deps.clock(), "change_number": 1,
        }


class JobKeeper:
    """Runs one job at a time, tells its progress, and stores its model. A process has one or more, by number."""

    def __init__(self, config: TrainingSettings, deps: Deps, jobs: Jobs, *, number: int = 0) -> None:
        self.name = owner_name("training-jobs", number)
        self._owner = owner_name(deps.instance, number)
        self._config = config
        self._deps = deps
        self._jobs = jobs
        self._job_name = ""

    def step(self) -> bool:
        """Look at the job at work, or start the next."""
        if self._job_name:
            row = self._row(self._job_name)
            return self._look(row) if row.owner == self._owner else self._let_go()
        claimed = self._claim()
        if claimed is None:
            return False
        self._job_name = claimed.job_name
        if claimed.failure or self._jobs.look(claimed.job_name).phase is not JobPhase.ABSENT:
            return self._look(claimed)  # cancelled, or it works on without its keeper, or ended after the keeper did
        # A job that was running died with its keeper, not by itself: that start counts already.
        went_on = claimed.state == JobState.RUNNING.value
        return self._start(claimed, attempts_count=max(claimed.attempts_count - went_on, 0))

    def pending(self) -> bool:
        """Whether a job waits or runs."""
        return bool(open_jobs(self._deps.database))

    def close(self) -> None:
        """End the job's process; the next start resumes it."""
        self._jobs.close()
        if self._job_name:
            self._change(self._job_name, owner="", owned_until_ms=0)

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _claim(self) -> Any:
        """Its own job of before it was started again, else the next open one that nobody works on, claimed for a lease;
        None when there is none. A keeper of this process lives while this one does: its lease does not lapse.
        """
        now_ms, own = self._deps.clock(), JOBS.c.owner == self._owner
        here = [owner_name(self._deps.instance, number) for number in range(self._config.jobs_max)]
        lapsed = sa.and_(JOBS.c.owned_until_ms < now_ms, JOBS.c.owner.not_in(here))
        free = sa.and_(JOBS.c.state.in_(OPEN_STATES), sa.or_(JOBS.c.owner == "", own, lapsed))
        with transaction(self._deps.database) as connection:
            row = connection.execute(
                sa.select(JOBS).where(free).order_by(own.desc(), JOBS.c.round, JOBS.c.role.desc(), JOBS.c.job_name)
                .limit(1).with_for_update(skip_locked=True)
            ).first()
            if row is not None:
                connection.execute(sa.update(JOBS).where(JOBS.c.job_name == row.job_name).values(
                    owner=self._owner, owned_until_ms=now_ms + self._config.lease_s * 1000))
        return row

    @contextmanager
    def _lease(self, row: Any) -> Iterator[None]:
        """The lease, renewed while something takes its time: a large model is digested and copied for minutes.

        Not covered: a process that stands still as a whole. So a keeper looks whose job it is before it tells its end.
        """
        ended, own = Event(), sa.and_(JOBS.c.job_name == row.job_name, JOBS.c.owner == self._owner)

        def renew() -> None:
            while not ended.wait(self._config.lease_s / 3):
                until_ms = self._deps.clock() + self._config.lease_s * 1000
                with suppress(Unavailable), transaction(self._deps.database) as connection:  # the next time is soon
                    connection.execute(sa.update(JOBS).where(own).values(owned_until_ms=until_ms))

        renewing = Thread(target=renew, name=f"lease-{self.name}", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join()

    def _owns(self, row: Any) -> bool:
        return bool(self._row(row.job_name).owner == self._owner)

    def _let_go(self) -> bool:
        """Another process took the job over while this one stood still longer than the lease: it is theirs now."""
        self._jobs.close()
        self._job_name = ""
        return True

    def _start(self, row: Any, *, attempts_count: int) -> bool:
        if attempts_count >= self._config.attempts_max:
            said = f"`xinstruct models logs {row.job_name}` shows what it said"
            return self._fail(row, f"given up after {attempts_count} starts; {said}")
        request = TrainingRequested.decode(row.command)
        try:
            with self._waiting(row), self._lease(row):  # that was no start
                snapshot = row.snapshot_digest or build_snapshot(request, self._deps.log, self._deps.blobs)
                if snapshot != row.snapshot_digest:
                    self._change(row.job_name, snapshot_digest=snapshot)
                self._jobs.start(self._spec(row, request, snapshot))
        except (Invalid, NotFound) as error:
            return self._fail(row, error.message)
        self._change(row.job_name, state=JobState.RUNNING.value, attempts_count=attempts_count + 1, waiting_for="")
        return True

    def _spec(self, row: Any, request: TrainingRequested, snapshot: str) -> JobSpec:
        work = self._work_folder(row)
        work.mkdir(parents=True, exist_ok=True)
        rows_file = work / SNAPSHOT
        write_whole(rows_file, self._deps.blobs.get(snapshot))
        generator = ""
        # Drafts are sampled from a folder: a generator that only its server holds gives none.
        by_folder = request.generator_digest and not request.generator_digest.startswith(registry.ENDPOINT)
        if request.role == "evaluator" and by_folder:
            generator = registry.get(self._deps.database, "generator", request.generator_digest).location
        return JobSpec(
            row.job_name, row.role, row.round, resolve_base(self._deps, request.base_model), generator,
            str(rows_file), str(work), json.loads(request.recipe),
        )

    def _work_folder(self, row: Any) -> Path:
        return work_folder_of(self._deps.home, str(row.job_name))

    def _look(self, row: Any) -> bool:
        if row.failure:
            self._jobs.cancel(row.job_name)
            return self._fail(row, row.failure)
        look = self._jobs.look(row.job_name)
        if look.phase is JobPhase.DONE:
            return self._finish(row, look)
        if look.phase is JobPhase.FAILED:
            return self._fail(row, look.failure)
        if look.phase is JobPhase.ABSENT:
            return self._start(row, attempts_count=row.attempts_count)
        owned_until_ms = self._deps.clock() + self._config.lease_s * 1000
        now = {"state": JobState.RUNNING.value, "steps_done": look.steps_done, "steps_count": look.steps_count,
               "loss": look.loss, "waiting_for": look.waiting_for}
        if any(getattr(row, name) != value for name, value in now.items()):
            self._change(row.job_name, owned_until_ms=owned_until_ms, **now)
        elif row.owned_until_ms < owned_until_ms - self._config.lease_s * 500:
            self._change(row.job_name, owned_until_ms=owned_until_ms)
        if look.waiting_for:
            raise Unavailable(f"the job {row.job_name} waits: {look.waiting_for}", WAITING_LOOK_S)
        return False

    def _finish(self, row: Any, look: JobLook) -> bool:
        """Store the model by content, register it, tell the topic, then close the row: each step may repeat."""
        request = TrainingRequested.decode(row.command)
        made, failure = Path(look.model_folder), ""
        try:
            with self._waiting(row), self._lease(row):
                base_digest, licence = origin_of(made) or self._base(request)
                digest, folder = self._stored(made)
                calibration = calibration_of(folder)
        except (Invalid, NotFound) as error:
            failure = error.message
        if not self._owns(row):
            return self._let_go()
        if failure:
            return self._fail(row, failure)
        self._forget_rows(row)
        now_ms = self._deps.clock()
        registry.register(self._deps.database, registry.Model(
            digest, row.role, str(folder), base_digest, licence, row.job_name, row.round, now_ms, calibration))
        trained = ModelTrained(row.job_name, row.role, digest, "", base_digest, licence, look.metrics,
                               row.snapshot_digest, row.round, now_ms, request.promote_when_done)
        self._deps.log.append([trained.record(MODEL_TRAINED.name)])
        self._job_name = ""
        self._change(row.job_name, state=JobState.DONE.value, model_digest=digest, metrics=look.metrics,
                     steps_done=look.steps_done, steps_count=look.steps_count, loss=look.loss,
                     promotion_open=request.promote_when_done, owner="", waiting_for="")
        for left in (made, self._work_folder(row) / CHECKPOINTS):  # the job may be killed while it removes the latter
            shutil.rmtree(left, ignore_errors=True)
        return True

    def _fail(self, row: Any, failure: str) -> bool:
        failure = failure[-FAILURE_CHARS_MAX:]
        self._forget_rows(row)
        request = TrainingRequested.decode(row.command)
        # Takedowns look through the snapshots that this topic names: a failed job's holds web text as well.
        failed = ModelTrained(row.job_name, row.role, "", failure, round=row.round,
                              snapshot_digest=self._row(row.job_name).snapshot_digest,
                              finish_time_ms=self._deps.clock(), promote_when_done=request.promote_when_done)
        self._deps.log.append([failed.record(MODEL_TRAINED.name)])
        self._job_name = ""
        self._change(row.job_name, state=JobState.FAILED.value, failure=failure, owner="", waiting_for="")
        return True

    def _forget_rows(self, row: Any) -> None:
        """Remove the job's own copy of its rows: the snapshot that takedowns know is the blob."""
        with self._waiting(row):
            (self._work_folder(row) / SNAPSHOT).unlink(missing_ok=True)

    def _stored(self, made: Path) -> tuple[str, Path]:
        """The digest of the model, and the folder that holds it for good. Errors as model_digest, OSError as well."""
        digest = model_digest(made)
        folder = self._models_folder() / digest.removeprefix("sha256:")
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            # One that lost its job may still be writing: no two may write to one folder.
            staging = folder.with_name(f"{folder.name}.{self._owner}.part")
            shutil.rmtree(staging, ignore_errors=True)
            shutil.copytree(made, staging)
            staging.rename(folder)
        for left in folder.parent.glob(f"{folder.name}.*part"):  # of keepers that were killed, or lost the job
            shutil.rmtree(left, ignore_errors=True)
        return digest, folder

    def _base(self, request: TrainingRequested) -> tuple[str, str]:
        """Digest and licence of the base that the command names."""
        base = Path(resolve_base(self._deps, request.base_model))
        return model_digest(base), licence_of(base)

    @contextmanager
    def _waiting(self, row: Any) -> Iterator[None]:
        """What keeps the job waiting is told with it, and raised as Unavailable; a volume that is full or away, too."""
        try:
            try:
                yield
            except OSError as error:
                said = f"the files of {row.job_name} cannot be read or written now: {error}"
                raise Unavailable(said, WAITING_LOOK_S) from error
        except Unavailable as error:
            if row.waiting_for != error.message and self._owns(row):
                self._change(row.job_name, waiting_for=error.message)
            raise

    def _models_folder(self) -> Path:
        configured = self._config.models_folder
        return (Path(configured) if configured else self._deps.home / "models").absolute()

    def _row(self, job_name: str) -> Any:
        with transaction(self._deps.database) as connection:
            return connection.execute(sa.select(JOBS).where(JOBS.c.job_name == job_name)).one()

    def _change(self, job_name: str, **values: Any) -> None:
        change_job(self._deps.database, job_name, now_ms=self._deps.clock(), **values)


def owner_name(name: str, number: int) -> str:
    """What the keeper of that number is called in a process of this name."""
    return f"{name}-{number}" if number else name


def resolve_base(deps: Deps, base_model: str) -> str:
    """Folder of a base model: a folder, or a registered digest. NotFound, with what to do, otherwise."""
    if base_model and Path(base_model).is_dir():
        return str(Path(base_model).absolute())
    for role in ("generator", "evaluator", "base"):
        try:
            return registry.get(deps.database, role, base_model).location
        except (NotFound, Invalid):
            continue
    raise NotFound(
        f"no base model {base_model!r}: set --base or training.base_model to a folder with safetensors, or to a digest "
        "of `xinstruct models list`. Nothing is downloaded here: fetch a hub's model first, for instance by "
        "`hf download NAME --local-dir FOLDER`, and give that folder"
    )


def _dead_letter(record: Record, detail: str, digest: str) -> Record:
    letter = DeadLetter(
        slot_id(f"{NAME}/dlq", STAGE_VERSION, record.id, 0), NAME, STAGE_VERSION, record.topic, record.id, record.key,
        "invalid", detail, 1, digest, record.partition, record.offset,
    )
    return letter.record(DEAD_LETTERS[NAME].name)
