"""Servers that several test folders share: found running, or started with data of their own and stopped by us."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KAFKA_PORT = 19092
"""Where `make kafka-up` puts the broker."""


def required(server: str) -> bool:
    """Whether XINSTRUCT_REQUIRE names `server`: its tests may not be skipped then."""
    return server in os.environ.get("XINSTRUCT_REQUIRE", "").split(",")


def absent(server: str, why: str) -> None:
    """End the test that needs `server`: a failure when it is required, else a skip that names it."""
    if required(server):
        pytest.fail(f"XINSTRUCT_REQUIRE names {server}, but {why}", pytrace=False)
    pytest.skip(f"no {server}: {why}")


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether somebody answers on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """Bootstrap servers of a broker: the one of `make kafka-up`, else one with its data in `folder`."""
    if listening(KAFKA_PORT):
        yield f"127.0.0.1:{KAFKA_PORT}"
        return
    port = free_port()
    variables = {**os.environ, "KAFKA_PORT": str(port), "KAFKA_DATA": str(folder)}
    up = subprocess.run([ROOT / "tools/kafka/up.sh"], env=variables, capture_output=True, text=True, check=False)
    if up.returncode:
        absent("kafka", up.stderr.strip() or up.stdout.strip())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([ROOT / "tools/kafka/down.sh"], env=variables, capture_output=True, check=True)
