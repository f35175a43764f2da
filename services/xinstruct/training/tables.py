"""Jobs and the commands read so far."""

from __future__ import annotations

import sqlalchemy as sa

from xinstruct.spine.sql import METADATA

JOBS = sa.Table(
    "training_jobs", METADATA,
    sa.Column("job_name", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False, index=True),  # JobState
    sa.Column("command", sa.LargeBinary, nullable=False),  # TrainingRequested on the wire
    sa.Column("snapshot_digest", sa.Text, nullable=False),
    sa.Column("steps_done", sa.Integer, nullable=False),
    sa.Column("steps_count", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float, nullable=True),  # NULL: none yet
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("failure", sa.Text, nullable=False),
    sa.Column("metrics", sa.Text, nullable=False),
    sa.Column("attempts_count", sa.Integer, nullable=False),
    sa.Column("promotion_open", sa.Boolean, nullable=False),  # done, but its model still waits for promotion
    sa.Column("owner", sa.Text, nullable=False),  # instance that runs it
    sa.Column("owned_until_ms", sa.BigInteger, nullable=False),
    sa.Column("change_time_ms", sa.BigInteger, nullable=False),
    sa.Column("change_number", sa.BigInteger, nullable=False),  # grows with every change: the watch token
)
POSITIONS = sa.Table(
    "training_positions", METADATA,
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)
