"""Fixtures that every test folder may use: one broker and one database server for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import servers

CLUSTER = Path(__file__).parent / "cluster"
"""Tests on real pods, which no run has by chance: only one that names the folder, as `make test-cluster` does."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave tests/cluster out. What the command line names is not asked for here."""
    return True if collection_path == CLUSTER else None


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real broker. Tests keep apart by prefix."""
    with servers.kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server's own database. Tests make databases of their own on it."""
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url
