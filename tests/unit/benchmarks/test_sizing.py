"""The arithmetic of docs/capacity.md, and that the page's table is what it gives."""

from __future__ import annotations

import re

import pytest
from ruamel.yaml import YAML

from architecture.source import ROOT
from benchmarks.sizing import Cost, gib_per_day, gpus, partitions, pods, table, training_gb

PAGE = ROOT / "docs" / "capacity.md"
PARAMETERS, ADAPTERS = 8.03e9, 41.9e6
"""Of the model on the page, and of LoRA adapters of rank 16 on its linear layers."""


@pytest.mark.parametrize(("cpu_s", "cores", "rate", "wanted"), [
    (0.1, 1.0, 1.0, 1), (0.1, 1.0, 10.0, 2), (0.1, 1.0, 100.0, 15), (0.1, 2.0, 100.0, 8), (0.0, 1.0, 100.0, 1),
    (0.2, 1.0, 10.0, 3), (0.201, 1.0, 10.0, 4),
])
def test_pods_are_the_cpu_of_the_rate_with_headroom_rounded_up_and_one_at_least(
    cpu_s: float, cores: float, rate: float, wanted: int
) -> None:
    assert pods(Cost("any", cpu_s, cores), rate) == wanted


@pytest.mark.parametrize(("latency_s", "in_flight_max", "rate", "wanted"), [
    (2.0, 64, 10.0, 1), (2.0, 64, 100.0, 5), (2.0, 4, 10.0, 8), (0.0, 64, 100.0, 1),
])
def test_a_pod_that_waits_for_a_model_has_only_so_many_calls_in_flight(
    latency_s: float, in_flight_max: int, rate: float, wanted: int
) -> None:
    assert pods(Cost("any", 0.0, 1.0, in_flight_max, latency_s), rate) == wanted


def test_there_are_never_fewer_partitions_than_topics_are_made_with_nor_than_pods_of_a_stage() -> None:
    assert partitions([1, 5, 3]) == 12
    assert partitions([1, 15, 3]) == 15


def test_gpus_are_the_calls_of_the_rate_with_headroom_over_what_one_answers() -> None:
    assert gpus(10.0, 1.0, 20.0) == 1
    assert gpus(100.0, 1.0, 20.0) == 8
    assert gpus(100.0, 2.0, 20.0, headroom=1.0) == 10


def test_what_runs_in_one_pod_needs_the_larger_number_of_pods() -> None:
    costs = [Cost("crawler", 0.02, 1.0), Cost("crawler workers", 0.1, 2.0), Cost("backgen", 0.01, 1.0, 64, 2.0)]
    assert table(costs, {"kafka": 10_000.0}, [10.0, 300.0]) == [
        "| what | 10 a second | 300 a second |", "| --- | ---: | ---: |",
        "| crawler | 1 | 23 |", "| backgen | 1 | 15 |", "| partitions | 12 | 23 |", "| kafka, GiB a day | 8.05 | 241 |",
    ]


def test_bytes_of_a_day() -> None:
    assert gib_per_day(2**30 / 86_400, 1.0) == pytest.approx(1.0)


def test_the_table_of_the_page_is_what_the_costs_of_the_page_give() -> None:
    page = PAGE.read_text("utf-8")
    costs, sizes = _costs(page), _sizes(page)
    assert costs and sizes
    assert "\n".join(table(costs, sizes)) in page


@pytest.mark.parametrize(("rows_at_once", "row"), [
    (8, "| sum with `rows_at_once` 8 | {lora:.0f} | {full:.0f} |"),
    (128, "| the same with all 128 rows of a step at once | {lora:.0f} | {full:.0f} |"),
    (1, "`lora_rank: 0, learning_rate: 0.00001, rows_at_once: 1`: {full:.0f} GB"),
])
def test_the_memory_of_training_on_the_page_is_what_its_parts_give(rows_at_once: int, row: str) -> None:
    lora = training_gb(ADAPTERS, PARAMETERS, rows_at_once=rows_at_once, row_gb=0.5 + 1.0, rest_gb=0.3)
    full = training_gb(PARAMETERS, 0, rows_at_once=rows_at_once, row_gb=1.1 + 1.0, rest_gb=0.3 + 2.1)
    assert row.format(lora=lora, full=full) in PAGE.read_text("utf-8")


@pytest.mark.parametrize("role", ["generator", "evaluator"])
def test_a_job_of_the_gpu_profile_leaves_half_of_80_gb_free(role: str) -> None:
    values = YAML(typ="safe").load((ROOT / "charts/xinstruct/profiles/gpu.yaml").read_text("utf-8"))
    recipe = values["config"]["training"][role]
    assert (recipe["lora_rank"], recipe["tokens_max"]) == (16, 2048)  # what the sums are of
    needed = training_gb(ADAPTERS, PARAMETERS, rows_at_once=recipe["rows_at_once"], row_gb=0.5 + 1.0, rest_gb=0.3)
    assert needed < 40


def _costs(page: str) -> list[Cost]:
    """From the rows `| crawler | 0.1 | 1 | 64 | 2 | …`: CPU seconds, cores, calls in flight, seconds of a call."""
    rows = re.findall(r"^\| ([\w -]+) \| ([\d.]+) \| ([\d.]+) \| (\d+|-) \| ([\d.]+|-) \|", page, re.MULTILINE)
    return [Cost(name, float(cpu), float(cores), *_asked(flight, wait)) for name, cpu, cores, flight, wait in rows]


def _asked(in_flight_max: str, latency_s: str) -> tuple[int, float]:
    return (0, 0.0) if in_flight_max == "-" else (int(in_flight_max), float(latency_s))


def _sizes(page: str) -> dict[str, float]:
    """From the rows `| Kafka | 1234 bytes | …`."""
    return {name: float(count) for name, count in re.findall(r"^\| (\w+) \| (\d+) bytes \|", page, re.MULTILINE)}
