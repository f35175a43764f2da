"""Writes the next revision of the schema from the difference between the tables and the newest revision.

    python tools/write_migration.py "add the column x to y"      (make migration MESSAGE="…")

Read what it wrote: alembic finds additions, but neither renames nor what data needs.
"""

from __future__ import annotations

import importlib
import re
import sys

import sqlalchemy as sa
from alembic import command

from xinstruct.spine import journal, migrations, registry
from xinstruct.spine.sql import METADATA

TABLES = ("crawler", "curation", "training")


def main(message: str) -> int:
    """Write the revision file; its number follows the last one."""
    for service in TABLES:
        importlib.import_module(f"xinstruct.{service}.tables")
    assert registry.MODELS.metadata is journal.ANSWERS.metadata is METADATA
    number = len(list((migrations.HERE / "versions").glob("[0-9]*.py"))) + 1
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        if number > 1:
            command.upgrade(migrations.config(connection), "head")
        revision = migrations.next_id(number)
        command.revision(migrations.config(connection), message, autogenerate=True, rev_id=revision)
    made = next((migrations.HERE / "versions").glob(f"{revision}_*.py"))
    made.write_text(re.sub(r"[ \t]*# ### .*\n", "", made.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
