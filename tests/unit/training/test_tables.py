"""The rows of jobs: by name, by request, in pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from xinstruct.spine.sql import METADATA, open_engine, transaction
from xinstruct.training.tables import JOBS, job_named, job_of_request, jobs_after, open_jobs


@pytest.fixture
def database(tmp_path: Path) -> sa.Engine:
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite'}")
    METADATA.create_all(engine, [JOBS])
    with transaction(engine) as connection:
        connection.execute(JOBS.insert(), [row("b", "request-2"), row("a", "request-1"), row("c", "request-3")])
    return engine


def row(job_name: str, request_id: str) -> dict[str, Any]:
    texts = dict.fromkeys((column.name for column in JOBS.c if isinstance(column.type, sa.Text)), "")
    numbers = dict.fromkeys((column.name for column in JOBS.c if isinstance(column.type, sa.Integer)), 0)
    return texts | numbers | {
        "job_name": job_name, "request_id": request_id, "command": b"", "loss": None, "promotion_open": False,
    }


def test_a_job_is_found_by_its_name_and_its_request(database: sa.Engine) -> None:
    assert job_named(database, "b").request_id == "request-2"
    assert job_of_request(database, "request-2") == "b"


def test_a_job_that_is_not_there_is_nothing_and_not_an_error(database: sa.Engine) -> None:
    assert job_named(database, "absent") is None
    assert job_of_request(database, "absent") == ""


def test_a_page_of_jobs_begins_after_the_name_before(database: sa.Engine) -> None:
    assert [job.job_name for job in jobs_after(database, "", rows_max=2)] == ["a", "b"]
    assert [job.job_name for job in jobs_after(database, "b", rows_max=2)] == ["c"]


def test_open_jobs_are_those_that_wait_or_run(database: sa.Engine) -> None:
    with transaction(database) as connection:
        for name, state in {"a": "queued", "b": "running", "c": "done"}.items():
            connection.execute(sa.update(JOBS).where(JOBS.c.job_name == name).values(state=state))
        connection.execute(JOBS.insert(), [row("d", "request-4") | {"state": "failed"}])
    assert open_jobs(database) == {"a", "b"}
