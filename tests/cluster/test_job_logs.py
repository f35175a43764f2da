"""What a training job in a pod says and waits for, out of its release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.house import Bed
from cluster.kubectl import Cluster, until
from cluster.test_jobs import RECIPE, bench, stocked  # noqa: F401 - bench is the contract's
from cluster.training import JOB_S_MAX, shared, submitted, trains
from cluster.work import asked
from contract.jobs.test_jobs import test_what_a_job_says_is_there_while_it_runs  # noqa: F401 - the contract

LABEL = "xinstruct-test/logs"

pytestmark = pytest.mark.timeout(900)


def test_why_a_job_waits_then_what_it_says_and_its_end_come_out_of_its_release(bed: Bed, tmp_path: Path) -> None:
    if bed.volumes is None:
        pytest.skip("seeds and base are put on the volume from this machine")
    with shared(bed) as (inside, place):
        stocked(place)
        trains(inside, bed, tmp_path, {"trainJob": "never", "nodeSelector": {LABEL: "yes"}})
        name = submitted(inside, "job", role="generator", recipe=RECIPE)
        until(lambda: waits_for(logs(inside, name)[-1]), "why it waits is told", within_s=120)
        inside.kubectl("label", "node", "--all", f"{LABEL}=yes")
        try:
            events = logs(inside, name, "--follow", within_s=JOB_S_MAX)
        finally:
            inside.kubectl("label", "node", "--all", f"{LABEL}-")
        text = "".join(event["text"] for event in events)
        assert text == (place / "jobs" / name / "job.log").read_bytes().decode()
        assert text.count("'loss'") > 2
        assert events[-1]["job"]["state"] == "done"


def logs(inside: Cluster, job_name: str, *options: str, within_s: int = 60) -> list[dict[str, Any]]:
    """The events of a job's log as a program reads them, asked from another pod of the release."""
    told = asked(inside, "models", "logs", job_name, "--json", *options, within_s=within_s)
    return [json.loads(line) for line in told.splitlines()]


def waits_for(event: dict[str, Any]) -> bool:
    """Whether the event says that no node will have the job."""
    return "Unschedulable: 0/" in str((event["job"] or {}).get("waiting_for", ""))
