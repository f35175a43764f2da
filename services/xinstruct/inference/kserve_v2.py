"""Our predictor (xinstruct.predictor), or another server of its tensors, over Open Inference Protocol v2.

A model is asked for by its digest. A server that holds another one is Unavailable, with both digests in the sentence: a
stage waits until the server has been given the model, and no record is to blame. What waits is sent together, up to
ROWS_A_CALL rows in one call: a batch there costs the same however few rows it has. The URL's scheme chooses REST (http,
https) or gRPC (grpc).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from xinstruct.inference.calls import ENDPOINT_PREFIX
from xinstruct.inference.limits import InFlightLimit, Tries, Verdict, verdict_of
from xinstruct.inference.loop_thread import CONNECTION_S, LoopThread, exchange, open_sessions, settle
from xinstruct.inference.v2_tensors import INPUTS, Tensor, answers_of, question, refusal_of
from xinstruct.spine.errors import Unavailable, XinstructError
from xinstruct.spine.inference import (
    Answer,
    Classify,
    Embed,
    Features,
    Generate,
    Inference,
    Refused,
    Request,
    request_digest,
)

ROWS_A_CALL = 32
LINGER_S = 0.002
"""How long the first row that may be sent waits for those that are submitted with it."""
CALL_BYTES_MAX = 4 * 1024 * 1024
"""Text in one call: half of what KServe's gRPC server takes."""
PROBE_S = 5.0
"""Seconds to say what is served, which takes no model: loops that promote ask for it in turn."""
MISFIT_RETRY_S = 5.0
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Reply:
    """What one call brought. `status` as of HTTP, 0 for no answer; `model`: the digest of the one that answered."""

    status: int
    model: str = ""
    tensors: Sequence[Tensor] = ()
    error: str = ""
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of the model behind a name; `status` as in Reply."""

    status: int
    model: str = ""
    inputs: frozenset[str] = frozenset()


class Transport(Protocol):
    """How the protocol is spoken. Used on the loop's thread; raises nothing of its own."""

    async def infer(self, model: str, tensors: Sequence[Tensor]) -> Reply:
        """One call."""

    async def served(self, name: str) -> Served:
        """The metadata of the model behind `name`."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class _Row:
    request: Classify | Embed
    text_bytes: int
    future: Future[Answer]


class KServeInference(Inference):
    """One server. `url`: http://host:port, https://host:port or grpc://host:port (which has no TLS)."""

    def __init__(
        self, url: str, *, api_key: str = "", calls_max: int = 64, deadline_s: float = 300.0, attempts_max: int = 4,
        connection_s: float = CONNECTION_S,
    ) -> None:
        self._url = url.rstrip("/")
        self._limit = InFlightLimit(calls_max)
        self._attempts_max = attempts_max
        self._rows: deque[_Row] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._due = self._closing = False
        self._work = LoopThread("kserve-inference")
        self._transport: Transport = self._work.run(_open(self._url, api_key, deadline_s, connection_s))

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference. A Generate is refused: these servers label and embed."""
        if isinstance(request, Generate):
            return self._work.start(_refuse(Refused("malformed", "a predictor labels and embeds, it writes nothing")))
        # What is wrong with one row must not spoil the call that it shares with others.
        try:
            text_bytes = len(_text(request).encode())
        except UnicodeEncodeError:
            return self._work.start(_refuse(Refused("malformed", "half a surrogate pair is no text")))
        if text_bytes > CALL_BYTES_MAX:
            return self._work.start(_refuse(Refused("too_long", f"{text_bytes} bytes, {CALL_BYTES_MAX} fit")))
        future: Future[Answer] = Future()
        self._work.soon(future, lambda: self._enqueue(_Row(request, text_bytes, future)))
        return future

    def probe(self) -> Features:
        """See Inference. Unavailable, with what to change, also when the server answers but serves no role of ours."""
        served: Served = self._work.start(self._told()).result()
        return Features(
            log_probabilities=False,
            label_probabilities=served.inputs == _names("evaluator"),
            embeddings=served.inputs == _names("encoder"),
            model=served.model,
        )

    def close(self) -> None:
        """See Inference."""
        self._closing = True
        self._work.close(self._release)

    async def _release(self) -> None:
        for row in self._rows:
            settle(row.future, None, Unavailable("the endpoint was closed before it answered"))
        await self._transport.close()

    def _enqueue(self, row: _Row) -> None:
        self._rows.append(row)
        if not self._due:
            self._due = True
            self._work.loop.call_later(LINGER_S, self._send)

    def _send(self) -> None:
        """As many calls as may be in flight. One that waits to be tried again counts: its server has enough to do."""
        self._due = False
        while not self._closing and self._rows and len(self._calls) < self._limit.allowed():
            call = self._work.loop.create_task(self._call(self._take()))
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._send()

    def _take(self) -> list[_Row]:
        """The row that waits longest and those of its kind, as many as fit into a call."""
        kind, text_bytes = _kind(self._rows[0].request), 0
        taken: list[_Row] = []
        left: deque[_Row] = deque()
        while self._rows and len(taken) < ROWS_A_CALL:
            row = self._rows.popleft()
            if _kind(row.request) == kind and text_bytes + row.text_bytes <= CALL_BYTES_MAX:
                text_bytes += row.text_bytes
                taken.append(row)
            else:
                left.append(row)
        left.extend(self._rows)
        self._rows = left
        return taken

    async def _call(self, rows: Sequence[_Row]) -> None:
        try:
            answers = await self._answers([row.request for row in rows])
        except XinstructError as error:
            for row in rows:
                settle(row.future, None, error)
        except asyncio.CancelledError:
            for row in rows:
                settle(row.future, None, Unavailable("the endpoint was closed before it answered"))
            raise
        except BaseException as error:  # a bug: whoever waits for the answers has to see it
            for row in rows:
                settle(row.future, None, error)
            raise
        else:
            for row, answer in zip(rows, answers, strict=True):
                settle(row.future, answer, None)

    async def _answers(self, requests: Sequence[Classify | Embed]) -> Sequence[Answer]:
        """The server's answers, after as many tries as it takes. Unavailable when it stays away."""
        model = requests[0].model.removeprefix(ENDPOINT_PREFIX)
        tensors = question(requests)
        tries = Tries(self._url, request_digest(requests[0]), self._attempts_max)
        while True:
            begin_s = self._work.loop.time()
            reply = await self._transport.infer(model, tensors)
            verdict = verdict_of(reply.status)
            self._limit.learn(verdict, self._work.loop.time() - begin_s)
            if reply.status == NOT_FOUND or (verdict is Verdict.ANSWERED and reply.model != model):
                raise await self._misfit(requests[0].role, model)
            if verdict is Verdict.ANSWERED:
                return answers_of(requests, reply.tensors)
            if verdict is Verdict.REFUSED:
                return [refusal_of(reply.error)] * len(requests)
            await asyncio.sleep(tries.pause_s(verdict, reply.wait_s))

    async def _misfit(self, role: str, model: str) -> Unavailable:
        served = (await self._transport.served(role)).model or f"no {role}"
        return Unavailable(
            f"{self._url} serves {served}, {model} was asked for: give the server that model (its --model-dir and "
            f"--model-digest), or promote the one that it has", retry_after_s=MISFIT_RETRY_S)

    async def _told(self) -> Served:
        try:
            async with asyncio.timeout(PROBE_S):
                return await self._probe()
        except TimeoutError as error:
            raise Unavailable(f"{self._url} does not say within {PROBE_S:.0f} s what it serves") from error

    async def _probe(self) -> Served:
        for role in INPUTS:
            served = await self._transport.served(role)
            if verdict_of(served.status) is Verdict.ANSWERED:
                return served
            if served.status != NOT_FOUND:
                break
        if served.status == NOT_FOUND:
            raise Unavailable(
                f"{self._url} answers, but serves no {' and no '.join(INPUTS)}: check `url`", MISFIT_RETRY_S)
        # The key is wrong, or nobody answers: the sentence of a call that ends there.
        Tries(self._url, "probe", attempts_max=1).pause_s(verdict_of(served.status), None)
        raise Unavailable(f"{self._url} does not say what it serves (status {served.status})", MISFIT_RETRY_S)


