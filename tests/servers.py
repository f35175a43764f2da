"""Servers that several test folders share: found running, or started with data of their own and stopped by us."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient

ROOT = Path(__file__).parents[1]
KAFKA_PORT = 19092
"""Where `make kafka-up` puts the broker."""
POSTGRES_PORT = 15432
"""Where `make postgres-up` puts the server."""


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
    with own_kafka(folder, free_port()) as bootstrap:
        yield bootstrap


@contextmanager
def own_kafka(folder: Path, port: int, properties: str = "") -> Iterator[str]:
    """Bootstrap servers of a broker with its data in `folder`; `properties` win over those of tools/kafka/up.sh."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "more.properties").write_text(properties, "utf-8")
    variables = {
        **os.environ, "KAFKA_PORT": str(port), "KAFKA_DATA": str(folder / "data"),
        "KAFKA_PROPERTIES": str(folder / "more.properties"),
    }
    up = subprocess.run([ROOT / "tools/kafka/up.sh"], env=variables, capture_output=True, text=True, check=False)
    if up.returncode:
        absent("kafka", up.stderr.strip() or up.stdout.strip())
    try:
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run([ROOT / "tools/kafka/down.sh"], env=variables, capture_output=True, check=True)


@contextmanager
def kafka_prefix(bootstrap: str) -> Iterator[str]:
    """A prefix for the names of topics that nobody else uses; what was made under it is deleted at the end."""
    prefix = f"test{uuid.uuid4().hex[:12]}."
    yield prefix
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    made = [name for name in admin.list_topics() if name.startswith(prefix)]
    if made:
        admin.delete_topics(made)
    admin.close()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """SQLAlchemy URL of an empty-handed server: the one of `make postgres-up`, else one that ends with the tests."""
    if listening(POSTGRES_PORT):
        yield _postgres_url(POSTGRES_PORT)
        return
    with own_postgres(folder) as (url, _):
        yield url


@contextmanager
def own_postgres(folder: Path) -> Iterator[tuple[str, Path]]:
    """URL and data folder of a server that ends with the block."""
    port = free_port()
    # Root's server runs as another user, who may not see into `folder`.
    place = "/var/tmp" if os.getuid() == 0 else str(folder)
    with tempfile.TemporaryDirectory(prefix="xinstruct-postgres-", dir=place) as data:
        variables = {**os.environ, "POSTGRES_PORT": str(port), "POSTGRES_DATA": f"{data}/data"}
        Path(data).chmod(0o755)
        up = subprocess.run([ROOT / "tools/postgres/up.sh"], env=variables, capture_output=True, text=True, check=False)
        if up.returncode:
            absent("postgres", up.stderr.strip() or up.stdout.strip())
        try:
            yield _postgres_url(port), Path(data) / "data"
        finally:
            subprocess.run([ROOT / "tools/postgres/down.sh"], env=variables, capture_output=True, check=True)


@contextmanager
def postgres_database(url: str) -> Iterator[str]:
    """URL of a new database on the server behind `url`, dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield sa.make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def _postgres_url(port: int) -> str:
    return f"postgresql+psycopg://xinstruct@127.0.0.1:{port}/postgres"
