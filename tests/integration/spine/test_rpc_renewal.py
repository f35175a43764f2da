"""Certificates that are renewed under a running server and a running command, by files that are replaced."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from certificates import Authority, Mounted, Pair, authority
from integration.spine.serving import REQUEST, call, drafted, serving
from servers import free_port
from xinstruct.cli.client import connect_to
from xinstruct.settings import XinstructSettings
from xinstruct.spine.errors import Invalid
from xinstruct.spine.rpc import RpcSettings, Server, channel, tls_of

ANSWER_S, REFUSAL_S = 20.0, 1.5
"""Time for a call that is answered, and for one that is refused: shorter than the rest before a second attempt."""


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    """The authority of the first certificates."""
    return authority(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    """The authority of the renewed ones, which knows nothing of the other."""
    return authority(tmp_path / "new")


@pytest.fixture
def mounted(tmp_path: Path, old: Authority) -> Mounted:
    """The Secret of a process."""
    return Mounted(tmp_path / "secret", old.signed("service"), old.own.certificate)


def own(of: Authority) -> Path:
    """The authority's own certificate."""
    return of.own.certificate


def answered(server: Server, caller: Authority, trusted: Authority) -> bool:
    """Whether a new connection with the certificate of one authority, which trusts another, is answered."""
    return call(server, tls=caller.signed("caller").as_caller(own(trusted)), timeout_s=ANSWER_S) == "ok"


def refused(server: Server, caller: Authority, trusted: Authority) -> bool:
    """Whether such a connection does not come about."""
    with pytest.raises(grpc.RpcError):
        call(server, tls=caller.signed("caller").as_caller(own(trusted)), timeout_s=REFUSAL_S)
    return True


def test_a_renewed_certificate_of_a_new_authority_is_served_and_asked_for_without_a_restart(
    mounted: Mounted, old: Authority, new: Authority
) -> None:
    with serving(**mounted.settings()) as server:
        assert answered(server, old, old)
        mounted.write(new.signed("service"), own(new))
        assert answered(server, new, new)
        assert refused(server, new, old), "the old certificate is still shown"
        assert refused(server, old, new), "callers of the old authority are still let in"


def test_a_connection_that_is_open_outlives_the_renewal(mounted: Mounted, old: Authority, new: Authority) -> None:
    with (
        serving(**mounted.settings()) as server,
        channel(f"localhost:{server.port}", tls=old.signed("caller").as_caller(own(old))) as connection,
    ):
        assert drafted(connection) == "ok"
        mounted.write(new.signed("service"), own(new))
        assert answered(server, new, new)
        assert drafted(connection) == "ok"


def test_while_key_and_certificate_do_not_fit_the_old_pair_is_served(
    mounted: Mounted, old: Authority, new: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    renewed = new.signed("service")
    with serving(**mounted.settings()) as server:
        for half in (Pair(renewed.certificate, old.own.key), Pair(old.own.certificate, renewed.key)):
            mounted.write(half, own(new))
            assert answered(server, old, old)
            assert answered(server, old, old)
        mounted.write(renewed, own(new))
        assert answered(server, new, new)
        said = capsys.readouterr()
        assert (said.out + said.err).count("certificate_not_renewed") == 1, "one fault is said once"
        mounted.write(Pair(renewed.certificate, old.own.key), own(new))
        assert answered(server, new, new)
    said = capsys.readouterr()
    assert (said.out + said.err).count("certificate_not_renewed") == 1, "the same fault after a renewal is another one"


@pytest.mark.parametrize("content", [b"", b"no PEM", None])
def test_an_authority_that_cannot_be_read_changes_nothing(
    mounted: Mounted, old: Authority, new: Authority, tmp_path: Path, content: bytes | None
) -> None:
    with serving(**mounted.settings()) as server:
        if content is None:
            Path(mounted.settings()["tls_client_ca_file"]).unlink()
        else:
            (tmp_path / "bad").write_bytes(content)
            mounted.write(new.signed("service"), tmp_path / "bad")
        assert answered(server, old, old)


def test_a_server_does_not_start_with_a_key_of_another_certificate(mounted: Mounted, old: Authority) -> None:
    mounted.write(Pair(old.signed("service").certificate, old.own.key), own(old))
    with pytest.raises(Invalid, match=r"tls\.crt, .*tls\.key: .*mismatch"):
        Server(RpcSettings(port=0, **mounted.settings()), [])
    with pytest.raises(Invalid, match="mismatch"):
        tls_of(RpcSettings(**mounted.settings()))


def test_a_command_that_outlives_its_certificate_calls_with_the_renewed_one(
    mounted: Mounted, new: Authority
) -> None:
    port = free_port()
    settings = XinstructSettings(rpc=RpcSettings(**mounted.settings()), addresses={"backgen": f"localhost:{port}"})
    with connect_to(settings) as client:
        with serving(port=port, **mounted.settings()):
            assert client.ask(client.backgen.DraftInstruction, REQUEST, deadline_s=ANSWER_S).instruction == "ok"
        mounted.write(new.signed("service"), own(new))
        with serving(port=port, **mounted.settings()):
            assert client.ask(client.backgen.DraftInstruction, REQUEST, deadline_s=ANSWER_S).instruction == "ok"
