"""The schema's history leads to the tables, on every database."""

from __future__ import annotations

import importlib

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.schema import CreateTable

from xinstruct.spine import journal, registry
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


def test_every_table_can_be_written_for_both_dialects() -> None:
    load_tables()
    for dialect in ("sqlite", "postgresql"):
        made = importlib.import_module(f"sqlalchemy.dialects.{dialect}").dialect()
        for table in METADATA.sorted_tables:
            assert str(CreateTable(table).compile(dialect=made))
