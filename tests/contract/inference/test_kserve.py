"""What the predictor and its adapter promise beyond the contract, against the real model server."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from contract.inference.backends import LABELS
from contract.inference.predictor_process import BATCH_ROWS, PredictorProcess
from xinstruct.inference.kserve_grpc import GrpcTransport
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.local import LocalInference
from xinstruct.inference.loop_thread import LoopThread
from xinstruct.inference.v2_tensors import Tensor
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Classify, Decoding, Embed, Generate, Inference, Refused

Predictors = Mapping[str, PredictorProcess]
WAIT_S = 120
TEXTS = [f"Text {number}: a lake, {'a hill, ' * (number % 27)}and what people make of them." for number in range(40)]
OTHER = "sha256:" + "0" * 64

transports = pytest.mark.parametrize("transport", ["rest", "grpc"])


def answers(opened: Inference, requests: list[Any]) -> list[Any]:
    futures = [opened.submit(request) for request in requests]
    return [future.result(WAIT_S) for future in futures]


def prompts_and_labels(prompts: list[Any], labels: tuple[Any, ...] = LABELS, **changed: Any) -> dict[str, Any]:
    first = {"name": "prompts", "datatype": "BYTES", "shape": [len(prompts)], "data": prompts} | changed
    return {"inputs": [first, {"name": "labels", "datatype": "BYTES", "shape": [len(labels)], "data": list(labels)}]}


@transports
@pytest.mark.parametrize("role", ["evaluator", "encoder"])
def test_answers_are_those_of_the_model_in_process_bit_for_bit(
    predictors: Predictors, tiny_model: Path, role: str, transport: str
) -> None:
    digest = predictors[role].digest
    asked = [Classify(role, digest, text, LABELS) if role == "evaluator" else Embed(role, digest, text)
             for text in TEXTS]
    local = LocalInference(lambda _role, _digest: tiny_model, batch_rows=BATCH_ROWS)
    served = KServeInference(predictors[role].url(transport))
    try:
        assert answers(served, asked) == answers(local, asked)
    finally:
        local.close()
        served.close()


@transports
def test_a_model_that_is_not_served_is_waited_for_by_its_digest(predictors: Predictors, transport: str) -> None:
    served, digest = KServeInference(predictors["evaluator"].url(transport)), predictors["evaluator"].digest
    try:
        with pytest.raises(Unavailable, match=f"serves {digest}, {OTHER} was asked for"):
            answers(served, [Classify("evaluator", OTHER, "Which?", LABELS)])
        assert not isinstance(answers(served, [Classify("evaluator", digest, "Which?", LABELS)])[0], Refused)
    finally:
        served.close()


@transports
def test_what_a_predictor_serves_is_found_by_asking_it(predictors: Predictors, transport: str) -> None:
    for role, predictor in predictors.items():
        served = KServeInference(predictor.url(transport))
        found = served.probe()
        served.close()
        assert (found.label_probabilities, found.embeddings) == (role == "evaluator", role == "encoder")
        assert found.model == predictor.digest


@transports
def test_a_predictor_refuses_to_write(predictors: Predictors, transport: str) -> None:
    served = KServeInference(predictors["evaluator"].url(transport))
    [answer] = answers(served, [Generate("generator", predictors["evaluator"].digest, "Write.", Decoding(4))])
    served.close()
    assert isinstance(answer, Refused) and answer.reason == "malformed"


@transports
def test_a_refused_row_spoils_no_other_of_its_call(predictors: Predictors, transport: str) -> None:
    served, digest = KServeInference(predictors["evaluator"].url(transport)), predictors["evaluator"].digest
    texts = ["First.", "", "\ud800", "word " * 600, "Last."]
    found = answers(served, [Classify("evaluator", digest, text, LABELS) for text in texts])
    served.close()
    reasons = [answer.reason if isinstance(answer, Refused) else "" for answer in found]
    assert reasons == ["", "malformed", "malformed", "too_long", ""]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"inputs": []}, "takes the inputs prompts, labels"),
        (prompts_and_labels(["a"], name="prompt"), "found prompt, labels"),
        (prompts_and_labels(["a"], datatype="FP32", data=[1.0]), "prompts is FP32"),
        (prompts_and_labels(["a"], shape=[2]), "does not hold the values of its shape"),
        (prompts_and_labels(["a", "b"], shape=[2, 1]), "BYTES [1 or more] fits"),
        (prompts_and_labels([]), "BYTES [1 or more] fits"),
        (prompts_and_labels(["a"] * 257), "257 rows, 256 fit"),
        (prompts_and_labels([1]), "holds a int where text was expected"),
        (prompts_and_labels(["\ud800"]), "no UTF-8"),
        (prompts_and_labels(["a"], ("",)), "a label is empty"),
        (prompts_and_labels(["a"], (" best", " best of all")), "share a first token"),
    ],
)
def test_a_call_that_cannot_be_answered_is_a_400_with_a_sentence(
    predictors: Predictors, body: dict[str, Any], said: str
) -> None:
    status, answer = predictors["evaluator"].post("/v2/models/evaluator/infer", body)
    assert status == 400
    assert said in answer["error"]


def test_over_grpc_a_wrong_call_and_an_unknown_model_have_statuses_of_their_own(predictors: Predictors) -> None:
    work = LoopThread("test")
    transport = GrpcTransport(f"127.0.0.1:{predictors['evaluator'].grpc_port}", api_key="", deadline_s=60)
    wrong = work.run(transport.infer("evaluator", [Tensor("prompt", "BYTES", (1,), ["a"])]))
    unknown = work.run(transport.infer(OTHER, [Tensor("prompts", "BYTES", (1,), ["a"])]))
    work.close(transport.close)
    assert (wrong.status, unknown.status) == (400, 404)
    assert "takes the inputs prompts, labels" in wrong.error


def test_tensors_may_come_and_go_as_bytes(predictors: Predictors) -> None:
    # The protocol's binary form: JSON, then the raw values, each string behind its length.
    raw = b"".join(struct.pack("<I", len(text)) + text for text in (b"Which?", b" best", b" worst"))
    head = json.dumps({
        "parameters": {"binary_data_output": True},
        "inputs": [
            {"name": name, "datatype": "BYTES", "shape": [rows], "parameters": {"binary_data_size": size}}
            for name, rows, size in (("prompts", 1, 10), ("labels", 2, len(raw) - 10))
        ],
    }).encode()
    evaluator = predictors["evaluator"]
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    asked = urllib.request.Request(f"{evaluator.url('rest')}/v2/models/evaluator/infer", head + raw, headers)
    with urllib.request.urlopen(asked, timeout=60) as answer:
        size = int(answer.headers["Inference-Header-Content-Length"])
        best, worst = struct.unpack("<dd", answer.read()[size : size + 16])
    _, plain = evaluator.post("/v2/models/evaluator/infer", prompts_and_labels(["Which?"], (" best", " worst")))
    assert [best, worst] == plain["outputs"][0]["data"]


def test_a_call_of_more_rows_than_may_wait_is_sent_away_until_later(predictors: Predictors) -> None:
    body = prompts_and_labels((TEXTS * 7)[:256])  # WAITING_ROWS_MAX is twice as many
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(predictors["evaluator"].post, "/v2/models/evaluator/infer", body) for _ in range(5)]
        found = [call.result(WAIT_S) for call in calls]
    assert {status for status, _ in found} == {200, 429}
    assert all("rows wait, 512 may" in answer["error"] for status, answer in found if status == 429)


def test_nobody_on_the_network_unloads_the_model(predictors: Predictors) -> None:
    status, _ = predictors["evaluator"].post("/v2/repository/models/evaluator/unload", {})
    assert status == 400
    assert predictors["evaluator"].ready()


def test_calls_of_several_callers_share_batches_and_are_counted(predictors: Predictors) -> None:
    predictor = predictors["evaluator"]
    before, begin_s = figures(predictor), time.monotonic()
    callers = [KServeInference(predictor.url(("rest", "grpc")[number % 2])) for number in range(4)]
    asked = [[caller.submit(Classify("evaluator", predictor.digest, f"Text {number}", LABELS))
              for number in range(8)] for caller in callers]
    assert not [future for futures in asked for future in futures if isinstance(future.result(WAIT_S), Refused)]
    for caller in callers:
        caller.close()
    wall_s = time.monotonic() - begin_s
    more = {name: value - before[name] for name, value in figures(predictor).items()}
    assert more["rows_total"] == more["wait_seconds_count"] == 32
    assert more["batch_seconds_count"] == more["batch_rows_count"] < 24
    # One batch at a time; a row is there for no longer than its caller waits.
    assert 0 < more["batch_seconds_sum"] < wall_s
    assert 0 < more["wait_seconds_sum"] < 32 * wall_s
    assert predictor.metric('xinstruct_predictor_waiting_rows{role="evaluator"}') == 0


def figures(predictor: PredictorProcess) -> dict[str, float]:
    """What the evaluator has counted so far."""
    lines = {"rows_total": '{outcome="answered",role="evaluator"}'} | dict.fromkeys(
        ("batch_rows_count", "batch_seconds_count", "batch_seconds_sum", "wait_seconds_count", "wait_seconds_sum"),
        '{role="evaluator"}',
    )
    return {name: predictor.metric(f"xinstruct_predictor_{name}{labels}") for name, labels in lines.items()}


def refused_start(*options: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "xinstruct.predictor", "--role", "evaluator", *options], check=False,
        capture_output=True, text=True, timeout=60,
    )
    return done.returncode, done.stderr


def test_a_folder_with_another_digest_is_not_served(tiny_model: Path) -> None:
    code, said = refused_start("--model-dir", str(tiny_model), "--model-digest", OTHER)
    assert code == 2
    assert f"--model-digest asks for {OTHER}" in said


def test_weights_that_can_execute_code_are_not_served(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    code, said = refused_start("--model-dir", str(tmp_path))
    assert code == 2
    assert "safetensors only" in said


@pytest.fixture(scope="module")
def bad_day(predictor_processes: Predictors) -> dict[str, Any]:
    """What is seen when the evaluator is killed at work, starts again, and is then asked again."""
    evaluator, opened_when_warm = predictor_processes["evaluator"], []
    callers = [KServeInference(evaluator.url(transport), attempts_max=2) for transport in ("rest", "grpc")]
    asked = [caller.submit(Classify("evaluator", evaluator.digest, text, LABELS))
             for text in TEXTS * 8 for caller in callers]
    asked[0].result(WAIT_S)
    evaluator.kill()
    ends = {type(future.exception(WAIT_S)) for future in asked}
    evaluator.start()
    while not evaluator.ready():
        # In this order: what listens before it is warm is seen listening while no such event is written yet.
        if evaluator.listening():
            opened_when_warm.append("warm" in evaluator.events())
    opened_when_warm.append("warm" in evaluator.events())  # it listens now, if nobody saw it before
    again = [_insist(caller, Classify("evaluator", evaluator.digest, TEXTS[0], LABELS)) for caller in callers]
    for caller in callers:
        caller.close()
    return {"ends": ends, "first": asked[0].result(), "again": again, "opened_when_warm": opened_when_warm}


def _insist(caller: Inference, request: Classify) -> Any:
    """Its answer, asking again while there is none, as a stage does."""
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            return caller.submit(request).result(WAIT_S)
        except Unavailable:
            assert time.monotonic() < end_s
            time.sleep(0.2)


def test_a_predictor_that_is_killed_at_work_is_unavailable_and_then_found_again(bad_day: dict[str, Any]) -> None:
    assert bad_day["ends"] == {type(None), Unavailable}
    assert bad_day["again"] == [bad_day["first"]] * 2


def test_no_port_is_open_before_a_first_batch_has_run(bad_day: dict[str, Any]) -> None:
    assert bad_day["opened_when_warm"] and all(bad_day["opened_when_warm"])


def test_a_predictor_that_is_told_to_stop_answers_what_is_in_flight(predictors: Predictors) -> None:
    encoder = predictors["encoder"]
    texts = (TEXTS * 7)[:256]
    body = {"inputs": [{"name": "texts", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(encoder.post, "/v2/models/encoder/infer", body)
        while encoder.metric('xinstruct_predictor_waiting_rows{role="encoder"}') == 0:
            assert not call.done(), "all rows were answered before anybody could look"
        code = encoder.stop()
        status, answer = call.result(WAIT_S)
    assert (code, status) == (0, 200)
    assert answer["outputs"][1]["data"] == [""] * len(texts)
