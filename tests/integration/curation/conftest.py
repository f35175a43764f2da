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


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """An empty house."""
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture(scope="session")
def shared_database(postgres_url: str) -> Iterator[str]:
    """One PostgreSQL database for all tests here: making one takes seconds, emptying it milliseconds."""
    with servers.postgres_database(postgres_url) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def either_house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """An empty house, once with each database."""
    if request.param == "sqlite":
        yield request.getfixturevalue("house")
        return
    house = House(tmp_path, database_url=request.getfixturevalue("shared_database"))
    with transaction(house.database) as connection:
        for table in METADATA.sorted_tables:
            connection.execute(table.delete())
    yield house
    house.close()


@pytest.fixture
def stub(house: House) -> Iterator[Any]:
    """A client of a served house."""
    server = Server(RpcSettings(port=0), house.app.servicers)
    with channel(f"127.0.0.1:{server.port}") as opened:
        yield curation_service_pb2_grpc.CurationServiceStub(opened)
    server.stop(0)
