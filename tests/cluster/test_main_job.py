"""Scenarios 1 and 2: the main job on real pods gives what one process gives, also when all of them are killed."""

from __future__ import annotations

import random
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from cluster.conftest import Reference
from cluster.house import FULL_NAME, RELEASE, SERVICES
from cluster.kubectl import Refused, until
from cluster.main_job import Installed, at_work, compared, installed, waiting
from cluster.work import MEMORY_BYTES_MAX, memory_bytes

TEST_S_MAX = 1700
AWAY_S_MAX = 300
DRAINED_S_MAX = 10.0

pytestmark = [pytest.mark.timeout(3600)]


def test_the_main_job_of_helm_test_publishes_what_one_process_publishes(reference: Reference, tmp_path: Path) -> None:
    with installed(reference.site, tmp_path) as run:
        said = run.inside.helm("test", RELEASE, "--timeout", f"{TEST_S_MAX}s", within_s=TEST_S_MAX + 30)
        assert "Phase:" in said and "Succeeded" in said
        compared(reference.outcome, run)
        print(cpu_seconds(run))
        used = memory_bytes(run.inside)
        print(f"after it {sum(used.values()) / 2**30:.2f} GiB without the models")
        assert sum(used.values()) <= MEMORY_BYTES_MAX


def test_nothing_is_lost_or_made_twice_when_every_pod_is_killed_while_records_are_in_flight(
    reference: Reference, tmp_path: Path
) -> None:
    chance = random.Random(20261121)
    with installed(reference.site, tmp_path) as run:
        said: list[str] = []
        job = threading.Thread(target=helm_test, args=(run, said), daemon=True)
        job.start()
        drained(run, "backgen")
        for name in (*chance.sample(SERVICES, len(SERVICES)), "kafka", "postgres"):
            pod = f"{FULL_NAME}-{name}-0"
            uid = run.inside.get("pod", pod)["metadata"]["uid"]
            until(lambda: at_work(run), "records wait and are in flight", within_s=900)
            run.inside.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
            print(f"killed {pod}; just after: {waiting(run)} in all")
            until(partial(run.inside.pod_replaced, pod, uid), f"{pod} is ready again", within_s=AWAY_S_MAX)
        job.join(TEST_S_MAX)
        assert said and "Succeeded" in said[0], said
        compared(reference.outcome, run)


def drained(run: Installed, service: str) -> None:
    """End a service's pod as a drain does, in the middle of its work: it commits and is gone in time."""
    pod = f"{FULL_NAME}-{service}-0"
    uid = run.inside.get("pod", pod)["metadata"]["uid"]
    until(lambda: waiting(run, service).in_flight > 0, f"{service} has records in flight", within_s=900)
    begin = time.monotonic()
    run.inside.kubectl("delete", "pod", pod)
    gone_s = time.monotonic() - begin
    print(f"{pod} was gone {gone_s:.1f} s after it was told to end with records in flight")
    assert gone_s <= DRAINED_S_MAX
    until(partial(run.inside.pod_replaced, pod, uid), f"{pod} is ready again", within_s=AWAY_S_MAX)


def helm_test(run: Installed, said: list[str]) -> None:
    """What `helm test` says, also when it fails."""
    try:
        said.append(run.inside.helm("test", RELEASE, "--timeout", f"{TEST_S_MAX}s", within_s=TEST_S_MAX + 30))
    except Refused as error:
        said.append(str(error))


def cpu_seconds(run: Installed) -> dict[str, float]:
    """Pod → seconds of CPU since it started, as the kubelets count them."""
    counted = run.inside.stats()
    return {name: round(pod["cpu"]["usageCoreNanoSeconds"] / 1e9, 1) for name, pod in counted.items() if "cpu" in pod}
