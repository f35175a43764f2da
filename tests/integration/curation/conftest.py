"""Fixtures of curation's integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from curation_house import House
from xinstruct.spine.rpc import RpcSettings, Server, channel
from xinstruct.spine.sql import METADATA, transaction
from xinstruct.v1 import curation_service_pb2_grpc


@pytest.fixture(scope="session")
def shared_database(postgres_url: str) -> Iterator[str]:
    """One PostgreSQL database for all tests here: making one takes seconds, emptying it milliseconds."""
    with servers.postgres_database(postgres_url) as url:
        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the houses of tests marked `both_databases` once with each database."""
    if "house" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_databases"):
        databases = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("house", databases, indirect=True)


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """An empty house; tests marked `both_databases` get it once with each."""
    postgres = getattr(request, "param", "sqlite") == "postgres"
    house = House(tmp_path, database_url=request.getfixturevalue("shared_database") if postgres else "")
    if postgres:
        with transaction(house.database) as connection:
            for table in METADATA.sorted_tables:
                connection.execute(table.delete())
    yield house
    house.close()


@pytest.fixture
def stocked(house: House) -> House:
    """Twelve rows, two of them not kept, in two languages."""
    house.promote()
    house.publishable(6)
    house.publishable(4, language="ur")
    house.publishable(2, first=50, p_best=0.3)
    house.settle()
    return house


@pytest.fixture
def stub(house: House) -> Iterator[Any]:
    """A client of a served house."""
    server = Server(RpcSettings(port=0), house.app.servicers)
    with channel(f"127.0.0.1:{server.port}") as opened:
        yield curation_service_pb2_grpc.CurationServiceStub(opened)
    server.stop(0)
