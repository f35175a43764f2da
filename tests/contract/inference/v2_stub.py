"""A server of the predictor's tensors over REST whose bad days a test chooses: what a healthy predictor never shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from contract.inference.openai_stub import running


@dataclass
class BadDays:
    """How often the server fails first, and in which way. Changed by tests while it runs."""

    model: str = "sha256:here"
    overloads: int = 0
    failures: int = 0
    garbage: int = 0
    key: str = ""
    refusal: str = ""
    """What it says to each row; empty: it answers."""
    rows: list[int] = field(default_factory=list)
    """Rows of each call that was answered."""
    held: threading.Event = field(default_factory=threading.Event)
    """Answers wait for it."""
    answer_s: float = 0.0
    """Seconds that each answer takes."""


@contextmanager
def v2_stub(days: BadDays) -> Iterator[str]:
    """URL of a running stub."""
    with running(_handler(days)) as url:
        yield url


def _handler(days: BadDays) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            inputs = [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in ("prompts", "labels")]
            self._send(200, json.dumps({"name": days.model, "platform": "", "inputs": inputs, "outputs": []}))

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, text = _reply(days, self.path, asked, self.headers.get("Authorization", ""))
            self._send(status, text)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

    return Handler


def _reply(days: BadDays, path: str, asked: dict[str, Any], key: str) -> tuple[int, str]:
    if days.key and key != f"Bearer {days.key}":
        return 401, '{"error": "invalid key"}'
    if path != f"/v2/models/{days.model}/infer":
        return 404, '{"error": "Model does not exist."}'
    for fault, status, text in (("overloads", 429, "{}"), ("failures", 500, "{}"), ("garbage", 200, "<html>")):
        if getattr(days, fault) > 0:
            setattr(days, fault, getattr(days, fault) - 1)
            return status, text
    prompts, labels = asked["inputs"]
    rows, width = prompts["shape"][0], labels["shape"][0]
    days.rows.append(rows)
    days.held.wait(30)
    threading.Event().wait(days.answer_s)
    outputs = [
        {"name": "probabilities", "datatype": "FP64", "shape": [rows, width], "data": [1 / width] * rows * width},
        {"name": "refusals", "datatype": "BYTES", "shape": [rows], "data": [days.refusal] * rows},
    ]
    return 200, json.dumps({"model_name": days.model, "id": "", "outputs": outputs})
