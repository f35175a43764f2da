"""Kafka and PostgreSQL for `xinstruct demo --kafka`: started by the scripts in tools/, names of their own a run."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from xinstruct.cli.demo.plan import KAFKA_PORT
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.sql import open_engine

POSTGRES = "postgresql+psycopg://xinstruct@127.0.0.1:15432"


@dataclass(frozen=True, slots=True)
class Servers:
    """Where a run's records and rows stand. `prefix` keeps its topics and groups apart from other runs'."""

    bootstrap: str
    prefix: str
    database_url: str


def start_servers() -> Servers:
    """Servers that answer, with an empty database. Unavailable when one cannot be started."""
    tools = Path(__file__).resolve().parents[4] / "tools"
    for script in (tools / "kafka" / "up.sh", tools / "postgres" / "up.sh"):
        # Output goes to a file that nobody waits for: a server that stays would hold a pipe open for ever.
        done = subprocess.run(["bash", str(script)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Unavailable(f"{script.parent.name} does not start, see above")
    name = f"demo_{time.time_ns() // 1_000_000:x}"
    engine = open_engine(f"{POSTGRES}/postgres").execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    engine.dispose()
    return Servers(f"127.0.0.1:{KAFKA_PORT}", f"{name}.", f"{POSTGRES}/{name}")
