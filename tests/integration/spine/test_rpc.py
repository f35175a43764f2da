"""The gRPC server on loopback: deadlines, tokens, rich errors, health, reflection, drain."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from integration.spine.serving import CRAWLER, NAME, call, serving
from xinstruct.spine.errors import Conflict, Fenced, Invalid, NotFound, Unavailable, XinstructError
from xinstruct.spine.rpc import RpcSettings, Server, channel, error_of
from xinstruct.v1 import backgen_service_pb2, backgen_service_pb2_grpc, crawler_service_pb2, crawler_service_pb2_grpc
from xinstruct.v1 import curation_service_pb2 as curation_pb2
from xinstruct.v1 import curation_service_pb2_grpc as curation_grpc


def failing(error: Exception) -> Callable[[], str]:
    def behaviour() -> str:
        raise error

    return behaviour


def reason(error: Any) -> str:
    """The reason in a refusal's google.rpc details."""
    status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
    assert status is not None and status.details[0].Unpack(info)
    return str(info.reason)


def until_admitted(watch: Callable[[], str], limit_s: float = 15.0) -> None:
    """Watch as soon as the server has noticed that another watcher went; the limit only ends a test that has failed."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            assert watch() == "1"
            return
        except grpc.RpcError:
            assert time.monotonic() < deadline, "the place of a watcher that left stays taken"
            time.sleep(0.01)


def health(server: Server, name: str) -> Any:
    with channel(f"127.0.0.1:{server.port}") as connection:
        stub = health_pb2_grpc.HealthStub(connection)
        return stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status


def test_a_call_with_a_deadline_is_answered() -> None:
    with serving() as server:
        assert call(server) == "ok"


def test_a_call_without_a_deadline_is_refused() -> None:
    with serving() as server, pytest.raises(grpc.RpcError, match="deadline") as caught:
        call(server, timeout_s=None)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "INVALID"


def test_a_stream_that_is_no_watch_needs_a_deadline_too() -> None:
    with serving() as server, channel(f"127.0.0.1:{server.port}") as connection:
        export = curation_grpc.CurationServiceStub(connection).ExportRelease
        assert [chunk.content for chunk in export(curation_pb2.ExportReleaseRequest(), timeout=5)] == [b"row"]
        for timeout_s in (None, 1000):
            with pytest.raises(grpc.RpcError, match="at most 300 s is required") as caught:
                list(export(curation_pb2.ExportReleaseRequest(), timeout=timeout_s))
            assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID")


def test_watchers_leave_threads_to_other_calls() -> None:
    with serving(threads_max=4) as server, channel(f"127.0.0.1:{server.port}") as connection:
        watch = crawler_service_pb2_grpc.CrawlerServiceStub(connection).WatchSources
        request = crawler_service_pb2.WatchSourcesRequest(page_token="0")
        watchers = [watch(request) for _ in range(2)]
        assert [next(watcher).page_token for watcher in watchers] == ["1", "1"]
        for _ in range(3):
            with pytest.raises(grpc.RpcError, match=r"2 watches are open, half of rpc\.threads_max: end one") as caught:
                next(watch(request, timeout=5))
            assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "UNAVAILABLE")
            assert isinstance(error_of(caught.value), Unavailable)
        assert call(server) == "ok"
        assert health(server, NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
        watchers[0].cancel()
        until_admitted(lambda: next(watch(request, timeout=5)).page_token)
        watchers[1].cancel()


@pytest.mark.parametrize(("error", "code"), [
    (Invalid("bad"), grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound("none"), grpc.StatusCode.NOT_FOUND),
    (Conflict("state"), grpc.StatusCode.FAILED_PRECONDITION),
    (Fenced("other"), grpc.StatusCode.ABORTED),
    (Unavailable("down"), grpc.StatusCode.UNAVAILABLE),
])
def test_each_error_has_its_status_and_comes_back_as_itself(error: XinstructError, code: grpc.StatusCode) -> None:
    with serving(failing(error)) as server, pytest.raises(grpc.RpcError) as caught:
        call(server)
    assert caught.value.code() is code
    back = error_of(caught.value)
    assert (type(back), back.message) == (type(error), error.message)


def test_details_travel_with_the_error() -> None:
    with serving(failing(Conflict("held", pid="17"))) as server, pytest.raises(grpc.RpcError) as caught:
        call(server)
    status = rpc_status.from_call(caught.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, dict(info.metadata)) == ("CONFLICT", "xinstruct", {"pid": "17"})
    assert error_of(caught.value).details == {"pid": "17"}


def test_an_error_in_a_stream_has_its_status_after_the_events_before_it() -> None:
    with serving() as server, channel(f"127.0.0.1:{server.port}") as connection:
        stub = crawler_service_pb2_grpc.CrawlerServiceStub(connection)
        events = stub.WatchSources(crawler_service_pb2.WatchSourcesRequest())
        assert next(events).page_token == "1"
        with pytest.raises(grpc.RpcError) as caught:
            next(events)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_only_the_right_token_opens_and_health_needs_none(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    with serving(token_file=str(tmp_path / "token")) as server:
        assert call(server, token="s3cret") == "ok"
        for token in ("", "wrong"):
            with pytest.raises(grpc.RpcError) as caught:
                call(server, token=token)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert (reason(caught.value), type(error_of(caught.value))) == ("INVALID", Invalid)
        server.set_health(NAME, "")
        assert health(server, NAME) == health_pb2.HealthCheckResponse.SERVING


def test_health_follows_what_hinders_the_service() -> None:
    with serving() as server:
        assert health(server, NAME) == health_pb2.HealthCheckResponse.NOT_SERVING
        server.set_health(NAME, "")
        assert health(server, NAME) == health_pb2.HealthCheckResponse.SERVING
        server.set_health(NAME, "the endpoint is down")
        assert health(server, NAME) == health_pb2.HealthCheckResponse.NOT_SERVING


def test_reflection_lists_the_services() -> None:
    with serving() as server, channel(f"127.0.0.1:{server.port}") as connection:
        names = ProtoReflectionDescriptorDatabase(connection).get_services()
    assert {NAME, CRAWLER, "grpc.health.v1.Health"} <= set(names)


def test_a_message_above_the_limit_is_refused() -> None:
    with serving(message_bytes_max=1024) as server, channel(f"127.0.0.1:{server.port}") as connection:
        stub = backgen_service_pb2_grpc.BackgenServiceStub(connection)
        with pytest.raises(grpc.RpcError) as caught:
            stub.DraftInstruction(backgen_service_pb2.DraftInstructionRequest(text="x" * 5000), timeout=5)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_listening_beyond_loopback_without_a_token_is_refused() -> None:
    with pytest.raises(Invalid, match=r"token_file"):
        Server(RpcSettings(host="0.0.0.0", port=0), [])


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with serving() as server, pytest.raises(Unavailable, match="cannot listen"):
        Server(RpcSettings(port=server.port), [])


def test_a_bug_in_a_servicer_is_no_answer_and_keeps_the_server_up() -> None:
    with serving(failing(ZeroDivisionError("bug"))) as server, pytest.raises(grpc.RpcError) as caught:
        call(server)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
