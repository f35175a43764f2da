"""The Kubernetes API when it cannot be asked at all: whatever its client raises then, training waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from kubernetes.client import ApiClient, Configuration
from kubernetes.config.incluster_config import InClusterConfigLoader

from xinstruct.spine.errors import Unavailable
from xinstruct.training.kubernetes_api import JOB, RETRY_S, Cluster


@contextmanager
def breaking_off() -> Iterator[int]:
    """The port of a server that ends each connection after the first bytes: a proxy whose backend has gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("method", ["get", "create", "delete"])
def test_a_handshake_that_breaks_off_is_waited_for(method: str) -> None:
    with breaking_off() as port:
        configuration = Configuration(host=f"https://127.0.0.1:{port}")
        configuration.retries = False
        cluster = Cluster(ApiClient(configuration), "lab")
        calls = {
            "get": lambda: cluster.get(JOB, "x"), "create": lambda: cluster.create(JOB, {"metadata": {"name": "x"}}),
            "delete": lambda: cluster.delete(JOB, "x"),
        }
        with pytest.raises(Unavailable, match="does not answer") as waits:
            calls[method]()
        cluster.close()
    assert waits.value.retry_after_s == RETRY_S


@pytest.mark.parametrize("written", ["", None])
def test_a_token_that_is_being_renewed_is_waited_for(tmp_path: Path, written: str | None) -> None:
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    authority.write_text("an authority")
    place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
    loader = InClusterConfigLoader(str(token), str(authority), environ=place)
    loader._token_refresh_period = timedelta(0)  # else a minute
    configuration = Configuration()
    loader.load_and_set(configuration)
    configuration.ssl_ca_cert = None
    cluster = Cluster(ApiClient(configuration), "lab")
    if written is None:
        token.unlink()
    else:
        token.write_text(written)
    with pytest.raises(Unavailable, match=r"does not answer: .*[Tt]oken"):
        cluster.get(JOB, "x")
