"""The small profile on real pods: ready in time, small enough, and quick to come and go one by one."""

from __future__ import annotations

import time
from datetime import datetime

import pytest

from cluster.conftest import House
from cluster.house import FULL_NAME, READY_S_MAX, SERVICES
from cluster.kubectl import Manifest, condition, until
from cluster.work import MEMORY_BYTES_MAX, OURS, asked, memory_bytes

ONE_POD_READY_S_MAX = 5.0
DRAINED_S_MAX = 10.0
ROUNDS = 3

pytestmark = pytest.mark.timeout(600)


def test_every_pod_is_ready_within_two_minutes_of_the_installation(house: House) -> None:
    print(f"ready after {house.ready_s:.1f} s")
    assert house.ready_s <= READY_S_MAX


def test_every_service_broker_and_database_runs_once_and_was_never_restarted(house: House) -> None:
    pods = house.inside.all("pod", labels=OURS)
    assert sorted(pod["metadata"]["name"] for pod in pods) == sorted(
        f"{FULL_NAME}-{name}-0" for name in (*SERVICES, "kafka", "postgres")
    )
    restarts = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods}
    assert not any(restarts.values()), restarts


def test_all_pods_together_but_the_models_use_at_most_two_and_a_half_gibibytes(house: House) -> None:
    # The kubelet counts every ten seconds or so: a pod that it has not counted yet would weigh nothing.
    until(lambda: all(memory_bytes(house.inside).values()), "every pod's memory is counted", within_s=60)
    used = memory_bytes(house.inside)
    print({name: f"{count / 2**20:.0f} MiB" for name, count in used.items()}, f"{sum(used.values()) / 2**30:.2f} GiB")
    assert sum(used.values()) <= MEMORY_BYTES_MAX


@pytest.mark.parametrize("service", ["backgen", "curation"])
def test_a_light_pod_that_was_drained_is_gone_in_ten_seconds_and_back_in_five(house: House, service: str) -> None:
    rounds = [drained_and_back(house, f"{FULL_NAME}-{service}-0") for _ in range(ROUNDS)]
    print(f"{service}: (gone after, ready later) {rounds} s")
    assert max(gone_s for gone_s, _ in rounds) <= DRAINED_S_MAX
    # As every duration here, the smallest: what else the machine does makes a start longer, never shorter.
    assert min(ready_s for _, ready_s in rounds) <= ONE_POD_READY_S_MAX


def test_status_in_a_pod_reaches_every_service(house: House) -> None:
    answered = asked(house.inside, "status", "--json", within_s=50)
    assert not [name for name in SERVICES if name not in answered]


def drained_and_back(house: House, name: str) -> tuple[float, float]:
    """Seconds until an evicted pod was gone, and from the next one's creation until it was ready."""
    begin = time.monotonic()
    house.inside.evict(name)
    house.inside.kubectl("wait", "--for=delete", f"pod/{name}")
    gone_s = time.monotonic() - begin
    until(lambda: house.inside.pod_ready(name), f"{name} is ready again", within_s=60)
    return round(gone_s, 1), seconds_until_ready(house.inside.get("pod", name))


def seconds_until_ready(pod: Manifest) -> float:
    """From the pod's creation until it was ready, by the cluster's own clock, which counts whole seconds."""
    moments = (pod["metadata"]["creationTimestamp"], condition(pod, "Ready")["lastTransitionTime"])
    created, became_ready = (datetime.fromisoformat(moment) for moment in moments)
    return (became_ready - created).total_seconds()
