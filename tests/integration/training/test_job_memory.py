"""What a job holds in memory, rows and numbers, does not change what it learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from contract.jobs.bench import RECIPE, base_in
from xinstruct.training.domain import JobSpec, PairRow
from xinstruct.training.job import Precision, run

ADAMW = {"optimizer": "adamw", "learning_rate": 1e-3}
ROWS_COUNT = 37
"""The last step of an epoch has fewer rows than the others."""
Train = Callable[..., tuple[dict[str, Any], dict[str, torch.Tensor]]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_in(tmp_path_factory.mktemp("memory"))


@pytest.fixture
def train(base: Path, tmp_path: Path) -> Iterator[Train]:
    """Runs a job on pairs of many lengths; returns its result and its weights."""

    def job(name: str, precision: Precision, role: str = "generator", **recipe: Any) -> Any:
        work = tmp_path / name
        work.mkdir()
        pairs = [
            PairRow(f"{n:03}", f"Name lake {n}." * (1 + n % 4), "Ziwa\n\n" + "Ni ziwa. " * (1 + n % 7), "sw", "seed")
            for n in range(ROWS_COUNT)
        ]
        (work / "rows.jsonl").write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
        chosen = RECIPE | {"epochs": 1.0, "rows_per_batch": 8} | recipe
        spec = JobSpec(name, role, 0, str(base), "", str(work / "rows.jsonl"), str(work), chosen)
        return run(spec, precision), load_file(work / "model" / "model.safetensors")

    threads = torch.get_num_threads()
    yield job
    torch.set_num_threads(threads)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Euclidean, over all weights."""
    assert one.keys() == other.keys()
    return float(sum((one[name].float() - other[name].float()).square().sum() for name in one)) ** 0.5


@pytest.mark.parametrize(("precision", "role", "wrong_each", "rounding"), [
    (Precision.SINGLE, "generator", 1, 1e-3),
    (Precision.SINGLE, "evaluator", 3, 1e-3),
    (Precision.MIXED, "generator", 1, 0.05),
    (Precision.MIXED, "evaluator", 3, 0.05),
])
def test_a_step_is_the_same_however_many_of_its_rows_are_in_memory(
    train: Train, base: Path, precision: Precision, role: str, wrong_each: int, rounding: float
) -> None:
    whole, weights = train("whole", precision, role, **ADAMW, wrong_each=wrong_each)
    apart, others = train("apart", precision, role, **ADAMW, wrong_each=wrong_each, rows_at_once=2)
    assert apart["steps_done"] == whole["steps_done"] >= 5
    assert apart["loss"] == pytest.approx(whole["loss"], rel=rounding / 10)
    moved = distance(weights, load_file(base / "model.safetensors"))
    assert moved > 0.3 and distance(weights, others) < rounding * moved


def test_steps_too_small_for_bfloat16_add_up(train: Train, base: Path) -> None:
    recipe = {"optimizer": "adamw", "learning_rate": 1e-5, "epochs": 9.0, "rows_per_batch": 4, "steps_max": 30}
    _, weights = train("small steps", Precision.MIXED, **recipe)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    name = "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"
    before = load_file(base / "model.safetensors")[name].bfloat16()
    coarse = before.abs() > 2**-7  # from there numbers are 6e-5 apart, six steps of the highest rate
    assert (before != weights[name])[coarse].float().mean() > 0.5


def test_adapters_change_the_linear_layers_and_nothing_else(train: Train, base: Path) -> None:
    before = load_file(base / "model.safetensors")
    result, weights = train("adapters", Precision.MIXED, **ADAMW, lora_rank=4, rows_at_once=4)
    changed = {name for name, tensor in weights.items() if not torch.equal(tensor, before[name].bfloat16())}
    assert changed == {name for name in before if ".layers." in name and before[name].ndim == 2}
    assert result["steps_done"] >= 5
