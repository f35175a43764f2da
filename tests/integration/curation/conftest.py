"""Fixtures of curation's integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import servers
from curation_house import House
from xinstruct.spine.sql import METADATA, transaction


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
