"""Local jobs as processes of this machine: what is left of one that has ended."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

import psutil

from contract.jobs.bench import ended, until
from xinstruct.training.domain import JobSpec
from xinstruct.training.jobs import JobPhase
from xinstruct.training.local_jobs import LocalJobs
from xinstruct.training.work_folder import last_words

GONE_S_MAX = 20.0
START_S_MAX = 240.0
"""A busy machine takes most of a minute to load torch."""


def test_a_start_while_another_process_holds_the_folder_waits_for_it_and_is_no_end(tmp_path: Path) -> None:
    work = tmp_path / "generator-r0-eeeeeeeeeeee"
    work.mkdir()
    (work / "rows.jsonl").touch()
    jobs = LocalJobs(tmp_path)
    with (work / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        jobs.start(JobSpec(work.name, "generator", 0, "base", "", str(work / "rows.jsonl"), str(work), {}))
        end_s = time.monotonic() + START_S_MAX
        while "waits for the process" not in last_words(work) and time.monotonic() < end_s:
            assert jobs.look(work.name).phase is JobPhase.RUNNING
            time.sleep(0.1)
        assert "waits for the process" in last_words(work)
    while not ended(look := jobs.look(work.name)) and time.monotonic() < end_s:
        assert look.phase is JobPhase.RUNNING
        time.sleep(0.1)
    assert "holds no pairs" in look.failure
    jobs.close()


def test_a_job_that_nobody_looks_at_after_its_last_word_leaves_no_process(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    work = tmp_path / "generator-r0-dddddddddddd"
    work.mkdir()
    (work / "rows.jsonl").touch()
    jobs = LocalJobs(tmp_path)
    spec = JobSpec(work.name, "generator", 0, "base", "", str(work / "rows.jsonl"), str(work), {})
    jobs.start(spec)
    assert set(psutil.Process().children()) > before
    assert until(jobs, spec, ended).phase is JobPhase.FAILED
    end_s = time.monotonic() + GONE_S_MAX
    while set(psutil.Process().children()) - before and time.monotonic() < end_s:
        time.sleep(0.1)
    assert not set(psutil.Process().children()) - before  # an ended one that nobody has asked how is listed too
    jobs.close()
