"""A name server on loopback, so that a test can move a service to other addresses as Kubernetes does with pods."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_A, _INTERNET = 1, 1
_ANSWER, _QUESTION_AT = 0x8180, 12
_STOP = b"stop"


class Names:
    """Answers every question for an address with `addresses`, which may be changed at any time."""

    def __init__(self) -> None:
        self.addresses: Sequence[str] = ()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def target(self, port: int) -> str:
        """A gRPC target that is resolved here."""
        return f"dns://127.0.0.1:{self._socket.getsockname()[1]}/house.test:{port}"

    def close(self) -> None:
        """Stop answering."""
        self._socket.sendto(_STOP, self._socket.getsockname())  # closing alone would not wake the thread
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            if question == _STOP:
                return
            self._socket.sendto(self._answer(question), asker)

    def _answer(self, question: bytes) -> bytes:
        end = question.index(b"\0", _QUESTION_AT) + 5
        (kind,) = struct.unpack_from("!H", question, end - 4)
        found = list(self.addresses) if kind == _A else []
        pointer = 0xC000 | _QUESTION_AT
        records = (struct.pack("!HHHIH4s", pointer, _A, _INTERNET, 0, 4, socket.inet_aton(a)) for a in found)
        head = struct.pack("!2sHHHHH", question[:2], _ANSWER, 1, len(found), 0, 0)
        return head + question[_QUESTION_AT:end] + b"".join(records)


@contextmanager
def names() -> Iterator[Names]:
    """A started name server."""
    server = Names()
    try:
        yield server
    finally:
        server.close()
