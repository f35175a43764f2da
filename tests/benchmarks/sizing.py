"""From what one document costs to how many pods, partitions, brokers and GPUs a rate needs. Pure.

docs/capacity.md holds the costs that were measured and the table that follows from them; a test compares both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RATES = (1.0, 10.0, 100.0)
"""Admitted documents a second."""
HEADROOM = 1.5
"""What is bought over what is used: two thirds busy on average, a third for bursts, restarts and replays."""
SECONDS_A_DAY = 86_400
STAGES = ("crawler", "backgen", "scoring-a")
"""Services whose pods share the partitions of a topic."""


@dataclass(frozen=True)
class Cost:
    """What a service spends on one admitted document, and what one of its pods has to spend.

    `cores`: cores that a pod can use (a Python process one, and one a worker process). `in_flight_max` and `latency_s`:
    calls at a model at once, and seconds of one; 0 where it asks none.
    """

    service: str
    cpu_s: float
    cores: float
    in_flight_max: int = 0
    latency_s: float = 0.0


def pods(cost: Cost, documents_per_s: float, *, headroom: float = HEADROOM) -> int:
    """Pods of the service: as many as its CPU needs, and as many as keep enough calls in flight."""
    by_cpu = documents_per_s * cost.cpu_s * headroom / cost.cores
    by_calls = documents_per_s * cost.latency_s * headroom / cost.in_flight_max if cost.in_flight_max else 0.0
    return max(1, _up(by_cpu), _up(by_calls))


def partitions(pods_of_stages: Sequence[int], *, least: int = 12) -> int:
    """Partitions of the main topics: as many as the largest stage has pods, and never fewer than they are made with."""
    return max(least, *pods_of_stages)


def gpus(documents_per_s: float, calls_per_document: float, calls_per_s: float, *, headroom: float = HEADROOM) -> int:
    """GPUs of one role: `calls_per_s` is what one of them answers, by `vllm bench serve` with the lengths of ours."""
    return max(1, _up(documents_per_s * calls_per_document * headroom / calls_per_s))


def training_gb(trained: float, frozen: float, *, rows_at_once: int, row_gb: float, rest_gb: float) -> float:
    """GB (10⁹ bytes) of GPU memory of a training job, of parameters that are trained and of frozen ones.

    Frozen ones are bfloat16; a trained one has a float32 weight, gradient and two averages, and a copy in bfloat16 to
    multiply with. `row_gb`: of a row in memory. `rest_gb`: of the scores. The allocator's fragments and CUDA itself are
    left out.
    """
    return (frozen * 2 + trained * (4 + 4 + 8 + 2)) / 1e9 + rows_at_once * row_gb + rest_gb


def gib_per_day(bytes_per_document: float, documents_per_s: float) -> float:
    """What is written in a day, in GiB, one copy."""
    return bytes_per_document * documents_per_s * SECONDS_A_DAY / 2**30


def table(costs: Sequence[Cost], sizes: Mapping[str, float], rates: Sequence[float] = RATES) -> list[str]:
    """The lines of a Markdown table, a column a rate: pods of each service, partitions, GiB a day of each store.

    Costs whose names begin with one word ("crawler", "crawler workers") are of one pod: the larger number counts.
    """
    needed: dict[str, list[int]] = {}
    for cost in costs:
        now = [pods(cost, rate) for rate in rates]
        name = cost.service.split()[0]
        needed[name] = [max(both) for both in zip(needed.get(name, now), now, strict=True)]
    rows = [[name, *(str(count) for count in counts)] for name, counts in needed.items()]
    stages = [counts for name, counts in needed.items() if name in STAGES]
    rows.append(["partitions", *(str(partitions(counts)) for counts in zip(*stages, strict=True))])
    rows += [[f"{name}, GiB a day", *(f"{gib_per_day(size, rate):.3g}" for rate in rates)]
             for name, size in sizes.items()]
    heads = ["what", *(f"{rate:g} a second" for rate in rates)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] + ["---:"] * len(rates), *rows)]


def _up(number: float) -> int:
    """Rounded up; a number that is whole but for the last bits of a float stays."""
    return math.ceil(round(number, 9))
