"""Text Generation Inference by its own routes and its maintained client (huggingface_hub), from one asyncio thread.

The server is archived (last release 3.3.7, 2026): for what it still runs. A prompt goes as it is, without a chat
template; a server whose model needs one has the OpenAI routes too (kind openai).

An answer that a slow server could write for longer than `deadline_s` is streamed, and the deadline is then the silence
between two tokens (the server's comments in between say nothing of the model). Shorter ones come in one piece: a stream
costs this process an event a token. Not covered: a server that bills an answer which never reached us.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import httpx2
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import (
    GenerationError,
    HfHubHTTPError,
    IncompleteGenerationError,
    OverloadedError,
    TextGenerationError,
    ValidationError,
)

from xinstruct.inference.calls import Calls, Reply, endpoint_name, other_digest
from xinstruct.inference.labels import check_labels, count_votes
from xinstruct.inference.limits import MISFIT_RETRY_S, NO_RECORD_TO_BLAME, Verdict, retry_after_s, verdict_of
from xinstruct.inference.loop_thread import BODY_BYTES_MAX, CONNECT_S, CONNECTION_S, Renewed
from xinstruct.inference.tgi_schema import (
    TOP_TOKENS,
    Served,
    generated_of,
    generation_parameters,
    is_streamed,
    label_parameters,
    label_probabilities,
    refusal_of,
    served_of,
    streamed_of,
    top_tokens_of,
    vote_parameters,
)
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import (
    Answer,
    Classified,
    Classify,
    Embed,
    Features,
    Generate,
    Inference,
    Refused,
    Request,
    request_digest,
)

Result = TypeVar("Result")
_prompt_tokens: contextvars.ContextVar[int] = contextvars.ContextVar("prompt_tokens", default=0)
"""Of the answer that this task got last: the server says it in a header, which the client does not hand on."""


class TgiInference(Inference):
    """One server at `url`. `model`: the model_id that it must serve; empty: any."""

    def __init__(
        self, url: str, *, model: str = "", api_key: str = "", calls_max: int = 64, deadline_s: float = 300.0,
        attempts_max: int = 4, votes_count: int = 0,
        connection_s: float = CONNECTION_S,
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/generate")
        self._model = model
        self._deadline_s = deadline_s
        self._votes_count = votes_count
        self._served: Served | None = None
        self._calls = Calls(self._url, name="tgi-inference", calls_max=calls_max, attempts_max=attempts_max)
        self._calls.run(self._open(api_key, calls_max, connection_s))

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        return self._calls.start(self._answer(request))

    def probe(self) -> Features:
        """See Inference. Unavailable, with what to change, also when the server answers but can not be used."""
        served = self._calls.start(self._known(again=True)).result()
        return Features(
            log_probabilities=True, label_probabilities=served.top_tokens > 0 or self._votes_count > 0,
            embeddings=False, model=served.model,
        )

    def close(self) -> None:
        """See Inference."""
        self._calls.close(self._clients.close)

    async def _open(self, api_key: str, calls_max: int, connection_s: float) -> None:
        def opened() -> _Client:
            return _Client(_connections(self._url, api_key, calls_max), self._deadline_s)

        self._clients = Renewed(opened, lambda client: client.connections.aclose(), life_s=connection_s)
        self._probing = asyncio.Lock()

    async def _answer(self, request: Request) -> Answer:
        if isinstance(request, Embed):
            return Refused("malformed", "this server writes text, it embeds none")
        if isinstance(request, Classify):
            check_labels(request)
        served = await self._known()
        asked = endpoint_name(request)
        if asked and asked != served.model:
            raise Unavailable(WRONG_MODEL.format(url=self._url, served=served.model, asked=asked), MISFIT_RETRY_S)
        if misfit := other_digest(self._url, served.model, request):
            self._served = None  # the server is looked at again: it may get the model
            raise misfit
        if isinstance(request, Generate):
            return await self._generate(request, served)
        return await self._classify(request, served)

    async def _generate(self, request: Generate, served: Served) -> Answer:
        decoding, name = request.decoding, request_digest(request)
        parameters = generation_parameters(decoding, served)

        async def streamed() -> Answer:
            return streamed_of(await self._streamed(request.prompt, parameters), decoding)

        async def whole() -> Answer:
            output = await self._whole(request.prompt, parameters)
            return generated_of(output, decoding, prompt_tokens=_prompt_tokens.get())

        return await self._ask(streamed if is_streamed(decoding, self._deadline_s) else whole, name)

    async def _classify(self, request: Classify, served: Served) -> Answer:
        if served.top_tokens == 0 and self._votes_count == 0:
            raise Unavailable(NO_TOP_TOKENS.format(url=self._url), MISFIT_RETRY_S)
        if served.top_tokens:
            likeliest = await self._top_tokens(request.prompt, served.top_tokens, request_digest(request))
            if isinstance(likeliest, Refused):
                return likeliest
            read = label_probabilities(likeliest, request.labels)
            if isinstance(read, Classified) or self._votes_count == 0:
                return read
        return await self._vote(request)

    async def _vote(self, request: Classify) -> Answer:
        async def text(seed: int) -> str:
            return str((await self._whole(request.prompt, vote_parameters(seed)))["generated_text"])

        name = request_digest(request)
        texts = await asyncio.gather(
            *(self._ask(partial(text, seed), f"{name} {seed}") for seed in range(self._votes_count))
        )
        refusals = [text for text in texts if isinstance(text, Refused)]
        said = [text for text in texts if isinstance(text, str)]
        return refusals[0] if refusals else count_votes(said, request.labels)

    async def _top_tokens(self, prompt: str, count: int, name: str) -> list[tuple[str, float]] | Refused:
        async def likeliest() -> list[tuple[str, float]]:
            return top_tokens_of(await self._whole(prompt, label_parameters(count)))

        return await self._ask(likeliest, name)

    async def _known(self, *, again: bool = False) -> Served:
        """What the server is; asked at the first question, and `again`."""
        async with self._probing:
            if self._served is None or again:
                self._served = await self._find_out()
                self._calls.forget_latency()
        return self._served

    async def _find_out(self) -> Served:
        served = await self._ask(self._info, "probe")
        if isinstance(served, Refused):
            raise Unavailable(f"{self._url} answers, but not as this server does ({served.detail}): check `url`, "
                              "or set `kind` to openai", MISFIT_RETRY_S)
        if self._model not in ("", served.model):
            raise Unavailable(WRONG_MODEL.format(url=self._url, served=served.model, asked=self._model), MISFIT_RETRY_S)
        for count in TOP_TOKENS:
            likeliest = await self._top_tokens("Say yes.", count, "probe")
            if not isinstance(likeliest, Refused) and len(likeliest) > 1:
                return replace(served, top_tokens=count)
        return served

    async def _info(self) -> Served | Refused:
        async with self._clients.lent() as client:
            info = await client.get_endpoint_info(model=self._url)
        try:
            return served_of(info)
        except (LookupError, TypeError, ValueError):
            return Refused("malformed", "its /info names no model_id")

    async def _ask(self, exchange: Callable[[], Awaitable[Result]], name: str) -> Result | Refused:
        """What `exchange` gives, after as many tries as it takes. Unavailable when the server stays away."""
        async def tried() -> Reply[Result | Refused]:
            try:
                return Reply(Verdict.ANSWERED, await exchange())
            except FAILURES as error:
                reply = _failure(error)
                if reply.verdict in NO_RECORD_TO_BLAME:
                    self._served = None  # whoever answers again may be another server: it is looked at first
                return reply

        return (await self._calls.ask(tried, name)).body

    async def _whole(self, prompt: str, parameters: Mapping[str, Any]) -> Any:
        async with self._clients.lent() as client:
            return await client.text_generation(
                prompt, model=f"{self._url}/generate", details=True, stream=False, **parameters
            )

    async def _streamed(self, prompt: str, parameters: Mapping[str, Any]) -> Any:
        # A client of its own: the library keeps a stream's connection until its client is closed.
        async with self._clients.lent() as kept, _Client(kept.connections, self._deadline_s) as client:
            stream = await client.text_generation(
                prompt, model=f"{self._url}/generate_stream", details=True, stream=True, **parameters
            )
            events: list[Any] = []
            rest = aiter(stream)
            while True:
                async with asyncio.timeout(self._deadline_s):
                    event = await anext(rest, None)
                if event is None:
                    return events
                events.append(event)


WRONG_MODEL = (
    "{url} serves {served!r}, not {asked!r}: serve that one there, or change `model`, or register and promote "
    "endpoint:{served}"
)
NO_TOP_TOKENS = (
    "{url} gives no top tokens, which the evaluator is read by: start it with --max-top-n-tokens 20, or set "
    "inference.evaluator.votes_count to 5 or more to accept a vote of sampled answers, marked as such in every record"
)
NO_ANSWER = Refused("malformed", "no answer")
FAILURES = (httpx2.HTTPError, httpx2.StreamError, TextGenerationError, OSError, ValueError, LookupError, TypeError)
"""What a server's bad day can raise in the client; TypeError and the like when it answers with something else."""


