"""The port of probes that speak no TLS: health of the same services, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from certificates import Mounted, authority
from integration.spine.serving import CRAWLER, NAME, drafted, serving
from servers import free_port, listening
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.rpc import RpcSettings, Server

TIMEOUT_S = 5.0


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[tuple[Server, grpc.Channel]]:
    """A server with mutual TLS and a token, and what a kubelet has: a connection to its other port."""
    ours = authority(tmp_path / "authority")
    mounted = Mounted(tmp_path / "secret", ours.signed("service"), ours.own.certificate)
    (tmp_path / "token").write_text("sesame", "utf-8")
    port = free_port()
    settings = {"health_port": port, "token_file": str(tmp_path / "token"), **mounted.settings()}
    with serving(**settings) as server, grpc.insecure_channel(f"127.0.0.1:{port}") as connection:
        yield server, connection


def state(connection: grpc.Channel, name: str) -> str:
    """What a probe of the service is told."""
    request = health_pb2.HealthCheckRequest(service=name)
    found = health_pb2_grpc.HealthStub(connection).Check(request, timeout=TIMEOUT_S).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(found))


def test_a_probe_without_tls_certificate_and_token_is_told_the_state_of_each_service(
    probed: tuple[Server, grpc.Channel]
) -> None:
    server, connection = probed
    assert state(connection, NAME) == "NOT_SERVING"
    server.set_health(NAME, "")
    assert (state(connection, NAME), state(connection, CRAWLER)) == ("SERVING", "NOT_SERVING")
    server.set_health(NAME, "no model")
    assert state(connection, NAME) == "NOT_SERVING"


def test_a_service_that_the_process_does_not_have_is_not_healthy(probed: tuple[Server, grpc.Channel]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        state(probed[1], "xinstruct.v1.OtherService")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_nothing_but_health_is_served_there(probed: tuple[Server, grpc.Channel]) -> None:
    _, connection = probed
    with pytest.raises(grpc.RpcError) as caught:
        drafted(connection)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="*")])
    with pytest.raises(grpc.RpcError) as caught:
        list(reflection_pb2_grpc.ServerReflectionStub(connection).ServerReflectionInfo(asked, timeout=TIMEOUT_S))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_port_is_closed_with_the_server_and_never_open_unless_it_was_asked_for() -> None:
    port = free_port()
    with serving(health_port=port):
        assert listening(port)
    assert not listening(port)
    with serving():
        assert not listening(port)


def test_a_port_that_another_has_is_refused() -> None:
    port = free_port()
    with serving(health_port=port), pytest.raises(Unavailable, match="cannot listen on"):
        Server(RpcSettings(port=0, health_port=port), [])
