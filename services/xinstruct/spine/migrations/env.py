"""Alembic's entry: runs the revisions on the connection it was given, in that connection's own transaction."""

from __future__ import annotations

from alembic import context

from xinstruct.spine.sql import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
context.run_migrations()
