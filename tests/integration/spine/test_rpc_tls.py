"""TLS of the gRPC port with real certificates: who is let in, and whom a caller believes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Authority, authority, self_signed
from integration.spine.serving import call, serving
from xinstruct.spine.certificates import Tls
from xinstruct.spine.errors import Invalid
from xinstruct.spine.rpc import RpcSettings, Server, channel, tls_of

TIMEOUT_S = 1.5
"""Of calls that are refused: shorter than the rest before a second attempt."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of all services."""
    return authority(tmp_path_factory.mktemp("ours") / "a")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no service knows."""
    return authority(tmp_path_factory.mktemp("foreign") / "a")


@pytest.fixture
def asked() -> list[str]:
    """A word for each call that reached the servicer."""
    return []


@pytest.fixture
def mutual(ours: Authority, asked: list[str], tmp_path: Path) -> Iterator[Server]:
    """A server that asks for a token and for a certificate of ours."""
    (tmp_path / "token").write_text("sesame", "utf-8")

    def behaviour() -> str:
        asked.append("call")
        return "ok"

    settings = ours.signed("server").as_server() | {"tls_client_ca_file": str(ours.own.certificate)}
    with serving(behaviour, token_file=str(tmp_path / "token"), **settings) as server:
        yield server


def refused(server: Server, **how: Any) -> grpc.StatusCode:
    """The status with which a call is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(server, timeout_s=TIMEOUT_S, **how)
    return caught.value.code()


def test_a_server_with_a_certificate_speaks_tls_only(ours: Authority) -> None:
    with serving(**ours.signed("server").as_server()) as server:
        assert call(server, tls=Tls(ours.own.certificate.read_bytes())) == "ok"
        assert refused(server) in NOT_LET_IN


def test_a_service_with_a_certificate_of_another_authority_is_not_believed(
    ours: Authority, foreign: Authority
) -> None:
    with serving(**foreign.signed("server").as_server()) as server:
        assert refused(server, tls=Tls(ours.own.certificate.read_bytes())) in NOT_LET_IN


def test_a_caller_with_a_certificate_of_ours_and_the_token_is_answered(
    mutual: Server, ours: Authority, asked: list[str]
) -> None:
    assert call(mutual, token="sesame", tls=ours.signed("caller").as_caller(ours.own.certificate)) == "ok"
    assert asked == ["call"]


def test_a_caller_without_a_certificate_is_refused(mutual: Server, ours: Authority, asked: list[str]) -> None:
    assert refused(mutual, token="sesame", tls=Tls(ours.own.certificate.read_bytes())) in NOT_LET_IN
    assert not asked


def test_a_caller_with_a_certificate_of_another_authority_is_refused(
    mutual: Server, ours: Authority, foreign: Authority, asked: list[str]
) -> None:
    caller = foreign.signed("caller").as_caller(ours.own.certificate)
    assert refused(mutual, token="sesame", tls=caller) in NOT_LET_IN
    assert not asked


def test_a_certificate_is_no_token(mutual: Server, ours: Authority, asked: list[str]) -> None:
    caller = ours.signed("caller").as_caller(ours.own.certificate)
    assert refused(mutual, tls=caller) is grpc.StatusCode.UNAUTHENTICATED
    assert refused(mutual, token="wrong", tls=caller) is grpc.StatusCode.UNAUTHENTICATED
    assert not asked


def test_probes_and_reflection_are_not_let_in_without_a_certificate_either(mutual: Server, ours: Authority) -> None:
    with (
        channel(f"localhost:{mutual.port}", tls=Tls(ours.own.certificate.read_bytes())) as connection,
        pytest.raises(grpc.RpcError) as caught,
    ):
        health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert caught.value.code() in NOT_LET_IN


def test_a_probe_that_only_opens_the_port_harms_nobody(mutual: Server, ours: Authority) -> None:
    # What a load balancer does that speaks no TLS, every few seconds.
    for _ in range(20):
        socket.create_connection(("127.0.0.1", mutual.port), TIMEOUT_S).close()
    assert call(mutual, token="sesame", tls=ours.signed("caller").as_caller(ours.own.certificate)) == "ok"


def test_one_configuration_file_makes_a_server_and_its_caller(ours: Authority, tmp_path: Path) -> None:
    # A command inside a pod reads what the pod's service reads.
    (tmp_path / "token").write_text("sesame", "utf-8")
    authorities = str(ours.own.certificate)
    files = ours.signed("both").as_server() | {"tls_client_ca_file": authorities, "tls_ca_file": authorities}
    with serving(token_file=str(tmp_path / "token"), **files) as server:
        assert call(server, token="sesame", tls=tls_of(RpcSettings(**files))) == "ok"


def test_a_caller_without_a_certificate_of_its_own_brings_the_authorities_alone(ours: Authority) -> None:
    brought = tls_of(RpcSettings(tls_ca_file=str(ours.own.certificate)))
    assert brought == Tls(ours.own.certificate.read_bytes())
    assert tls_of(RpcSettings()) is None


def test_a_self_made_certificate_is_trusted_by_those_who_have_it(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "own", "subjectAltName=DNS:localhost")
    with serving(**pair.as_server()) as server:
        assert call(server, tls=tls_of(RpcSettings(**pair.as_server()))) == "ok"


def test_a_certificate_that_is_renewed_here_first_is_no_reason_to_believe_nobody(ours: Authority) -> None:
    not_yet, renewed = ours.signed("not-yet"), ours.signed("renewed").as_server()
    with serving(**not_yet.as_server()) as server:
        assert call(server, tls=tls_of(RpcSettings(**renewed, tls_ca_file=str(ours.own.certificate)))) == "ok"
        assert refused(server, tls=tls_of(RpcSettings(**renewed))) in NOT_LET_IN  # why the chart names the authority


def test_asking_for_certificates_without_tls_is_refused() -> None:
    with pytest.raises(Invalid, match="tls_certificate_file"):
        Server(RpcSettings(port=0, tls_client_ca_file="authority.pem"), [])


NOT_LET_IN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""What a caller sees of a connection that does not come about."""
