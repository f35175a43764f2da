"""The variables that the chart gives its pods make the clients of PostgreSQL and S3 check certificates: real TLS."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

import servers
from certificates import Authority, authority
from charts.rendering import SERVICES, Manifest, Values, before_the_release, changed, manifests, named, profile
from xinstruct.spine.blobs import Blobs, digest_of
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.sql import open_engine

SECRETS = "/etc/xinstruct/secrets"
CONTENT = b"a body"
STANDARD = profile("standard")
STORE = changed(STANDARD, "objectStore.caSecret.name", "store-ca")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that the Secret holds."""
    return authority(tmp_path_factory.mktemp("ours") / "a")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another one."""
    return authority(tmp_path_factory.mktemp("foreign") / "a")


def variables(pod: Manifest, folder: str, authorities: Path) -> dict[str, str]:
    """What a pod's environment says that has nothing to do with other secrets, the mounted file put in its place."""
    (container,) = pod["spec"]["containers"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert f"{SECRETS}/{folder}" in mounts
    (volume,) = [item["secret"] for item in pod["spec"]["volumes"] if item["name"] == f"secret-{folder}"]
    (item,) = volume["items"]
    file = f"{SECRETS}/{folder}/{item['path']}"
    given = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    assert file in given.values()
    return {
        name: value.replace(file, str(authorities)) for name, value in given.items() if name.startswith(("PG", "AWS"))
    }


# ── PostgreSQL ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> Iterator[sa.URL]:
    """A server that shows a certificate of ours, for localhost and no other name."""
    with servers.own_postgres(tmp_path_factory.mktemp("postgres")) as (url, data):
        shown = ours.signed("database")
        for source, name in ((shown.certificate, "server.crt"), (shown.key, "server.key")):
            file = data / name
            file.write_bytes(source.read_bytes())
            file.chmod(0o600)
            os.chown(file, data.stat().st_uid, data.stat().st_gid)
        plain = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with plain.connect() as connection:
            connection.execute(sa.text("ALTER SYSTEM SET ssl = on"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        plain.dispose()
        yield sa.make_url(url)


def encrypted(url: sa.URL) -> bool:
    """Whether a connection is; OperationalError where there is none."""
    engine = open_engine(url.render_as_string(hide_password=False))
    try:
        with engine.connect() as connection:
            asked = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            return bool(connection.execute(asked).scalar_one())
    finally:
        engine.dispose()


def database_pods() -> list[Manifest]:
    """Of every service and of the Job that migrates."""
    items = manifests(STANDARD)
    owners = [*(named(items, "StatefulSet", service) for service in SERVICES), *before_the_release(items)]
    return [owner["spec"]["template"] for owner in owners]


@pytest.mark.postgres
@pytest.mark.parametrize("query", [{}, {"sslmode": "verify-full"}], ids=["no sslmode", "verify-full"])
def test_a_database_is_believed_by_its_certificate_and_name_and_by_nothing_else(
    database: sa.URL, ours: Authority, foreign: Authority, query: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {str(variables(pod, "database-ca", ours.own.certificate)): pod for pod in database_pods()}
    (pod,) = said.values()  # all pods have the same
    by_name = database.set(host="localhost", query=query)
    for name, value in variables(pod, "database-ca", ours.own.certificate).items():
        monkeypatch.setenv(name, value)
    assert encrypted(by_name)
    with pytest.raises(sa.exc.OperationalError, match="does not match host name"):
        encrypted(by_name.set(host="127.0.0.1"))
    for name, value in variables(pod, "database-ca", foreign.own.certificate).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(sa.exc.OperationalError, match="certificate verify failed"):
        encrypted(by_name)


# ── S3 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class OneObject(BaseHTTPRequestHandler):
    """A store that answers with the same object, whatever is asked for."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def store(shown: Authority) -> Iterator[str]:
    """Address of one that shows a certificate for localhost."""
    pair = shown.signed("store")
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneObject)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(values: Values, authorities: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a client with the variables of a service's pod gets; Unavailable when it gets nothing."""
    pod = named(manifests(values), "StatefulSet", "backgen")["spec"]["template"]
    given = variables(pod, "object-store-ca", authorities)
    for name, value in (given | {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}).items():
        monkeypatch.setenv(name, value)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()  # each reads the variables once
    return Blobs("s3://bucket/blobs").get(digest_of(CONTENT))


def test_an_object_store_is_believed_by_a_certificate_of_the_authority_that_is_named_and_no_other(
    ours: Authority, foreign: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store(ours) as endpoint:
        values = changed(STORE, "objectStore.endpointUrl", endpoint)
        assert fetched(values, ours.own.certificate, monkeypatch) == CONTENT
        with pytest.raises(Unavailable):
            fetched(values, foreign.own.certificate, monkeypatch)
