"""The schema's history (alembic). A process that opens a database brings it to the newest revision first.

Expand only within a minor version: a revision adds tables, columns and indexes and takes nothing away, so that the
version before can go on with the database. `make migration` writes the next revision from the tables. Its id says the
minor version that it came with ("0007_of_0.1"; 0001 to 0006 are of 0.1), so that older code, which has no file of it,
sees whether it can go on. The first revision of a minor version may take away: tests/architecture/test_revisions.py.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from xinstruct.spine import telemetry
from xinstruct.spine.errors import Conflict

HERE = Path(__file__).parent
MINOR = ".".join(version("xinstruct").split(".")[:2])
"""Of this code."""
_OF = "_of_"
_FIRST_MINOR = "0.1"
_LOCK_KEY = 7_215_904_411
"""Advisory lock of PostgreSQL: of several processes that start at once, one migrates and the others wait."""


def upgrade(engine: sa.Engine) -> None:
    """Bring the database behind `engine` to the newest revision; nothing happens when it is there or further.

    Conflict when a revision that this code does not know came with another minor version.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        made = config(connection)
        found = MigrationContext.configure(connection).get_current_revision()
        if found is None or found in {item.revision for item in ScriptDirectory.from_config(made).walk_revisions()}:
            command.upgrade(made, "head")
        else:
            _go_on_with(found)
        connection.commit()


def _go_on_with(revision: str) -> None:
    """After a rollback of the code, which leaves the database as it is."""
    minor = minor_of(revision)
    if minor != MINOR:
        raise Conflict(
            f"the database's schema is of xinstruct {minor} (revision {revision}), and this is {version('xinstruct')}, "
            f"which does not know it: run {minor}, or restore a backup that {MINOR} made (docs/backup.md); code goes "
            "back over a database within a minor version only"
        )
    telemetry.logger().info("schema_newer", revision=revision)


def minor_of(revision: str) -> str:
    """The minor version that a revision came with, "0.1"."""
    return revision.partition(_OF)[2] or _FIRST_MINOR


def next_id(number: int) -> str:
    """The id of a revision that is written now."""
    return f"{number:04d}{_OF}{MINOR}"


def config(connection: sa.Connection) -> Config:
    """Alembic's configuration for one open connection; no ini file."""
    made = Config()
    made.set_main_option("script_location", str(HERE))
    made.attributes["connection"] = connection
    return made
