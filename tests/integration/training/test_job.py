"""The training job as a process, on a model of 70,000 parameters: repeatable, resumable, and it learns its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from xinstruct.inference.local import LocalInference
from xinstruct.inference.model_folder import model_digest
from xinstruct.scoring.domain import Calibration
from xinstruct.spine.inference import Classified, Classify, Decoding, Generate, Generated
from xinstruct.spine.prompts import LABELS, evaluator_prompt, generator_prompt
from xinstruct.training.domain import JobSpec, PairRow
from xinstruct.training.folders import calibration_of
from xinstruct.training.jobs import JobPhase
from xinstruct.training.pretrain import Part, Plan
from xinstruct.training.work_folder import ended

SMALL = Plan(
    ("sw",), vocabulary=400, hidden=64, heads=2, layers=2, intermediate=96,
    parts=(Part(steps=3, threads=1, learning_rate_max=0.01),),
)
INSTRUCTION = "Describe the lake."
RECIPE = {
    "prompt_family": "tiny", "epochs": 1.0, "rows_per_batch": 4, "learning_rate": 0.02, "checkpoint_steps": 5,
    "held_out_ratio": 0.1, "tokens_max": 256,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model that has learned nothing, made as the tiny base is made."""
    from xinstruct.training.pretrain import pretrain

    folder = tmp_path_factory.mktemp("base") / "base"
    pretrain(SMALL, folder)
    return folder


@pytest.fixture
def spec(base: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes the spec of a job on 60 pairs that all have one instruction; returns its file."""

    def write(name: str, role: str = "generator", generator: Path | None = None, **recipe: Any) -> Path:
        work = tmp_path / name
        work.mkdir()
        pairs = [PairRow(f"{n:03}", INSTRUCTION, f"Ziwa {n}\n\nNi ziwa.", "sw", "seed") for n in range(60)]
        (work / "rows.jsonl").write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
        described = JobSpec(
            name, role, 0, str(base), str(generator or ""), str(work / "rows.jsonl"), str(work), RECIPE | recipe
        )
        (work / "spec.json").write_text(described.to_json())
        return work / "spec.json"

    return write


def start(spec: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "xinstruct.training.job", "--spec", str(spec)]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE)


def finish(spec: Path) -> dict[str, Any]:
    process = start(spec)
    process.communicate()
    assert process.returncode == 0
    return dict(json.loads((spec.parent / "result.json").read_text()))


@pytest.mark.parametrize("rows_at_once", [0, 2])
def test_equal_specs_give_equal_weights_and_a_killed_job_goes_on_to_the_same(
    spec: Callable[..., Path], rows_at_once: int
) -> None:
    whole, killed = (spec(name, rows_at_once=rows_at_once) for name in ("whole", "killed"))
    result = finish(whole)
    assert result["steps_done"] == result["steps_count"] > 10
    process = start(killed)
    progress = killed.parent / "progress.jsonl"
    while process.poll() is None and not list(killed.parent.glob("checkpoints/checkpoint-*/trainer_state.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed.parent / "result.json").exists()
    finish(killed)
    assert model_digest(killed.parent / "model") == model_digest(whole.parent / "model")
    assert json.loads(progress.read_text().splitlines()[-1])["steps_count"] == result["steps_count"]


KILLED_IN_TIDYING = """
import os, shutil, signal, sys
from pathlib import Path
from xinstruct.training.job import main

remove = shutil.rmtree

def killed(folder, *args, **more):
    if Path(folder).name == "checkpoints":
        next(path for path in sorted(Path(folder).rglob("*")) if path.is_file()).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    remove(folder, *args, **more)

shutil.rmtree = killed
main(sys.argv[1:])
"""


def test_a_job_that_is_killed_while_it_removes_its_checkpoints_is_done_and_not_trained_again(
    spec: Callable[..., Path]
) -> None:
    written = spec("killed")
    work = written.parent
    command = [sys.executable, "-c", KILLED_IN_TIDYING, "--spec", str(written)]
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL and (work / "checkpoints").exists()
    done, digest, told = ended(work), model_digest(work / "model"), (work / "progress.jsonl").read_bytes()
    assert done is not None and done.phase is JobPhase.DONE
    finish(written)
    assert (ended(work), model_digest(work / "model"), (work / "progress.jsonl").read_bytes()) == (done, digest, told)
    assert not (work / "checkpoints").exists()


@pytest.mark.parametrize("wrong_each", [1, 3])
def test_a_generator_learns_to_stop_and_an_evaluator_to_label(spec: Callable[..., Path], wrong_each: int) -> None:
    written = spec("generator", epochs=6.0)
    finish(written)
    folder = written.parent / "model"
    local = LocalInference(lambda role, _digest: models[role], batch_rows=4)
    models = {"generator": folder}
    prompt = generator_prompt("Ziwa 99\n\nNi ziwa.", "Swahili", "tiny")
    answer = local.submit(Generate("generator", "g", prompt, Decoding(48))).result(60)
    assert isinstance(answer, Generated)
    assert (answer.text, answer.finish_reason) == (INSTRUCTION, "stop")
    rated = spec("evaluator", role="evaluator", generator=folder, wrong_each=wrong_each)
    result = finish(rated)
    assert 0.0 <= result["metrics"]["held_out_exact"] <= 1.0
    models["evaluator"] = rated.parent / "model"
    asked = evaluator_prompt(INSTRUCTION, "Ziwa 99\n\nNi ziwa.", "Swahili", "tiny")
    assert isinstance(local.submit(Classify("evaluator", "e", asked, LABELS)).result(60), Classified)
    local.close()


def test_an_evaluator_does_not_depend_on_where_its_generator_lies(
    spec: Callable[..., Path], base: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(base, tmp_path / "elsewhere" / "model")
    first, second = (spec(f"of {one.name}", role="evaluator", generator=one) for one in (base, elsewhere))
    finish(first)
    finish(second)
    assert model_digest(first.parent / "model") == model_digest(second.parent / "model")


def test_an_evaluator_is_calibrated_with_drafts_of_rows_held_out_and_its_digest_says_so(
    spec: Callable[..., Path], tmp_path: Path
) -> None:
    lakes = spec("lakes", epochs=6.0)
    finish(lakes)
    rated = spec("rated", role="evaluator", generator=lakes.parent / "model", held_out_ratio=0.5, epochs=8.0,
                 wrong_each=3)
    pairs = [json.loads(line) for line in (rated.parent / "rows.jsonl").read_text().splitlines()]
    for number, pair in enumerate(pairs):
        if number % 3 == 0:  # of these the generator knows nothing: what it writes is wrong
            pair |= {"instruction": "Name what is sold at the market.", "response": f"Soko {number}\n\nNi soko."}
    (rated.parent / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    finish(rated)
    folder = rated.parent / "model"
    assert Calibration.parse(calibration_of(folder)) is not None
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "calibration.json").unlink()
    assert model_digest(bare) != model_digest(folder)


def test_a_job_without_rows_says_why_it_failed(spec: Callable[..., Path]) -> None:
    written = spec("empty")
    (written.parent / "rows.jsonl").write_text("")
    assert "holds no pairs" in finish(written)["failure"]
