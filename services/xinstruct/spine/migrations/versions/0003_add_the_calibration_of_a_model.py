"""add the calibration of a model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'


def upgrade() -> None:
    op.add_column('models', sa.Column('calibration', sa.Text(), server_default='', nullable=False))
