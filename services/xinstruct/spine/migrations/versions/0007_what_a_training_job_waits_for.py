"""what a training job waits for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0007_of_0.1'
down_revision = '0006'


def upgrade() -> None:
    op.add_column('training_jobs', sa.Column('waiting_for', sa.Text(), server_default='', nullable=False))
