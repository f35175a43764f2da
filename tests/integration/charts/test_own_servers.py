"""The scripts of the chart's own broker and database, run as their containers would run them, with other folders."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

import servers
from architecture.source import ROOT
from charts.rendering import Manifest, manifests, named, profile

START_S_MAX = 60
STARTS = 2
"""The first finds an empty volume, the second what the first left."""
PASSWORD = "a 'long' \\secret\\"


@pytest.fixture(scope="module")
def release() -> list[Manifest]:
    return manifests(profile("small"))


@pytest.mark.kafka
def test_the_own_broker_starts_on_an_empty_volume_and_keeps_what_is_there(
    release: list[Manifest], tmp_path: Path
) -> None:
    jars = ROOT / ".cache" / "kafka" / "libs"
    if not (jars / ".complete").exists():
        servers.absent("kafka", "its jars are not in this checkout: make kafka-up")
    port, controller = servers.free_port(), servers.free_port()
    places = {
        "/opt/kafka/libs": str(jars), "/etc/kafka": str(tmp_path), "/var/lib/kafka": str(tmp_path / "volume"),
        "try-xinstruct-kafka-0.try-xinstruct-kafka.lab.svc": "127.0.0.1", "9092": str(port), "9093": str(controller),
    }
    properties = named(release, "ConfigMap", "kafka")["data"]["server.properties"]
    (tmp_path / "server.properties").write_text(_placed(properties, places), "utf-8")
    for number in range(STARTS):
        with _running(_command(release, "kafka", places), tmp_path / "log", lambda: servers.listening(port)):
            admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
            assert ("kept" in admin.list_topics()) is bool(number)
            if not number:
                admin.create_topics([NewTopic("kept", num_partitions=1, replication_factor=1)])
            admin.close()


@pytest.mark.postgres
def test_the_own_database_is_made_once_asks_for_the_password_and_ends_at_once(release: list[Manifest]) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or (programs and programs[-1] / "initdb")
    if not found:
        servers.absent("postgres", "no initdb: on Debian or Ubuntu, apt-get install postgresql")
    port = servers.free_port()
    # initdb refuses root, so root's database belongs to another user, who may not see into pytest's folders.
    with tempfile.TemporaryDirectory(prefix="xinstruct-own-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        password = Path(folder) / "password"
        password.write_text(f"{PASSWORD}\n", "utf-8")
        password.chmod(0o644)
        places = {"/etc/postgres": folder, "=/tmp": f"={folder}", "listen_addresses='*'": f"port={port}"}
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        path = f"{Path(str(found)).parent}:{os.environ['PATH']}"
        variables = {"PGDATA": f"{folder}/data", "PGPORT": str(port), "PATH": path}
        (container,) = named(release, "StatefulSet", "postgres")["spec"]["template"]["spec"]["containers"]

        def ready() -> bool:
            probe = container["readinessProbe"]["exec"]["command"]
            return subprocess.run(probe, env=os.environ | variables, cwd=folder, check=False).returncode == 0

        for number in range(STARTS):
            command = [*user, *_command(release, "postgres", places)]
            with _running(command, Path(folder) / "log", ready, variables, cwd=folder) as process:
                assert _tables(port, PASSWORD) == (["kept"] if number else [])
                _no_superuser(port)
                with pytest.raises(sa.exc.OperationalError, match="password authentication failed"):
                    _tables(port, "a guess")
                ending = [*user, *container["lifecycle"]["preStop"]["exec"]["command"]]
                subprocess.run(ending, env=os.environ | variables, cwd=folder, check=True, capture_output=True)
                assert process.wait(timeout=10) == 0


def _tables(port: int, password: str) -> list[str]:
    """Names of the tables; makes one for the next look."""
    engine = _engine(port, "xinstruct", password)
    try:
        with engine.begin() as connection:
            names = sa.inspect(connection).get_table_names()
            connection.execute(sa.text("CREATE TABLE IF NOT EXISTS kept (id int)"))
        return names
    finally:
        engine.dispose()


def _no_superuser(port: int) -> None:
    """Whoever has the services' password runs no program beside the database, and nobody has the superuser's."""
    engine = _engine(port, "xinstruct", PASSWORD)
    with pytest.raises(sa.exc.ProgrammingError, match="pg_execute_server_program"), engine.begin() as connection:
        connection.execute(sa.text("COPY (SELECT 1) TO PROGRAM 'cat'"))
    engine.dispose()
    engine = _engine(port, "postgres", PASSWORD)
    with pytest.raises(sa.exc.OperationalError, match="password authentication failed"), engine.connect():
        pass
    engine.dispose()


def _engine(port: int, user: str, password: str) -> sa.Engine:
    return sa.create_engine(sa.URL.create("postgresql+psycopg", user, password, "127.0.0.1", port, "xinstruct"))


def _command(release: list[Manifest], name: str, places: Mapping[str, str]) -> list[str]:
    (container,) = named(release, "StatefulSet", name)["spec"]["template"]["spec"]["containers"]
    return [*container["command"], *(_placed(part, places) for part in container["args"])]


def _placed(text: str, places: Mapping[str, str]) -> str:
    for there, here in places.items():
        text = text.replace(there, here)
    return text


@contextmanager
def _running(
    command: list[str], log: Path, ready: Callable[[], bool], variables: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it is ready; ended as Kubernetes ends it."""
    with log.open("wb") as output:
        everything = os.environ | dict(variables or {})
        process = subprocess.Popen(
            command, env=everything, cwd=cwd, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline_s = time.monotonic() + START_S_MAX
        while not ready():
            assert process.poll() is None, log.read_text("utf-8")[-2000:]
            assert time.monotonic() < deadline_s, log.read_text("utf-8")[-2000:]
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
