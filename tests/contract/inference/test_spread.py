"""Adapters ask servers that came later, too, though they are never idle: connections end while calls go on.

Between a client and its servers is what a cluster has there: an address that spreads connections (spreading.py), or a
name with an address for each pod.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest

from contract.inference.backends import LABELS
from contract.inference.openai_stub import Behaviour, openai_stub
from contract.inference.spreading import spreading
from contract.inference.tgi_server import TgiServer
from contract.inference.tgi_thread import BadDays as TgiDays
from contract.inference.tgi_thread import tgi_thread
from contract.inference.v2_stub import BadDays, v2_stub
from integration.spine.names import names
from servers import free_port
from xinstruct.inference.kserve_grpc import SERVICE
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.inference import Classify, Decoding, Generate, Inference, Refused, Request
from xinstruct.v1 import open_inference_pb2 as pb

MODEL = "sha256:here"
CONNECTION_S = 0.2
LIVES = 5
"""Answers of the servers take a fifth of a connection's life, or that many lives."""
AT_ONCE = 4
PATIENCE_S = 30.0
"""Only ends a test that has failed."""
LABEL = Classify("evaluator", MODEL, "Which?", LABELS)
WRITE = Generate("generator", "m", "A text.", Decoding(6))


@dataclass(frozen=True)
class Pod:
    """A server on a port of loopback, and how many calls it has got."""

    port: int
    asked: Callable[[], int]


@dataclass(frozen=True)
class Kind:
    """An adapter, the scheme of its URLs, and how a server is started whose answers take `answer_s`."""

    scheme: str
    adapter: Callable[..., Inference]
    request: Request
    start: Callable[[ExitStack, float, Path], Pod]


def openai_pod(stack: ExitStack, answer_s: float, _: Path) -> Pod:
    behaviour = Behaviour(answer_s=answer_s)
    url = stack.enter_context(openai_stub(behaviour))
    return Pod(urlsplit(url).port or 0, lambda: len(behaviour.asked))


def rest_pod(stack: ExitStack, answer_s: float, _: Path) -> Pod:
    days = BadDays(model=MODEL, answer_s=answer_s)
    days.held.set()
    return Pod(urlsplit(stack.enter_context(v2_stub(days))).port or 0, lambda: len(days.rows))


def tgi_pod(stack: ExitStack, answer_s: float, model: Path) -> Pod:
    days, server = TgiDays(), TgiServer(str(model))
    server.token_wait_s = answer_s / WRITE.decoding.tokens_max
    return Pod(urlsplit(stack.enter_context(tgi_thread(server, days))).port or 0, lambda: len(days.asked))


def grpc_pod(stack: ExitStack, answer_s: float, _: Path, *, address: str = "127.0.0.1:0") -> Pod:
    asked: list[str] = []

    def infer(request: pb.InferRequest, _context: grpc.ServicerContext) -> pb.InferResponse:
        asked.append(request.model_name)
        threading.Event().wait(answer_s)
        rows, width = request.inputs[0].shape[0], request.inputs[1].shape[0]
        shares = pb.InferTensorContents(fp64_contents=[1 / width] * (rows * width))
        refusals = pb.InferTensorContents(bytes_contents=[b""] * rows)
        return pb.InferResponse(model_name=MODEL, outputs=[
            pb.InferOutputTensor(name="probabilities", datatype="FP64", shape=[rows, width], contents=shares),
            pb.InferOutputTensor(name="refusals", datatype="BYTES", shape=[rows], contents=refusals),
        ])

    server = grpc.server(ThreadPoolExecutor(2 * AT_ONCE))
    method = grpc.unary_unary_rpc_method_handler(
        infer, pb.InferRequest.FromString, pb.InferResponse.SerializeToString)
    server.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler(SERVICE.strip("/"), {"ModelInfer": method})])
    port = server.add_insecure_port(address)
    server.start()
    stack.callback(lambda: server.stop(None).wait(1))
    return Pod(port, lambda: len(asked))


