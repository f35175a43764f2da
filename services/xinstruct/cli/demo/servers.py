"""Kafka and PostgreSQL for `xinstruct demo --kafka`: started by the scripts in tools/, a database of its own a run."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import sqlalchemy as sa

from xinstruct.cli.demo.plan import KAFKA_PORT
from xinstruct.spine.errors import Unavailable

POSTGRES_PORT = 15_432


def kafka_and_database() -> tuple[str, str]:
    """Bootstrap servers, and the URL of an empty database. Unavailable when a server cannot be started."""
    tools = Path(__file__).resolve().parents[4] / "tools"
    for script in (tools / "kafka" / "up.sh", tools / "postgres" / "up.sh"):
        done = subprocess.run(["bash", str(script)], capture_output=True, check=False, text=True)
        if done.returncode:
            raise Unavailable(f"{script.parent.name} does not start: {done.stderr.strip()[-400:]}")
    return f"127.0.0.1:{KAFKA_PORT}", _new_database()


def _new_database() -> str:
    name = f"demo_{time.time_ns():x}"
    url = sa.make_url(f"postgresql+psycopg://xinstruct@127.0.0.1:{POSTGRES_PORT}/postgres")
    with sa.create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    return url.set(database=name).render_as_string(hide_password=False)
