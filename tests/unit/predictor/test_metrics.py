"""What a predictor counts, against Prometheus' own registry: an autoscaler and the alerts read these."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from xinstruct.inference.local import Batch
from xinstruct.predictor.metrics import Meter
from xinstruct.spine.inference import Classified, Refused

NAMES = ("batch_rows", "batch_seconds", "wait_seconds")


def figures(role: str) -> dict[str, tuple[float, float]]:
    """Histogram → (how many, their sum)."""
    return {name: (value(f"{name}_count", role=role), value(f"{name}_sum", role=role)) for name in NAMES}


def value(name: str, **labels: str) -> float:
    """A sample of ours."""
    found = REGISTRY.get_sample_value(f"xinstruct_predictor_{name}", labels)
    assert found is not None, (name, labels)
    return found


def test_a_batch_counts_its_own_time_once_and_the_wait_of_each_of_its_rows() -> None:
    meter = Meter("one-batch")
    meter.start(lambda: 0)
    meter.batch(Batch(waits_s=(0.25, 0.5, 1.0), run_s=0.125))
    assert figures("one-batch") == {"batch_rows": (1, 3), "batch_seconds": (1, 0.125), "wait_seconds": (3, 1.75)}


def test_a_wait_falls_into_the_bucket_of_its_length() -> None:
    meter = Meter("buckets")
    meter.start(lambda: 0)
    meter.batch(Batch(waits_s=(0.02, 0.3), run_s=2.0))
    assert value("wait_seconds_bucket", role="buckets", le="0.025") == 1
    assert value("batch_seconds_bucket", role="buckets", le="1.0") == 0


def test_the_batch_that_warms_is_not_counted() -> None:
    meter = Meter("warming")
    meter.batch(Batch(waits_s=(30.0,), run_s=30.0))
    meter.start(lambda: 0)
    assert figures("warming") == dict.fromkeys(NAMES, (0, 0))


def test_every_scrape_asks_how_many_rows_wait_now() -> None:
    waiting = [1, 2]
    Meter("waiting").start(lambda: len(waiting))
    assert value("waiting_rows", role="waiting") == 2
    waiting.clear()
    assert value("waiting_rows", role="waiting") == 0


@pytest.mark.parametrize("outcome", ["too_long", "overloaded"])
def test_rows_are_counted_by_what_became_of_them(outcome: str) -> None:
    role = f"rows-{outcome}"
    meter = Meter(role)
    if outcome == "overloaded":
        meter.refused(outcome, 3)
    else:
        meter.answers([Refused("too_long")] * 3)
    meter.answers([Classified((1.0,))])
    assert value("rows_total", role=role, outcome=outcome) == 3
    assert value("rows_total", role=role, outcome="answered") == 1
