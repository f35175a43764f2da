"""add the licence of a page."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002'
down_revision = '0001'


def upgrade() -> None:
    op.add_column('crawler_pages', sa.Column('licence', sa.Text(), server_default='', nullable=False))
    op.execute(
        "UPDATE crawler_pages SET licence = (SELECT crawler_sources.licence FROM crawler_sources"
        " WHERE crawler_sources.source_id = crawler_pages.source_id)"
        " WHERE source_id IN (SELECT source_id FROM crawler_sources)"
    )
