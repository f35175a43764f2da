"""Why a text file gives no text."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'


def upgrade() -> None:
    op.add_column('pages', sa.Column('detail', sa.Text(), server_default='', nullable=False))
