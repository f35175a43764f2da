"""index pages by where they moved."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index(op.f("ix_crawler_pages_moved_to"), "crawler_pages", ["moved_to"], unique=False)
