"""Jobs and the commands read so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from xinstruct.spine.sql import METADATA, transaction
from xinstruct.training.domain import OPEN_STATES

JOBS = sa.Table(
    "training_jobs", METADATA,
    sa.Column("job_name", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),  # JobState
    sa.Column("command", sa.LargeBinary, nullable=False),  # TrainingRequested on the wire
    sa.Column("snapshot_digest", sa.Text, nullable=False),
    sa.Column("steps_done", sa.Integer, nullable=False),
    sa.Column("steps_count", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float, nullable=True),  # NULL: none yet
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("failure", sa.Text, nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("attempts_count", sa.Integer, nullable=False),
    sa.Column("promotion_open", sa.Boolean, nullable=False),  # done, but its model still waits for promotion
    sa.Column("owner", sa.Text, nullable=False),  # instance that runs it
    sa.Column("owned_until_ms", sa.BigInteger, nullable=False),
    sa.Column("change_time_ms", sa.BigInteger, nullable=False),
    sa.Column("change_number", sa.BigInteger, nullable=False),  # grows with every change: the watch token
    sa.Column("waiting_for", sa.Text, nullable=False, server_default=""),
)
POSITIONS = sa.Table(
    "training_positions", METADATA,
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)


def job_named(database: sa.Engine, job_name: str) -> Any:
    """The job's row, None when there is none."""
    with transaction(database) as connection:
        return connection.execute(sa.select(JOBS).where(JOBS.c.job_name == job_name)).first()


def open_jobs(database: sa.Engine) -> set[str]:
    """Names of jobs that are to run, or run, as far as their keepers know."""
    with transaction(database) as connection:
        return set(connection.execute(sa.select(JOBS.c.job_name).where(JOBS.c.state.in_(OPEN_STATES))).scalars())


def jobs_to_promote(database: sa.Engine) -> Sequence[Any]:
    """Rows of done jobs whose models are still to be promoted, in the order of their rounds."""
    waiting = sa.select(JOBS).where(JOBS.c.promotion_open).order_by(JOBS.c.round, JOBS.c.job_name)
    with transaction(database) as connection:
        return connection.execute(waiting).all()


def job_of_request(database: sa.Engine, request_id: str) -> str:
    """Name of the job that a command asked for, empty while none has been read."""
    query = sa.select(JOBS.c.job_name).where(JOBS.c.request_id == request_id)
    with transaction(database) as connection:
        return str(connection.execute(query).scalar_one_or_none() or "")


def change_job(database: sa.Engine, job_name: str, *, now_ms: int, **values: Any) -> None:
    """Set these columns of the job, and let those know who watch it."""
    with transaction(database) as connection:
        connection.execute(sa.update(JOBS).where(JOBS.c.job_name == job_name).values(
            change_time_ms=now_ms, change_number=JOBS.c.change_number + 1, **values))


def end_job(database: sa.Engine, job_name: str, *, failure: str, now_ms: int) -> bool:
    """Note on an open job that it is to end and why; its keeper does the rest. False when it is open no more."""
    open_ = sa.and_(JOBS.c.job_name == job_name, JOBS.c.state.in_(OPEN_STATES))
    with transaction(database) as connection:
        changed = connection.execute(sa.update(JOBS).where(open_).values(
            failure=failure, change_time_ms=now_ms, change_number=JOBS.c.change_number + 1))
    return changed.rowcount > 0


def jobs_after(database: sa.Engine, job_name: str, *, rows_max: int) -> Sequence[Any]:
    """Rows of jobs in the order of their names, from the one after `job_name`."""
    query = sa.select(JOBS).where(JOBS.c.job_name > job_name).order_by(JOBS.c.job_name).limit(rows_max)
    with transaction(database) as connection:
        return connection.execute(query).all()
