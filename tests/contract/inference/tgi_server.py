"""A server with Text Generation Inference's published routes, answers and errors (3.3.7) over a model of transformers.

It really generates: for the contract suite, and for the test cluster behind our ServingRuntime, whose arguments it
takes. One file that imports nothing of ours, so that an image with torch runs it from a mounted file:

    python tgi_server.py --model-id /mnt/models --port 8080

Not here: the OpenAI routes, several answers to one prompt, penalties, grammars, adapters. Requests take turns, token by
token, on one thread; so an answer does not depend on its company.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

VERSION = "3.3.7"
BODY_BYTES_MAX = 2_000_000
KEEP_ALIVE_S = 15.0
STATUS = {"validation": 422, "generation": 424, "overloaded": 429, "incomplete_generation": 500}


class TgiError(Exception):
    """What the server says no with: a type of the published schema, and a sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind

    def body(self) -> dict[str, str]:
        """The published shape."""
        return {"error": str(self), "error_type": self.kind}


@dataclass
class Limits:
    """The launcher's limits, under its names and with its defaults."""

    max_concurrent_requests: int = 128
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    max_input_tokens: int = 0
    max_total_tokens: int = 0


@dataclass
class Valid:
    """A request that was let in."""

    prompt_ids: list[int]
    prompt_chars: int
    parameters: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.parameters.get(name)


@dataclass
class Written:
    """An answer while it grows."""

    ids: list[int] = field(default_factory=list)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    top_tokens: list[list[dict[str, Any]]] = field(default_factory=list)
    finish_reason: str = ""


