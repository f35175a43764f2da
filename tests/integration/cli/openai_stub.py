"""A server with the chat route of the OpenAI API, for tests: an instruction, or labels with log-probabilities."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_WORDS = ("ancient", "blue", "calm", "distant", "early", "famous", "green", "high")
MODEL = "stub"
"""The only model that it serves; a request for another is refused, as real servers do."""
_LABELS = [("best", -0.105), ("reasonable", -2.6), ("worst", -4.0)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """GET /v1/models."""
        self._send({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        """POST /v1/chat/completions."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["model"] != MODEL:
            self._send({"error": {"message": f"The model {asked['model']!r} does not exist."}}, status=404)
            return
        text = "best" if asked.get("max_tokens", 0) == 1 else instruction(asked["messages"][-1]["content"])
        choice: dict[str, Any] = {
            "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text},
        }  # fmt: skip
        if asked.get("logprobs"):
            top = [{"token": token, "logprob": value, "bytes": None} for token, value in _LABELS]
            shown = top if asked.get("top_logprobs") else []
            choice["logprobs"] = {"content": [{"token": text, "logprob": -0.105, "bytes": None, "top_logprobs": shown}]}
        self._send({
            "id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
        })  # fmt: skip

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def _send(self, body: dict[str, Any], status: int = 200) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def instruction(prompt: str) -> str:
    """An English instruction that follows from the prompt and that nearly no other prompt gets."""
    words = " ".join(_WORDS[byte % 8] for byte in hashlib.sha256(prompt.encode()).digest()[:5])
    return f"Describe the {words} place that people of this region visit and explain why they go there."


@contextmanager
def openai_stub() -> Iterator[str]:
    """The URL of a running stub."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
