"""TrainJobs whose time is over: which are deleted, when, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration.training.kubernetes_stub import Item, Store, kubernetes
from xinstruct.training.kubernetes_api import Cluster
from xinstruct.training.kubernetes_ended import LOOK_S, EndedTrainJobs

END_MS = 1_795_327_200_000
"""2026-11-22T06:00:00Z."""
OURS = {"app.kubernetes.io/managed-by": "try-training", "xinstruct/job": "generator-r0-0123456789ab"}
Api = tuple[Store, Cluster]


@pytest.fixture
def api() -> Iterator[Api]:
    with kubernetes() as made:
        yield made


def train_job(name: str, end: str = "Complete", *, ttl_s: str = "600", **metadata: Any) -> Item:
    """One that ended at END_MS."""
    ended = {"type": end, "status": "True", "lastTransitionTime": "2026-11-22T06:00:00Z"}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob",
        "metadata": {"name": name, "labels": OURS, "annotations": {"xinstruct/ttl-s": ttl_s}} | metadata,
        "status": {"conditions": [ended]},
    }


def loop(api: Api, seconds: float) -> EndedTrainJobs:
    """The loop, so many seconds after the end, where no job is open."""
    return EndedTrainJobs(api[1], train_job("try"), set, lambda: END_MS + int(seconds * 1000))


def left(api: Api) -> list[str]:
    return [item["metadata"]["name"] for item in api[0].of("trainjobs")]


@pytest.mark.parametrize("end", ["Complete", "Failed"])
def test_an_ended_trainjob_goes_when_its_own_time_is_over_and_not_before(api: Api, end: str) -> None:
    api[0].put("trainjobs", train_job("one", end))
    assert not loop(api, 599).step()
    assert left(api) == ["one"]
    assert loop(api, 600).step()
    assert left(api) == []


@pytest.mark.parametrize("other", [
    train_job("other", "Suspended"),
    train_job("other", labels={"app.kubernetes.io/managed-by": "another-training", "xinstruct/job": "a"}),
    train_job("other", labels={"app.kubernetes.io/managed-by": "try-training"}),
    train_job("other", annotations={}),
    train_job("other", ttl_s="601"),
    train_job("other", ttl_s="never"),  # whoever wants to keep one ends no process by it
])
def test_what_runs_or_is_somebody_elses_or_has_time_left_stays(api: Api, other: Item) -> None:
    api[0].put("trainjobs", other)
    assert not loop(api, 600).step()
    assert left(api) == ["other"]


@pytest.mark.parametrize(("ttl_s", "each_s"), [("86400", LOOK_S), ("5", 5)])
def test_the_api_is_asked_once_a_minute_or_as_often_as_the_time_is_long(api: Api, ttl_s: str, each_s: float) -> None:
    now_ms = [END_MS]
    looking = EndedTrainJobs(api[1], train_job("try", ttl_s=ttl_s), set, lambda: now_ms[0])
    looking.step()
    now_ms[0] += int(each_s * 1000) - 1
    looking.step()
    assert len(api[0].calls) == 1
    now_ms[0] += 1
    looking.step()
    assert len(api[0].calls) == 2


def test_one_whose_end_its_keeper_has_not_seen_stays(api: Api) -> None:
    # It would be started again, and what it said at its end were lost.
    open_jobs = {OURS["xinstruct/job"]}
    api[0].put("trainjobs", train_job("one", ttl_s="0"))
    looking = EndedTrainJobs(api[1], train_job("try"), lambda: open_jobs, lambda: END_MS)
    assert not looking.step()
    assert left(api) == ["one"]
    open_jobs.clear()
    assert EndedTrainJobs(api[1], train_job("try"), lambda: open_jobs, lambda: END_MS).step()
    assert left(api) == []


def test_those_of_before_the_trainer_was_switched_off_go_too(api: Api) -> None:
    api[0].put("trainjobs", train_job("one"))
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "try", "labels": OURS}}
    assert EndedTrainJobs(api[1], manifest, set, lambda: END_MS + 600_000).step()
    assert left(api) == []


def test_an_api_that_refuses_is_told_in_the_log_and_makes_nothing_of_training_wait(
    api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    api[0].refuses = 403
    assert not loop(api, 0).step()
    said = "".join(capsys.readouterr())
    assert "does not let training get trainjobs" in said and "rbac.enabled" in said


def test_without_the_trainer_there_is_nothing_to_delete(api: Api) -> None:
    api[0].refuses = 404
    assert not loop(api, 600).step()
