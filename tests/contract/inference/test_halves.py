"""Half a surrogate pair in what a server says: JSON can spell one, the journal and the messages can hold none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web

from contract.inference import tgi_thread as tgi
from contract.inference.backends import LABELS
from contract.inference.openai_stub import Behaviour, openai_stub
from contract.inference.tgi_server import TgiServer
from contract.inference.v2_stub import BadDays, v2_stub
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Answer, Classify, Decoding, Generate, Generated, Inference, Refused

WAIT_S = 60
SAID, KEPT = "half \ud83d of \U0001f600", "half \ufffd of \U0001f600"
TOKEN = {"id": 1, "text": "a", "logprob": -1.0, "special": False}
DETAILS = {"finish_reason": "length", "generated_tokens": 1, "input_length": 1, "prefill": [], "tokens": [TOKEN]}


def generated(opened: Inference) -> Answer:
    answer = opened.submit(Generate("generator", "m", "A text.", Decoding(24))).result(WAIT_S)
    opened.close()
    return answer


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_half_in_an_answer_of_the_openai_routes_is_replaced(api: Literal["chat", "completions"]) -> None:
    with openai_stub(Behaviour(opening=SAID)) as url:
        answer = generated(OpenAIInference(url, api=api))
    assert isinstance(answer, Generated) and answer.text.startswith(KEPT)


def test_a_half_in_the_sentence_of_a_server_that_cannot_be_used_is_replaced() -> None:
    with openai_stub(Behaviour(pinned=SAID)) as url:
        opened = OpenAIInference(url, model="other")
        with pytest.raises(Unavailable, match=KEPT):
            opened.probe()
        opened.close()


@pytest.mark.parametrize("deadline_s", [300.0, 5.0], ids=["in one piece", "streamed"])
def test_a_half_in_an_answer_of_tgi_is_replaced(tiny_model: Path, deadline_s: float) -> None:
    event: dict[str, Any] = {"index": 1, "token": TOKEN, "generated_text": SAID, "details": DETAILS}
    stream = web.Response(body=_event(event), content_type="text/event-stream")
    piece = web.json_response({"generated_text": SAID, "details": DETAILS})
    days = tgi.BadDays(answers=[piece if deadline_s > 100 else stream])
    with tgi.tgi_thread(TgiServer(str(tiny_model)), days) as url:
        answer = generated(TgiInference(url, deadline_s=deadline_s, attempts_max=1))
    assert isinstance(answer, Generated) and answer.text == KEPT


def test_a_half_in_a_refusal_of_tgi_is_replaced(tiny_model: Path) -> None:
    days = tgi.BadDays(answers=[web.json_response({"error": SAID, "error_type": "validation"}, status=422)])
    with tgi.tgi_thread(TgiServer(str(tiny_model)), days) as url:
        answer = generated(TgiInference(url, attempts_max=1))
    assert isinstance(answer, Refused) and answer.detail.endswith(KEPT)


def test_a_half_in_a_refusal_of_a_predictor_is_replaced() -> None:
    days = BadDays(refusal=f"malformed: {SAID}")
    days.held.set()
    with v2_stub(days) as url:
        opened = KServeInference(url)
        answer = opened.submit(Classify("evaluator", days.model, "Which?", LABELS)).result(WAIT_S)
        opened.close()
    assert answer == Refused("malformed", KEPT)


def _event(body: dict[str, Any]) -> bytes:
    return b"data:" + (web.json_response(body).text or "").encode() + b"\n\n"
