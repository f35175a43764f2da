"""A server with three services of the API on loopback, and a call to it, for the tests of the gRPC port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from xinstruct.spine.app import Servicer
from xinstruct.spine.certificates import Tls
from xinstruct.spine.errors import NotFound
from xinstruct.spine.rpc import RpcSettings, Server, channel
from xinstruct.v1 import backgen_service_pb2, backgen_service_pb2_grpc, crawler_service_pb2, crawler_service_pb2_grpc
from xinstruct.v1 import curation_service_pb2 as curation_pb2
from xinstruct.v1 import curation_service_pb2_grpc as curation_grpc

NAME = "xinstruct.v1.BackgenService"
CRAWLER = "xinstruct.v1.CrawlerService"
CURATION = "xinstruct.v1.CurationService"
REQUEST = backgen_service_pb2.DraftInstructionRequest(text="Habari", language="sw")


class Answering(backgen_service_pb2_grpc.BackgenServiceServicer):
    """Runs the given behaviour for each call."""

    def __init__(self, behaviour: Callable[[], str]) -> None:
        self.behaviour = behaviour

    def DraftInstruction(self, request: Any, context: Any) -> backgen_service_pb2.DraftInstructionResponse:
        return backgen_service_pb2.DraftInstructionResponse(instruction=self.behaviour())


class Watching(crawler_service_pb2_grpc.CrawlerServiceServicer):
    """An event, then an error; an event and silence for a watcher with a page token."""

    def WatchSources(self, request: Any, context: Any) -> Iterator[crawler_service_pb2.SourceEvent]:
        gone = threading.Event()
        context.add_callback(gone.set)
        yield crawler_service_pb2.SourceEvent(page_token="1")
        if not request.page_token:
            raise NotFound("gone")
        gone.wait()


class Exporting(curation_grpc.CurationServiceServicer):
    """A stream that is no watch."""

    def ExportRelease(self, request: Any, context: Any) -> Iterator[curation_pb2.Chunk]:
        yield curation_pb2.Chunk(content=b"row")


@contextmanager
def serving(behaviour: Callable[[], str] = lambda: "ok", **settings: Any) -> Iterator[Server]:
    """A started server, on a free port unless `settings` name one; `behaviour` answers DraftInstruction."""
    servicers = [
        Servicer(NAME, backgen_service_pb2_grpc.add_BackgenServiceServicer_to_server, Answering(behaviour)),
        Servicer(CRAWLER, crawler_service_pb2_grpc.add_CrawlerServiceServicer_to_server, Watching()),
        Servicer(CURATION, curation_grpc.add_CurationServiceServicer_to_server, Exporting()),
    ]
    server = Server(RpcSettings(**{"port": 0, **settings}), servicers)
    try:
        yield server
    finally:
        server.stop(0.1)


def call(server: Server, *, timeout_s: float | None = 5.0, token: str = "", tls: Tls | None = None) -> str:
    """The answer of `server` to one call; a certificate is for "localhost"."""
    host = "127.0.0.1" if tls is None else "localhost"
    with channel(f"{host}:{server.port}", token=token, tls=tls) as connection:
        return drafted(connection, timeout_s=timeout_s)


def drafted(connection: grpc.Channel, *, timeout_s: float | None = 5.0) -> str:
    """The answer to one call over an open channel."""
    stub = backgen_service_pb2_grpc.BackgenServiceStub(connection)
    return str(stub.DraftInstruction(REQUEST, timeout=timeout_s).instruction)
