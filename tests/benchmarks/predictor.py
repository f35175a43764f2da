"""Labels a second through the predictor, over those of the same model in process: 32 rows a batch, one thread each.

Both are asked through the port, as scoring asks: every question at once. The model server is a process of its own, so
what it costs is its protocol, its queue and the adapter; on two cores the adapter has one of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figure import ROUNDS, Figure, interleaved, worst
from contract.inference.predictor_process import PredictorProcess
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.local import LocalInference
from xinstruct.spine.inference import Classified, Classify, Inference
from xinstruct.spine.prompts import LABELS, evaluator_prompt

MODEL = Path(__file__).parents[2] / "models" / "tiny-base"
BATCH_ROWS = 32
ROWS = 192
TURNS = 4
"""Times that each contender asks in a round, one after the other: what else the machine does falls on all of them."""
WORDS = ("lake", "hill", "boat", "market", "village", "rain", "harvest", "song", "school", "river", "stone", "road")


def figures(folder: Path) -> Iterator[Figure]:
    """Throughput over REST and over gRPC, over that in process."""
    predictor = PredictorProcess("evaluator", MODEL, folder / "log", batch_rows=BATCH_ROWS, waiting_rows_max=4_096)
    predictor.start()
    local = LocalInference(lambda _role, _digest: MODEL, batch_rows=BATCH_ROWS)
    try:
        predictor.await_ready()
        served = {name: KServeInference(predictor.url(name)) for name in ("rest", "grpc")}
        contenders = {"in_process": local, **served}
        for contender in contenders.values():
            _spent_s(contender, predictor.digest, 0)  # loads the model, and finds how many calls may be in flight
        turns = interleaved({
            name: lambda number, contender=contender: _spent_s(contender, predictor.digest, number + 1)
            for name, contender in contenders.items()
        }, ROUNDS * TURNS)
        results = {name: [_rate(spent_s, number) for number in range(ROUNDS)] for name, spent_s in turns.items()}
        for endpoint in served.values():
            endpoint.close()
    finally:
        local.close()
        predictor.kill()
    for name in served:
        ratios = [ours / theirs for ours, theirs in zip(results[name], results["in_process"], strict=True)]
        yield worst(
            f"predictor_{name}_over_in_process", ratios, ">=", 0.9, rows=ROWS * TURNS, batch_rows=BATCH_ROWS,
            in_process_rows_per_s=[round(value, 1) for value in results["in_process"]],
            rows_per_s=[round(value, 1) for value in results[name]],
        )


def _spent_s(inference: Inference, digest: str, number: int) -> float:
    requests = [Classify("evaluator", digest, _prompt(ROWS * number + row), LABELS) for row in range(ROWS)]
    begin_s = time.perf_counter()
    answers = [future.result() for future in [inference.submit(request) for request in requests]]
    spent_s = time.perf_counter() - begin_s
    assert all(isinstance(answer, Classified) for answer in answers)
    return spent_s


def _rate(spent_s: Sequence[float], number: int) -> float:
    """Rows a second in round `number`."""
    return ROWS * TURNS / sum(spent_s[TURNS * number : TURNS * (number + 1)])


def _prompt(number: int) -> str:
    """An evaluator's prompt about a text of one to six paragraphs, another one for each number."""
    words = [WORDS[(number // 7 ** place + place) % len(WORDS)] for place in range(9)]
    paragraphs = [" ".join(words[start:] + words[:start]).capitalize() + "." for start in range(1 + number % 6)]
    instruction = f"Describe the {words[0]} number {number}: {words[1]}, {words[2]} and {words[3]}."
    return evaluator_prompt(instruction, "\n".join(paragraphs), "Swahili", "tiny")
