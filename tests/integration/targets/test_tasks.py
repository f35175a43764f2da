"""What is done once before an installation or upgrade, as its own process, against real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient

import servers
from xinstruct.__main__ import EXIT_OK, EXIT_REFUSED
from xinstruct.spine.topics import TOPICS


def run(task: str, tmp_path: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings), "utf-8")
    command = [sys.executable, "-m", "xinstruct", task, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.postgres
def test_migrate_brings_an_empty_database_to_the_schema_and_leaves_a_new_one_alone(
    postgres_url: str, tmp_path: Path
) -> None:
    with servers.postgres_database(postgres_url) as url:
        first, second = (run("migrate", tmp_path, database_url=url) for _ in range(2))
        assert (first.returncode, second.returncode) == (EXIT_OK, EXIT_OK), first.stderr + second.stderr
        engine = sa.create_engine(url)
        assert {"alembic_version", "models", "pages"} <= set(sa.inspect(engine).get_table_names())
        engine.dispose()


def test_migrate_says_that_the_database_does_not_answer(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://xinstruct@127.0.0.1:{servers.free_port()}/none"
    done = run("migrate", tmp_path, database_url=url)
    assert done.returncode == EXIT_REFUSED
    assert "the database does not answer or cannot write" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.postgres
def test_migrate_says_that_a_database_takes_no_writes_as_during_a_failover(postgres_url: str, tmp_path: Path) -> None:
    with servers.postgres_database(postgres_url) as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            name = engine.url.database
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        engine.dispose()
        done = run("migrate", tmp_path, database_url=url)
    assert done.returncode == EXIT_REFUSED
    assert "read-only transaction" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.kafka
def test_topics_makes_those_that_are_missing_where_services_expect_them(kafka_bootstrap: str, tmp_path: Path) -> None:
    with servers.kafka_prefix(kafka_bootstrap) as prefix:
        log = {"kind": "kafka", "bootstrap_servers": kafka_bootstrap, "prefix": prefix, "topics": "expect"}
        first, second = (run("topics", tmp_path, log=log) for _ in range(2))
        assert (first.returncode, second.returncode) == (EXIT_OK, EXIT_OK), first.stderr + second.stderr
        admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
        made = {name for name in admin.list_topics() if name.startswith(prefix)}
        admin.close()
        assert made == {prefix + name for name in TOPICS}