KINDS = {
    "openai": Kind("http", OpenAIInference, WRITE, openai_pod),
    "kserve rest": Kind("http", KServeInference, LABEL, rest_pod),
    "kserve grpc": Kind("grpc", KServeInference, LABEL, grpc_pod),
    "tgi": Kind("http", TgiInference, WRITE, tgi_pod),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One adapter after the other."""
    return KINDS[request.param]


@contextmanager
def endpoint(kind: Kind, url: str, **options: Any) -> Iterator[Inference]:
    """Nothing is tried again: a call that is cut is Unavailable."""
    opened = kind.adapter(url, attempts_max=1, **options)
    try:
        yield opened
    finally:
        opened.close()


def ask_until(opened: Inference, request: Request, done: Callable[[], bool]) -> int:
    """Ask, AT_ONCE at a time and never none, until `done`: how many answers came. No call may fail."""
    give_up, answers = time.monotonic() + PATIENCE_S, 0
    pending = deque(opened.submit(request) for _ in range(AT_ONCE))
    while not done():
        assert time.monotonic() < give_up, f"{answers} answers"
        assert not isinstance(pending.popleft().result(PATIENCE_S), Refused)
        answers += 1
        pending.append(opened.submit(request))
    for future in pending:
        assert not isinstance(future.result(PATIENCE_S), Refused)
    return answers + len(pending)


def test_a_server_that_came_later_is_asked_by_a_client_that_is_never_idle(kind: Kind, tiny_model: Path) -> None:
    with ExitStack() as stack:
        first, second = (kind.start(stack, CONNECTION_S / LIVES, tiny_model) for _ in range(2))
        forwarder = stack.enter_context(spreading(first.port))
        url = f"{kind.scheme}://127.0.0.1:{forwarder.port}"
        with endpoint(kind, url, connection_s=CONNECTION_S) as opened:
            ask_until(opened, kind.request, lambda: first.asked() >= 2 * AT_ONCE)
            forwarder.ports.append(second.port)
            ask_until(opened, kind.request, lambda: second.asked() >= 2 * AT_ONCE)


def test_a_call_outlives_the_place_of_its_connection(kind: Kind, tiny_model: Path) -> None:
    with ExitStack() as stack:
        pod = kind.start(stack, CONNECTION_S * LIVES, tiny_model)
        forwarder = stack.enter_context(spreading(pod.port))
        url = f"{kind.scheme}://127.0.0.1:{forwarder.port}"
        with endpoint(kind, url, connection_s=CONNECTION_S) as opened:
            early = opened.submit(kind.request)
            while not pod.asked():
                time.sleep(0.01)
            end = time.monotonic() + 2 * CONNECTION_S
            while time.monotonic() < end:
                time.sleep(0.01)
            late = opened.submit(kind.request)  # by other connections: the first are to be closed
            assert not early.done()
            assert not isinstance(early.result(PATIENCE_S), Refused)
            assert not isinstance(late.result(PATIENCE_S), Refused)
            assert forwarder.opened >= 2


def test_calls_share_a_connection_for_as_long_as_it_lives(kind: Kind, tiny_model: Path) -> None:
    with ExitStack() as stack:
        pod = kind.start(stack, 0.0, tiny_model)
        forwarder = stack.enter_context(spreading(pod.port))
        with endpoint(kind, f"{kind.scheme}://127.0.0.1:{forwarder.port}") as opened:
            answers = ask_until(opened, kind.request, lambda: pod.asked() >= 10 * AT_ONCE)
        assert forwarder.opened <= 2 * AT_ONCE < answers


def test_over_grpc_the_pods_of_a_headless_name_take_turns_those_that_came_later_too(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack, names() as name_server:
        first = grpc_pod(stack, 0.01, tmp_path, address=f"127.0.0.2:{port}")
        name_server.addresses = ("127.0.0.2",)
        kind = KINDS["kserve grpc"]
        with endpoint(kind, f"grpc://{name_server.target(port)}", connection_s=1.0) as opened:
            ask_until(opened, LABEL, lambda: first.asked() >= AT_ONCE)
            second = grpc_pod(stack, 0.01, tmp_path, address=f"127.0.0.3:{port}")
            name_server.addresses = ("127.0.0.2", "127.0.0.3")
            ask_until(opened, LABEL, lambda: second.asked() >= AT_ONCE)
            before = first.asked(), second.asked()
            ask_until(opened, LABEL, lambda: first.asked() + second.asked() >= sum(before) + 40)
            turns = [pod.asked() - count for pod, count in zip((first, second), before, strict=True)]
            assert min(turns) >= 10, turns
