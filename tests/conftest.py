"""Fixtures that every test folder may use: one broker and one database server for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import servers

SHARING = Path(__file__).parent / "contract" / "inference"
"""Files of this folder share model servers, which take long to start."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` runs two processes, each of which takes whole files, or the whole folder whose files share."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(SHARING if SHARING in item.path.parents else item.path)))


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
