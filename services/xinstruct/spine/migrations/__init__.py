"""The schema's history (alembic). A process that opens a database brings it to the newest revision first.

Expand only within a minor version: a revision adds tables, columns and indexes and takes nothing away, so that the
version before can go on with the database. `make migration` writes the next revision from the tables.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

HERE = Path(__file__).parent
_LOCK_KEY = 7_215_904_411
"""Advisory lock of PostgreSQL: of several processes that start at once, one migrates and the others wait."""


def upgrade(engine: sa.Engine) -> None:
    """Bring the database behind `engine` to the newest revision; nothing happens when it is there."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        command.upgrade(config(connection), "head")
        connection.commit()


def config(connection: sa.Connection) -> Config:
    """Alembic's configuration for one open connection; no ini file."""
    made = Config()
    made.set_main_option("script_location", str(HERE))
    made.attributes["connection"] = connection
    return made
