"""The two databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import servers
from xinstruct.spine.sql import open_engine


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An engine on an empty database."""
    if request.param == "sqlite":
        made = open_engine(f"sqlite:///{tmp_path / 'database.sqlite'}")
        yield made
        made.dispose()
        return
    with servers.postgres_database(request.getfixturevalue("postgres_url")) as url:
        made = open_engine(url)
        yield made
        made.dispose()
