"""Any server with the OpenAI routes (vLLM, `transformers serve`, a hosted one), asked from one asyncio thread.

What the server offers is probed before the first question and never assumed. Where it gives no log-probabilities,
labels are a vote of `votes_count` sampled answers, marked as such in the answer; with votes_count 0 they are
Unavailable, with a sentence that says what to change: no record is to blame, so a stage waits until it was started with
another configuration. Not covered: a server that bills an answer which never reached us.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Literal

from xinstruct.inference.limits import InFlightLimit, Tries, Verdict, verdict_of
from xinstruct.inference.loop_thread import LoopThread, exchange, open_session
from xinstruct.inference.openai_schema import (
    Dialect,
    dialects,
    embedding_of,
    generated_of,
    generation_body,
    has_log_probabilities,
    label_body,
    label_probabilities,
    path_of,
    refusal_of,
    vote_body,
    vote_of,
)
from xinstruct.spine.errors import Invalid, Unavailable
from xinstruct.spine.inference import (
    Answer,
    Classified,
    Classify,
    Embed,
    Embedded,
    Features,
    Generate,
    Inference,
    Refused,
    Request,
    request_digest,
)

ENDPOINT_PREFIX = "endpoint:"
"""A model that only its server holds is registered as "endpoint:<name on the server>"."""
MISFIT_RETRY_S = 30.0


class OpenAIInference(Inference):
    """One server. `url` with or without /v1; `model`: its name there, empty for the one asked for or listed first."""

    def __init__(
        self, url: str, *, model: str = "", api: Literal["chat", "completions"] = "chat", api_key: str = "",
        calls_max: int = 64, deadline_s: float = 300.0, attempts_max: int = 4, votes_count: int = 0,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._model = model
        self._api: Literal["chat", "completions"] = api
        self._api_key = api_key
        self._limit = InFlightLimit(calls_max)
        self._deadline_s = deadline_s
        self._attempts_max = attempts_max
        self._votes_count = votes_count
        self._in_flight = 0
        self._dialect: Dialect | None = None
        self._work = LoopThread("openai-inference")
        self._work.run(self._open())

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        return self._work.start(self._answer(request))

    def probe(self) -> Features:
        """See Inference. Unavailable, with what to change, also when the server answers but can not be used."""
        dialect, embeddings = self._work.start(self._probe()).result()
        return Features(
            log_probabilities=dialect.log_probabilities,
            label_probabilities=dialect.log_probabilities or self._votes_count > 0,
            embeddings=embeddings,
            model=dialect.model,
        )

    def close(self) -> None:
        """See Inference."""
        self._work.close(lambda: self._session.close())

    async def _open(self) -> None:
        self._session = open_session(silence_s=self._deadline_s, api_key=self._api_key)
        self._room = asyncio.Condition()
        self._probing = asyncio.Lock()

    async def _answer(self, request: Request) -> Answer:
        dialect = await self._known_dialect()
        model = self._model_of(request, dialect)
        name = request_digest(request)
        if isinstance(request, Generate):
            body = generation_body(dialect, model, request.prompt, request.decoding)
            reply = await self._post(path_of(dialect), body, name)
            return reply if isinstance(reply, Refused) else generated_of(dialect, reply)
        if isinstance(request, Embed):
            reply = await self._post("/embeddings", {"model": model, "input": request.text}, name)
            return reply if isinstance(reply, Refused) else Embedded(embedding_of(reply))
        _check_labels(request)
        if dialect.log_probabilities:
            reply = await self._post(path_of(dialect), label_body(dialect, model, request.prompt), name)
            return reply if isinstance(reply, Refused) else label_probabilities(dialect, reply, request.labels)
        return await self._vote(dialect, model, request)

    async def _vote(self, dialect: Dialect, model: str, request: Classify) -> Answer:
        """Shares of the sampled answers; a sample that names no label counts for none."""
        if self._votes_count == 0:
            raise Unavailable(NO_LOG_PROBABILITIES.format(url=self._url), retry_after_s=MISFIT_RETRY_S)
        name = request_digest(request)
        bodies = [vote_body(dialect, model, request.prompt, seed) for seed in range(self._votes_count)]
        replies = await asyncio.gather(
            *(self._post(path_of(dialect), body, f"{name} {seed}") for seed, body in enumerate(bodies))
        )
        refusals = [reply for reply in replies if isinstance(reply, Refused)]
        if refusals:
            return refusals[0]
        votes = [vote_of(dialect, reply, request.labels) for reply in replies if not isinstance(reply, Refused)]
        counts = [votes.count(index) for index in range(len(request.labels))]
        if sum(counts) == 0:
            return Refused("no_label", f"none of {self._votes_count} sampled answers names a label")
        return Classified(tuple(count / sum(counts) for count in counts), votes_count=self._votes_count)

    def _model_of(self, request: Request, dialect: Dialect) -> str:
        asked = request.model.removeprefix(ENDPOINT_PREFIX) if request.model.startswith(ENDPOINT_PREFIX) else ""
        return self._model or asked or dialect.model

    async def _known_dialect(self) -> Dialect:
        async with self._probing:
            if self._dialect is None:
                self._dialect = await self._find_dialect()
        return self._dialect

    async def _probe(self) -> tuple[Dialect, bool]:
        async with self._probing:
            self._dialect = dialect = await self._find_dialect()
        try:
            reply = await self._post("/embeddings", {"model": dialect.model, "input": "probe"}, "probe embeddings")
        except Unavailable:
            return dialect, False  # it has just answered: some servers break on a route that they lack
        return dialect, not isinstance(reply, Refused)

    async def _find_dialect(self) -> Dialect:
        """The richest dialect that the server accepts; Unavailable when it accepts none."""
        model = self._model or await self._first_model()
        refusal = Refused("malformed", "no dialect tried")
        for dialect in dialects(self._api, model):
            reply = await self._post(path_of(dialect), label_body(dialect, model, "Say yes."), "probe")
            if isinstance(reply, Refused):
                refusal = reply
            elif dialect.log_probabilities and not has_log_probabilities(dialect, reply):
                continue
            else:
                return dialect
        raise Unavailable(
            f"{self._url} answers, but refuses a one-token request to model {model!r} on its {self._api} route "
            f"({refusal.detail}): check `model`, or set `api` to the other one of chat and completions", MISFIT_RETRY_S)

    async def _first_model(self) -> str:
        """The first model that the server lists; "" when it lists none (some servers do not)."""
        verdict, reply, _ = await self._call("GET", "/models", None)
        if verdict is Verdict.FAILED:
            raise Unavailable(f"{self._url} does not answer", retry_after_s=1.0)
        listed = reply.get("data") if isinstance(reply, dict) else None
        return str(listed[0].get("id", "")) if isinstance(listed, list) and listed else ""

    async def _post(self, path: str, body: dict[str, Any], name: str) -> dict[str, Any] | Refused:
        """The server's answer, after as many tries as it takes. Unavailable when it stays away."""
        tries = Tries(self._url, name, self._attempts_max)
        if not body["model"]:
            del body["model"]  # a server that lists none has one of its own
        while True:
            async with self._slot():
                started_s = self._work.loop.time()
                verdict, reply, wait = await self._call("POST", path, body)
                self._limit.learn(verdict, self._work.loop.time() - started_s)
            if verdict is Verdict.ANSWERED:
                return reply
            if verdict is Verdict.REFUSED:
                return refusal_of(reply)
            await asyncio.sleep(tries.pause_s(verdict, wait))

    async def _call(self, method: str, path: str, body: Any) -> tuple[Verdict, dict[str, Any], float | None]:
        """One HTTP exchange: verdict, JSON body ({} when there is none), seconds of Retry-After."""
        status, reply, wait = await exchange(self._session, method, self._url + path, body)
        return verdict_of(status), reply, wait

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """A place among the calls in flight; how many there are is learned."""
        async with self._room:
            await self._room.wait_for(lambda: self._in_flight < self._limit.allowed())
            self._in_flight += 1
        try:
            yield
        finally:
            async with self._room:
                self._in_flight -= 1
                self._room.notify_all()


NO_LOG_PROBABILITIES = (
    "{url} gives no log-probabilities, which the evaluator is read by: use a server that does (vLLM), or set "
    "inference.evaluator.votes_count to 5 or more to accept a vote of sampled answers, marked as such in every record"
)


def _check_labels(request: Classify) -> None:
    firsts = {label.strip().casefold()[:1] for label in request.labels}
    if len(firsts) < len(request.labels):
        raise Invalid(f"labels {request.labels} share a first token; choose labels that start differently")