class Runner:
    """The model, one step at a time on one thread."""

    def __init__(self, model_id: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self._thread = ThreadPoolExecutor(1)
        self.tokenizer = AutoTokenizer.from_pretrained(model_id, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            model_id, local_files_only=True, use_safetensors=True, dtype=torch.float32
        ).eval()
        self.positions_max = int(self._model.config.max_position_embeddings)
        ends = self._model.generation_config.eos_token_id
        self._ends = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}

    async def write(self, request: Valid, written: Written, token_wait_s: float) -> AsyncIterator[int]:
        """Grow `written`, yielding after each token, which takes `token_wait_s` longer than the model."""
        generator = self._torch.Generator().manual_seed((request.seed or 0) % 2**63)
        state: dict[str, Any] = {"ids": request.prompt_ids, "cache": None}
        loop = asyncio.get_running_loop()
        while not written.finish_reason:
            await loop.run_in_executor(self._thread, self._step, request, written, state, generator)
            await asyncio.sleep(token_wait_s)
            yield len(written.ids)

    def text(self, ids: list[int]) -> str:
        """What the tokens say, without special ones."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()

    def _step(self, request: Valid, written: Written, state: dict[str, Any], generator: Any) -> None:
        torch = self._torch
        with torch.inference_mode():
            step = self._model(
                input_ids=torch.tensor([state["ids"]]), past_key_values=state["cache"], use_cache=True, logits_to_keep=1
            )
            scores = torch.log_softmax(step.logits[0, -1].float() / (request.temperature or 1.0), dim=-1)
            chosen = self._sample(scores, request.top_p, generator) if request.do_sample else int(scores.argmax())
        state |= {"ids": [chosen], "cache": step.past_key_values}
        written.ids.append(chosen)
        written.tokens.append(self._token(chosen, float(scores[chosen])))
        if request.top_n_tokens:
            best, places = scores.topk(request.top_n_tokens)
            pairs = zip(places.tolist(), best.tolist(), strict=True)
            written.top_tokens.append([self._token(place, score) for place, score in pairs])
        written.finish_reason = self._finish(request, written)

    def _sample(self, scores: Any, top_p: float | None, generator: Any) -> int:
        ordered, order = scores.exp().sort(descending=True, stable=True)
        kept = ordered.cumsum(0) - ordered < (top_p or 1.0)
        return int(order[self._torch.multinomial(ordered * kept, 1, generator=generator)])

    def _finish(self, request: Valid, written: Written) -> str:
        # In the order of the server: an end in the last place that was asked for counts as its length.
        if len(written.ids) >= request.max_new_tokens:
            return "length"
        if written.ids[-1] in self._ends:
            return "eos_token"
        stopped = any(self.text(written.ids).endswith(stop) for stop in request.stop or ())
        return "stop_sequence" if stopped else ""

    def _token(self, token: int, score: float) -> dict[str, Any]:
        special = token in self.tokenizer.all_special_ids
        return {"id": token, "text": self.tokenizer.decode([token]), "logprob": score, "special": special}


class TgiServer:
    """Routes over a Runner. `token_wait_s`: seconds that each token takes longer, for tests of deadlines."""

    def __init__(self, model_id: str, limits: Limits | None = None) -> None:
        self._model_id = model_id
        self.limits = limits or Limits()
        self.token_wait_s = 0.0
        self.keep_alive_s = KEEP_ALIVE_S
        self._active = 0
        self._counts = dict.fromkeys(("tgi_request_count", "tgi_request_success", "tgi_request_failure"), 0)
        self._runner = Runner(model_id)
        self.limits.max_total_tokens = self.limits.max_total_tokens or self._runner.positions_max
        self.limits.max_input_tokens = self.limits.max_input_tokens or self.limits.max_total_tokens - 1

    def app(self, *middlewares: Any) -> web.Application:
        """The application; a test's `middlewares` are its bad days."""
        made = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=middlewares)
        made.add_routes([
            web.get("/health", self._health), web.get("/info", self._info), web.get("/metrics", self._metrics),
            web.post("/generate", self._generate), web.post("/generate_stream", self._generate_stream),
        ])
        made.on_cleanup.append(self._cleanup)
        return made

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _info(self, _: web.Request) -> web.Response:
        limits = self.limits
        return web.json_response({
            "model_id": self._model_id, "model_sha": None, "model_pipeline_tag": None,
            "max_concurrent_requests": limits.max_concurrent_requests, "max_best_of": 1,
            "max_stop_sequences": limits.max_stop_sequences, "max_input_tokens": limits.max_input_tokens,
            "max_total_tokens": limits.max_total_tokens, "validation_workers": 1, "max_client_batch_size": 4,
            "router": "text-generation-router", "version": VERSION, "sha": None, "docker_label": None,
        })

    async def _metrics(self, _: web.Request) -> web.Response:
        lines = [f"{name} {count}" for name, count in self._counts.items()]
        # Requests take turns: one is worked on, the others wait.
        lines += [f"tgi_queue_size {max(0, self._active - 1)}", f"tgi_batch_current_size {min(1, self._active)}"]
        return web.Response(text="\n".join(lines) + "\n")

    async def _generate(self, asked: web.Request) -> web.Response:
        body, written = await _body(asked), Written()
        try:
            request = self._let_in(body)
            async for _ in self._write(request, written):
                pass
        except TgiError as error:
            return web.json_response(error.body(), status=STATUS[error.kind])
        answer: dict[str, Any] = {"generated_text": self._text(request, written)}
        if request.details:
            answer["details"] = self._details(request, written) | {"prefill": [], "tokens": written.tokens}
            if written.top_tokens:
                answer["details"]["top_tokens"] = written.top_tokens
        headers = {
            "x-compute-type": "cpu", "x-compute-characters": str(request.prompt_chars),
            "x-prompt-tokens": str(len(request.prompt_ids)), "x-generated-tokens": str(len(written.ids)),
        }
        return web.json_response(answer, headers=headers)

    async def _generate_stream(self, asked: web.Request) -> web.StreamResponse:
        """Events without a blank after `data:` and without an end mark; errors are events of an answer 200."""
        body, written = await _body(asked), Written()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        await response.prepare(asked)
        comments = asyncio.create_task(self._comment(response))
        try:
            request = self._let_in(body)
            async for count in self._write(request, written):
                await response.write(_event(self._stream_event(request, written, count)))
        except TgiError as error:
            await response.write(_event(error.body()))
        finally:
            comments.cancel()
        return response

    async def _comment(self, response: web.StreamResponse) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(self.keep_alive_s)
                await response.write(b":\n\n")

    def _let_in(self, body: dict[str, Any]) -> Valid:
        self._counts["tgi_request_count"] += 1
        try:
            if self._active >= self.limits.max_concurrent_requests:
                raise TgiError("overloaded", "Model is overloaded")
            return self._valid(body)
        except TgiError:
            self._counts["tgi_request_failure"] += 1
            raise

    def _valid(self, body: dict[str, Any]) -> Valid:
        given = {"details": True} | {k: v for k, v in (body.get("parameters") or {}).items() if v is not None}
        limits, prompt = self.limits, body["inputs"]
        _require(given.get("temperature", 1.0) > 0, "`temperature` must be strictly positive")
        _require(0 < given.get("top_p", 0.5) < 1, "`top_p` must be > 0.0 and < 1.0")
        given.setdefault("max_new_tokens", 100)
        _require(given["max_new_tokens"] > 0, "`max_new_tokens` must be strictly positive")
        stops, top = len(given.get("stop", ())), given.get("top_n_tokens", 0)
        stops_max, top_max = limits.max_stop_sequences, limits.max_top_n_tokens
        _require(stops <= stops_max, f"`stop` supports up to {stops_max} stop sequences. Given: {stops}")
        _require(top <= top_max, f"`top_n_tokens` must be >= 0 and <= {top_max}. Given: {top}")
        _require(bool(prompt), "`inputs` cannot be empty")
        ids = list(self._runner.tokenizer(prompt)["input_ids"])
        _require(
            len(ids) + given["max_new_tokens"] <= limits.max_total_tokens,
            f"`inputs` tokens + `max_new_tokens` must be <= {limits.max_total_tokens}. "
            f"Given: {len(ids)} `inputs` tokens and {given['max_new_tokens']} `max_new_tokens`",
        )
        _require(
            len(ids) <= limits.max_input_tokens,
            f"`inputs` must have less than {limits.max_input_tokens} tokens. Given: {len(ids)}",
        )
        return Valid(ids, len(prompt), given)

    async def _write(self, request: Valid, written: Written) -> AsyncIterator[int]:
        self._active += 1
        try:
            async for count in self._runner.write(request, written, self.token_wait_s):
                yield count
            self._counts["tgi_request_success"] += 1
        finally:
            self._active -= 1

    def _stream_event(self, request: Valid, written: Written, count: int) -> dict[str, Any]:
        event: dict[str, Any] = {"index": count, "token": written.tokens[-1], "generated_text": None, "details": None}
        if request.top_n_tokens:
            event["top_tokens"] = written.top_tokens[-1]
        if written.finish_reason:
            event["generated_text"] = self._text(request, written)
            if request.details:
                event["details"] = self._details(request, written) | {"input_length": len(request.prompt_ids)}
        return event

    def _details(self, request: Valid, written: Written) -> dict[str, Any]:
        seed = request.seed if request.do_sample else None
        return {"finish_reason": written.finish_reason, "generated_tokens": len(written.ids), "seed": seed}

    def _text(self, request: Valid, written: Written) -> str:
        before = self._runner.text(request.prompt_ids) if request.return_full_text else ""
        return before + self._runner.text(written.ids)

    async def _cleanup(self, _: web.Application) -> None:
        self._runner.close()


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-id", "--model-dir", required=True, help="folder of the model")
    parser.add_argument("--hostname", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on")
    for name, default in vars(Limits()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    arguments, _ = parser.parse_known_args()  # the launcher has more, for GPUs
    limits = Limits(**{name: getattr(arguments, name) for name in vars(Limits())})
    # A client that goes away ends its answer, as it does there.
    web.run_app(
        TgiServer(arguments.model_id, limits).app(), host=arguments.hostname, port=arguments.port,
        handler_cancellation=True,
    )


def _require(good: bool, message: str) -> None:
    if not good:
        raise TgiError("validation", f"Input validation error: {message}")


async def _body(asked: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await asked.text())
        if isinstance(body["inputs"], str):
            return dict(body)
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error)
    else:
        reason = "inputs: invalid type, expected a string"
    # The router's own words, without a type.
    text = f"Failed to deserialize the JSON body into the target type: {reason}"
    raise web.HTTPUnprocessableEntity(text=text)


def _event(body: dict[str, Any]) -> bytes:
    return f"data:{json.dumps(body, ensure_ascii=False)}\n\n".encode()


if __name__ == "__main__":
    main()
