"""The schema's history leads to the tables, on every database."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateTable

from xinstruct.spine import journal, migrations, registry
from xinstruct.spine.errors import Conflict
from xinstruct.spine.sql import METADATA, create_schema

SERVICES_WITH_TABLES = ("crawler", "curation", "training")


def load_tables() -> None:
    for service in SERVICES_WITH_TABLES:
        importlib.import_module(f"xinstruct.{service}.tables")
    assert registry.MODELS.metadata is journal.ANSWERS.metadata is METADATA


def test_the_newest_revision_is_the_schema_of_the_tables(engine: sa.Engine) -> None:
    load_tables()
    create_schema(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_migrating_a_database_that_is_up_to_date_changes_nothing(engine: sa.Engine) -> None:
    create_schema(engine)
    before = sa.inspect(engine).get_table_names()
    create_schema(engine)
    assert sa.inspect(engine).get_table_names() == before


def test_code_of_the_same_minor_version_goes_on_with_a_newer_schema(engine: sa.Engine, tmp_path: Path) -> None:
    by_newer_code(engine, revision := migrations.next_id(9999), tmp_path)
    create_schema(engine)
    with engine.begin() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == revision
        connection.execute(sa.insert(journal.CLAIMS).values(request_digest="d", owner="o", lapses_at_ms=1))
        assert connection.execute(sa.text("SELECT later FROM claims")).scalar_one() == "as it was"


def test_code_refuses_a_schema_of_another_minor_version_and_says_what_to_do(
    engine: sa.Engine, tmp_path: Path
) -> None:
    by_newer_code(engine, "9999_of_9.8", tmp_path)
    with pytest.raises(Conflict, match=r"of xinstruct 9\.8 \(revision 9999_of_9\.8\).*: run 9\.8, or restore a backup"):
        create_schema(engine)
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() == "9999_of_9.8"


def by_newer_code(engine: sa.Engine, revision: str, folder: Path) -> None:
    """Migrate with one revision more than this code has."""
    shutil.copytree(migrations.HERE, newer := folder / "newer")
    with engine.connect() as connection:
        made = migrations.config(connection)
        last = ScriptDirectory.from_config(made).get_current_head()
        (newer / "versions" / f"{revision}_later.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision, down_revision = {revision!r}, {last!r}\n"
            "def upgrade():\n"
            "    op.add_column('claims', sa.Column('later', sa.Text(), server_default='as it was', nullable=False))\n",
            "utf-8",
        )
        made.set_main_option("script_location", str(newer))
        command.upgrade(made, "head")
        connection.commit()


def test_every_table_can_be_written_for_both_dialects() -> None:
    load_tables()
    for dialect in ("sqlite", "postgresql"):
        made = importlib.import_module(f"sqlalchemy.dialects.{dialect}").dialect()
        for table in METADATA.sorted_tables:
            assert str(CreateTable(table).compile(dialect=made))
