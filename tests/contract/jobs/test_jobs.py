"""What every back end of training jobs promises. tests/cluster/test_jobs.py asks it of Kubernetes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.jobs.bench import Bench, checkpoint_steps, ended, spec_in, steps_told, until
from xinstruct.inference.model_folder import model_digest
from xinstruct.training.job_log import read_piece
from xinstruct.training.jobs import JobPhase
from xinstruct.training.work_folder import OUTPUT


def test_a_job_that_was_never_started_is_absent_and_may_be_cancelled(bench: Bench) -> None:
    jobs = bench.open()
    assert jobs.look("generator-r0-000000000000").phase is JobPhase.ABSENT
    jobs.cancel("generator-r0-000000000000")
    jobs.close()


def test_a_cancelled_job_ends_and_goes_on_from_its_checkpoint_when_it_is_started_again(bench: Bench) -> None:
    spec, jobs = spec_in(bench, "generator-r0-aaaaaaaaaaaa"), bench.open()
    jobs.start(spec)
    jobs.start(spec)  # it runs: no second one
    until(jobs, spec, lambda look: look.phase is JobPhase.RUNNING and checkpoint_steps(spec) > 0)
    jobs.cancel(spec.job_name)
    until(jobs, spec, lambda look: look.phase is JobPhase.ABSENT)
    steps, told = checkpoint_steps(spec), len(steps_told(spec))
    assert not (Path(spec.work_folder) / "result.json").exists()
    done = until(jobs, spec, ended)
    assert (done.phase, done.failure) == (JobPhase.DONE, "")
    assert done.steps_done == done.steps_count > steps
    assert steps_told(spec)[told] > steps
    assert steps_told(spec)[:told] == sorted(set(steps_told(spec)[:told]))  # one process wrote them
    assert json.loads(done.metrics)["rows_learned"] > 0
    assert model_digest(Path(done.model_folder)).startswith("sha256:")
    assert bench.open().look(spec.job_name) == done  # a keeper that comes later sees the same
    jobs.close()


def test_what_a_job_says_is_there_while_it_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # a machine that sets it would hide the fault
    # No checkpoint: the bar that is shown while one is written would bring the lines before it along.
    spec, jobs = spec_in(bench, "generator-r0-ffffffffffff", checkpoint_steps=1_000), bench.open()
    log = Path(spec.work_folder) / OUTPUT
    look = until(jobs, spec, lambda look: look.steps_done >= 30)
    assert look.steps_done < look.steps_count
    said = read_piece(log, 0).text
    jobs.cancel(spec.job_name)
    assert said.count("'loss'") >= 5
    assert read_piece(log, 0).text.startswith(said)  # and stays
    jobs.close()


def test_a_killed_job_goes_on_from_its_checkpoint_under_the_next_keeper(bench: Bench) -> None:
    spec, jobs = spec_in(bench, "generator-r0-bbbbbbbbbbbb"), bench.open()
    look = until(jobs, spec, lambda look: look.steps_done > 0 and checkpoint_steps(spec) > 0)
    assert look.phase is JobPhase.RUNNING and look.steps_count > look.steps_done
    assert look.loss is not None and look.loss > 0
    bench.kill(spec.job_name)
    steps, told = checkpoint_steps(spec), len(steps_told(spec))
    jobs.close()
    later = bench.open()
    done = until(later, spec, ended)
    assert (done.phase, done.failure) == (JobPhase.DONE, "")
    assert steps_told(spec)[told] > steps
    later.close()


def test_a_job_that_cannot_be_done_fails_and_says_why(bench: Bench) -> None:
    spec, jobs = spec_in(bench, "generator-r0-cccccccccccc", rows_count=0), bench.open()
    failed = until(jobs, spec, ended)
    assert failed.phase is JobPhase.FAILED
    assert "holds no pairs" in failed.failure
    jobs.close()


def test_a_job_that_ends_without_a_result_fails_with_its_last_words(bench: Bench) -> None:
    spec, jobs = spec_in(bench, "generator-r0-dddddddddddd", threads_count="many"), bench.open()
    failed = until(jobs, spec, ended)
    assert failed.phase is JobPhase.FAILED
    assert "threads_count" in failed.failure and "valid integer" in failed.failure
    jobs.close()