class _Client(AsyncInferenceClient):
    """The library's client over connections of ours: its own take proxies and a user's token from the environment,
    follow redirects, and refuse everything when the hub is switched off."""

    def __init__(self, connections: httpx2.AsyncClient, deadline_s: float) -> None:
        # It is passed on to every request as it is: one number would be the time to connect, too.
        timeout: Any = httpx2.Timeout(deadline_s, connect=CONNECT_S, pool=None)
        super().__init__("http://unused", provider="hf-inference", timeout=timeout)
        self.connections = connections

    async def _get_async_client(self) -> httpx2.AsyncClient:
        return self.connections


def _connections(url: str, api_key: str, calls_max: int) -> httpx2.AsyncClient:
    """Connections that lead to `url` only, with our key or none."""
    async def check(request: httpx2.Request) -> None:
        if not str(request.url).startswith(f"{url}/"):
            raise httpx2.UnsupportedProtocol(f"{request.url} is no route of {url}")
        request.headers.pop("authorization", None)  # of whoever is logged in to the hub on this machine
        if api_key:
            request.headers["authorization"] = f"Bearer {api_key}"

    async def read(response: httpx2.Response) -> None:
        if int(response.headers.get("content-length") or 0) > BODY_BYTES_MAX:
            raise httpx2.DecodingError(f"an answer of more than {BODY_BYTES_MAX} bytes")
        if response.status_code >= 300:
            await response.aread()  # of a stream, too: the client reads the reason from it
        _prompt_tokens.set(int(response.headers.get("x-prompt-tokens") or 0))

    return httpx2.AsyncClient(
        trust_env=False, follow_redirects=False, timeout=httpx2.Timeout(CONNECT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=calls_max),
        event_hooks={"request": [check], "response": [read]},
    )


def _failure(error: Exception) -> Reply[Refused]:
    """What an exception of the client means."""
    cause = error.__cause__ if isinstance(error, TextGenerationError) else error
    response = cause.response if isinstance(cause, HfHubHTTPError) else None
    wait_s = retry_after_s(response.headers.get("Retry-After")) if response is not None else None
    if isinstance(error, ValidationError):
        return Reply(Verdict.REFUSED, refusal_of(str(error)))
    if isinstance(error, OverloadedError):
        return Reply(Verdict.OVERLOADED, NO_ANSWER, wait_s)
    if response is None or isinstance(error, GenerationError | IncompleteGenerationError):
        return Reply(Verdict.FAILED, NO_ANSWER, wait_s)
    if response.status_code == 413:
        return Reply(Verdict.REFUSED, Refused("too_long", "the server takes no body of that size"))
    verdict = Verdict.FAILED if response.status_code == 424 else verdict_of(response.status_code)
    return Reply(verdict, refusal_of(f"HTTP {response.status_code} {response.text}"), wait_s)
