"""A server that says no to whatever it is asked: no record is to blame, and the first good answer counts again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.inference.backends import LABELS
from contract.inference.ingress import Ingress, before
from contract.inference.openai_stub import Behaviour, openai_stub
from contract.inference.tgi_server import TgiServer
from contract.inference.tgi_thread import tgi_thread
from contract.inference.v2_stub import BadDays, v2_stub
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Classified, Classify, Decoding, Generate, Generated, Inference, Request

WAIT_S = 60
PROMOTED = f"sha256:{'a' * 64}"

statuses = pytest.mark.parametrize("status", [302, 401, 402, 403, 404, 405, 410])


@pytest.fixture
def ingress() -> Ingress:
    return Ingress()


@pytest.fixture(params=["openai chat", "openai completions", "tgi", "kserve"])
def backend(request: pytest.FixtureRequest, ingress: Ingress) -> Iterator[Inference]:
    """Each back end over HTTP, with an ingress before its server."""
    opened: Inference
    if request.param == "tgi":
        folder: Path = request.getfixturevalue("tiny_model")
        with tgi_thread(TgiServer(str(folder))) as server, before(server, ingress) as url:
            opened = TgiInference(url, attempts_max=1)
            yield opened
            opened.close()
    elif request.param == "kserve":
        days = BadDays()
        days.held.set()
        with v2_stub(days) as server, before(server, ingress) as url:
            opened = KServeInference(url, attempts_max=1)
            yield opened
            opened.close()
    else:
        with openai_stub(Behaviour()) as server, before(server, ingress) as url:
            opened = OpenAIInference(url, api=request.param.split()[1], attempts_max=1)
            yield opened
            opened.close()


@pytest.fixture
def ask(request: pytest.FixtureRequest) -> Callable[[str], Request]:
    """Text → the question that the back end under test is there for."""
    if request.node.callspec.params["backend"] == "kserve":  # type: ignore[attr-defined]
        return lambda text: Classify("evaluator", "sha256:here", text, LABELS)
    return lambda text: Generate("generator", "m", text, Decoding(6))


@statuses
def test_who_says_no_to_everything_is_waited_for_and_answers_when_it_is_there(
    backend: Inference, ask: Callable[[str], Request], ingress: Ingress, status: int
) -> None:
    ingress.status = status
    with pytest.raises(Unavailable):
        backend.submit(ask("Before anybody was there.")).result(WAIT_S)
    ingress.status = 0
    assert isinstance(backend.submit(ask("Now.")).result(WAIT_S), Generated | Classified)


@statuses
def test_who_says_no_to_everything_after_it_has_answered_is_waited_for_as_well(
    backend: Inference, ask: Callable[[str], Request], ingress: Ingress, status: int
) -> None:
    assert isinstance(backend.submit(ask("Now.")).result(WAIT_S), Generated | Classified)
    ingress.status = status
    with pytest.raises(Unavailable) as raised:
        backend.submit(ask("Not any more.")).result(WAIT_S)
    assert raised.value.retry_after_s
    ingress.status = 0
    assert isinstance(backend.submit(ask("Again.")).result(WAIT_S), Generated | Classified)


@pytest.mark.parametrize(("status", "named"), [(402, "credit"), (403, "api_key"), (404, "url"), (405, "url")])
def test_what_to_look_at_is_said(backend: Inference, ingress: Ingress, status: int, named: str) -> None:
    ingress.status = status
    with pytest.raises(Unavailable, match=named):
        backend.probe()


def test_a_server_that_was_started_again_with_another_model_is_asked_for_that_one() -> None:
    behaviour = Behaviour(served="first")
    with openai_stub(behaviour) as url:
        opened = OpenAIInference(url)
        request = Generate("generator", PROMOTED, "A text.", Decoding(6))
        assert isinstance(opened.submit(request).result(WAIT_S), Generated)
        behaviour.served = "second"
        with pytest.raises(Unavailable, match="model"):
            opened.submit(request).result(WAIT_S)
        assert isinstance(opened.submit(request).result(WAIT_S), Generated)
        opened.close()
    assert behaviour.asked[-1]["model"] == "second"


def test_a_server_without_the_model_that_is_asked_for_by_name_is_waited_for() -> None:
    with openai_stub(Behaviour(served="other")) as url:
        opened = OpenAIInference(url)
        with pytest.raises(Unavailable, match="model"):
            opened.submit(Generate("generator", "endpoint:mine", "A text.", Decoding(6))).result(WAIT_S)
        opened.close()