class RestTransport:
    """The protocol as JSON over HTTP."""

    def __init__(self, url: str, *, api_key: str, silence_s: float, connection_s: float) -> None:
        self._url = url.removesuffix("/v2") + "/v2/models/"
        self._sessions = open_sessions(silence_s=silence_s, api_key=api_key, life_s=connection_s)

    async def infer(self, model: str, tensors: Sequence[Tensor]) -> Reply:
        """See Transport."""
        inputs = [{"name": t.name, "datatype": t.datatype, "shape": t.shape, "data": t.data} for t in tensors]
        status, body, wait_s = await exchange(self._sessions, "POST", self._path(model) + "/infer", {"inputs": inputs})
        if verdict_of(status) is not Verdict.ANSWERED:
            return Reply(status, error=str(body.get("error") or body.get("detail") or ""), wait_s=wait_s)
        try:
            return Reply(status, str(body["model_name"]), [_tensor(output) for output in body["outputs"]])
        except (KeyError, TypeError):
            return Reply(0)

    async def served(self, name: str) -> Served:
        """See Transport."""
        status, body, _ = await exchange(self._sessions, "GET", self._path(name), None)
        try:
            return Served(status, str(body.get("name", "")), frozenset(item["name"] for item in body.get("inputs", ())))
        except (KeyError, TypeError):
            return Served(0)

    async def close(self) -> None:
        """See Transport."""
        await self._sessions.close()

    def _path(self, name: str) -> str:
        return self._url + quote(name, safe=":")


async def _open(url: str, api_key: str, deadline_s: float, connection_s: float) -> Transport:
    if not url.startswith("grpc://"):
        return RestTransport(url, api_key=api_key, silence_s=deadline_s, connection_s=connection_s)
    from xinstruct.inference.kserve_grpc import GrpcTransport

    target = url.removeprefix("grpc://")
    return GrpcTransport(target, api_key=api_key, deadline_s=deadline_s, connection_s=connection_s)


async def _refuse(refused: Refused) -> Answer:
    return refused


def _text(request: Classify | Embed) -> str:
    return request.prompt if isinstance(request, Classify) else request.text


def _kind(request: Classify | Embed) -> tuple[object, ...]:
    """Requests of equal kind may share a call."""
    return (request.role, request.model, request.labels if isinstance(request, Classify) else ())


def _names(role: str) -> frozenset[str]:
    return frozenset(spec.name for spec in INPUTS[role])


def _tensor(output: dict[str, Any]) -> Tensor:
    return Tensor(output["name"], output["datatype"], tuple(output["shape"]), output["data"])
