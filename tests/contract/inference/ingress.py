"""What stands before a server: its answers, or the ones that an ingress gives of its own, whatever is asked."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from contract.inference.openai_stub import running

CARRIED = ("Content-Type", "x-prompt-tokens")


@dataclass
class Ingress:
    """`status`: what everything is answered with; 0 while the server behind it answers. Changed by tests."""

    status: int = 0


@contextmanager
def before(server: str, ingress: Ingress) -> Iterator[str]:
    """URL of an ingress on loopback before the server at the URL `server`."""
    with running(_handler(server.removeprefix("http://"), ingress)) as url:
        yield url


def _handler(server: str, ingress: Ingress) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _answer(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if ingress.status:
                self._send(ingress.status, {"Location": "/elsewhere"}, b'{"detail": "no backend"}')
                return
            connection = http.client.HTTPConnection(server)
            connection.request(self.command, self.path, asked, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            self._send(answer.status, {name: answer.headers.get(name, "") for name in CARRIED}, body)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
