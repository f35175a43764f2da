"""A server with the published OpenAI routes and schemas, whose bad days a test chooses. Deterministic in the prompt."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTEXT_WORDS_MAX = 200
LABELS = ("best", "reasonable", "worst")


@dataclass
class Behaviour:
    """What the server offers, and how often it fails first. Changed by tests while it runs."""

    log_probabilities: bool = True
    seed: bool = True
    tokens_field: str = "max_tokens"
    embeddings: bool = True
    key: str = ""
    pinned: str = ""
    """Serves this model alone, lists none, and refuses requests that name another, as `transformers serve` does."""
    served: str = ""
    """Lists this model, and knows no other, as vLLM does. Empty: lists one, and answers for whatever is named."""
    overloads: int = 0
    failures: int = 0
    answer_s: float = 0.0
    """Seconds that writing an answer of more than one token takes, however many are in flight."""
    opening: str = ""
    """What answers of more than a label begin with."""
    in_flight_max: int = 0
    in_flight: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def openai_stub(behaviour: Behaviour) -> Iterator[str]:
    """URL of a running stub."""
    with running(_handler(behaviour)) as url:
        yield url


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """URL of a server on loopback that `handler` answers for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serve(port: int, *, answer_s: float = 0.0) -> None:
    """Answer on every address for ever, with what backgen keeps: the whole work of a pod in tests/cluster."""
    behaviour = Behaviour(answer_s=answer_s, opening="Describe the lake and its fish, and name")
    ThreadingHTTPServer(("0.0.0.0", port), _handler(behaviour)).serve_forever()


def _handler(behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            listed = [] if behaviour.pinned else [{"id": behaviour.served or "stub", "object": "model"}]
            self._send(200, {"object": "list", "data": listed})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with behaviour.lock:
                behaviour.asked.append(asked)
                behaviour.in_flight += 1
                behaviour.in_flight_max = max(behaviour.in_flight_max, behaviour.in_flight)
            status, body = _reply(behaviour, self.path, asked, self.headers.get("Authorization", ""))
            if behaviour.answer_s and asked.get(behaviour.tokens_field, 0) > 1:
                threading.Event().wait(behaviour.answer_s)
            with behaviour.lock:
                behaviour.in_flight -= 1
            self._send(status, body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _send(self, status: int, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler


def _reply(behaviour: Behaviour, path: str, asked: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    if behaviour.key and key != f"Bearer {behaviour.key}":
        return 401, _error("invalid api key")
    if behaviour.pinned and asked.get("model", behaviour.pinned) != behaviour.pinned:
        return 400, {"detail": f"Server is pinned to '{behaviour.pinned}'; requested '{asked['model']}'."}
    if behaviour.served and asked.get("model") != behaviour.served:
        return 404, _error(f"The model `{asked.get('model')}` does not exist.")
    if path == "/v1/embeddings":
        return (200, _embedding(asked["input"])) if behaviour.embeddings else (404, {"detail": "Not Found"})
    if (not behaviour.seed and "seed" in asked) or behaviour.tokens_field not in asked:
        return 400, _error("Unsupported parameter")
    if asked[behaviour.tokens_field] > 1 and behaviour.overloads > 0:
        behaviour.overloads -= 1
        return 429, _error("overloaded")
    if asked[behaviour.tokens_field] > 1 and behaviour.failures > 0:
        behaviour.failures -= 1
        return 500, _error("crashed")
    chat = path == "/v1/chat/completions"
    prompt = asked["messages"][0]["content"] if chat else asked["prompt"]
    if len(prompt.split()) > CONTEXT_WORDS_MAX:
        return 400, _error(f"This model's maximum context length is {CONTEXT_WORDS_MAX} tokens.")
    return 200, _completion(behaviour, asked, prompt, chat=chat)


def _completion(behaviour: Behaviour, asked: dict[str, Any], prompt: str, *, chat: bool) -> dict[str, Any]:
    number = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big")
    tokens_max = asked[behaviour.tokens_field]
    drawn = (number + (asked.get("seed") or 0)) % 3
    words = [LABELS[drawn] if tokens_max <= 8 else f"word{number % (7 + place)}" for place in range(6)]
    words = [*(behaviour.opening.split() if tokens_max > 8 else ()), *words][:tokens_max]
    wanted = bool(asked.get("logprobs")) and behaviour.log_probabilities
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if len(words) == tokens_max else "stop"}
    if chat:
        choice |= {"message": {"role": "assistant", "content": " ".join(words)}, "logprobs": None}
        if wanted:
            choice["logprobs"] = {"content": [_token(word, number, asked.get("top_logprobs") or 0) for word in words]}
    else:
        choice |= {"text": " " + " ".join(words), "logprobs": None}
        if wanted:
            tops = [{f" {label}": score for label, score in _scores(number)} for _ in words]
            choice["logprobs"] = {"tokens": words, "token_logprobs": [-0.5] * len(words), "top_logprobs": tops}
    usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(words), "total_tokens": 0}
    kind = "chat.completion" if chat else "text_completion"
    return {"id": "x", "object": kind, "created": 0, "model": "stub", "choices": [choice], "usage": usage}


def _token(word: str, number: int, top: int) -> dict[str, Any]:
    shown = [{"token": label, "logprob": score, "bytes": None} for label, score in _scores(number)][:top]
    return {"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": shown}


def _scores(number: int) -> list[tuple[str, float]]:
    return [("Best", -0.2 - number % 5), ("re", -1.5 - number % 3), ("worst", -2.0 - number % 7), ("The", -9.0)]


def _embedding(text: str) -> dict[str, Any]:
    raw = hashlib.sha256(text.encode()).digest()
    return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [float(b) for b in raw[:8]]}]}


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
