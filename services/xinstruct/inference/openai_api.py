"""Any server with the OpenAI routes (vLLM, `transformers serve`, a hosted one), asked from one asyncio thread.

What the server offers is probed before the first question and never assumed. Where it gives no log-probabilities,
labels are a vote of `votes_count` sampled answers, marked as such in the answer; with votes_count 0 they are
Unavailable, with a sentence that says what to change: no record is to blame, so a stage waits until it was started with
another configuration. Not covered: a server that bills an answer which never reached us.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any, Literal

from xinstruct.inference.calls import Calls, Reply, endpoint_name, other_digest
from xinstruct.inference.labels import check_labels, count_votes
from xinstruct.inference.limits import MISFIT_RETRY_S, NO_RECORD_TO_BLAME, Verdict, verdict_of
from xinstruct.inference.loop_thread import CONNECTION_S, exchange, open_sessions
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
    text_of,
    vote_body,
)
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import (
    Answer,
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


class OpenAIInference(Inference):
    """One server. `url` with or without /v1; `model`: its name there, empty for the one asked for or listed first."""

    def __init__(
        self, url: str, *, model: str = "", api: Literal["chat", "completions"] = "chat", api_key: str = "",
        calls_max: int = 64, deadline_s: float = 300.0, attempts_max: int = 4, votes_count: int = 0,
        connection_s: float = CONNECTION_S,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._model = model
        self._api: Literal["chat", "completions"] = api
        self._deadline_s = deadline_s
        self._votes_count = votes_count
        self._dialect: Dialect | None = None
        self._calls = Calls(self._url, name="openai-inference", calls_max=calls_max, attempts_max=attempts_max)
        self._calls.run(self._open(api_key, connection_s))

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        return self._calls.start(self._answer(request))

    def probe(self) -> Features:
        """See Inference. Unavailable, with what to change, also when the server answers but can not be used."""
        dialect, embeddings = self._calls.start(self._probe()).result()
        return Features(
            log_probabilities=dialect.log_probabilities,
            label_probabilities=dialect.log_probabilities or self._votes_count > 0,
            embeddings=embeddings,
            model=dialect.model,
        )

    def close(self) -> None:
        """See Inference."""
        self._calls.close(self._sessions.close)

    async def _open(self, api_key: str, connection_s: float) -> None:
        self._sessions = open_sessions(silence_s=self._deadline_s, api_key=api_key, life_s=connection_s)
        self._probing = asyncio.Lock()

    async def _answer(self, request: Request) -> Answer:
        dialect = await self._known_dialect()
        model = self._model or endpoint_name(request) or dialect.model
        if misfit := other_digest(self._url, model, request):
            self._dialect = None  # the server is looked at again: it may get the model
            raise misfit
        name = request_digest(request)
        if isinstance(request, Generate):
            body = generation_body(dialect, model, request.prompt, request.decoding)
            reply = await self._post(path_of(dialect), body, name)
            return reply if isinstance(reply, Refused) else generated_of(dialect, reply)
        if isinstance(request, Embed):
            reply = await self._post("/embeddings", {"model": model, "input": request.text}, name)
            return reply if isinstance(reply, Refused) else Embedded(embedding_of(reply))
        check_labels(request)
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
        texts = [text_of(dialect, reply) for reply in replies if not isinstance(reply, Refused)]
        return count_votes(texts, request.labels)

    async def _known_dialect(self) -> Dialect:
        async with self._probing:
            if self._dialect is None:
                self._dialect = await self._find_dialect()
                self._calls.forget_latency()
        return self._dialect

    async def _probe(self) -> tuple[Dialect, bool]:
        async with self._probing:
            dialect = await self._find_dialect()
            try:
                reply = await self._post("/embeddings", {"model": dialect.model, "input": "probe"}, "probe embeddings")
                embeds = not isinstance(reply, Refused)
            except Unavailable:
                embeds = False  # it has just answered: the route is what it lacks, or breaks on
            self._dialect = dialect
            self._calls.forget_latency()
        return dialect, embeds

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
        reply = await self._exchange("GET", "/models", None)
        if reply.verdict is Verdict.FAILED:
            raise Unavailable(f"{self._url} does not answer", retry_after_s=1.0)
        listed = reply.body.get("data")
        return str(listed[0].get("id", "")) if isinstance(listed, list) and listed else ""

    async def _post(self, path: str, body: dict[str, Any], name: str) -> dict[str, Any] | Refused:
        """The server's answer, after as many tries as it takes. Unavailable when it stays away."""
        if not body["model"]:
            del body["model"]  # a server that lists none has one of its own
        reply = await self._calls.ask(lambda: self._exchange("POST", path, body), name)
        return reply.body if reply.verdict is Verdict.ANSWERED else refusal_of(reply.body)

    async def _exchange(self, method: str, path: str, body: Any) -> Reply[dict[str, Any]]:
        status, answer, wait_s = await exchange(self._sessions, method, self._url + path, body)
        verdict = verdict_of(status)
        if verdict in NO_RECORD_TO_BLAME:
            self._dialect = None  # whoever answers again may be another server: it is looked at first
        return Reply(verdict, answer, wait_s)


NO_LOG_PROBABILITIES = (
    "{url} gives no log-probabilities, which the evaluator is read by: use a server that does (vLLM), or set "
    "inference.evaluator.votes_count to 5 or more to accept a vote of sampled answers, marked as such in every record"
)
