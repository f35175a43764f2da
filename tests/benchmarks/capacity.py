"""What one admitted document costs each service, Kafka and PostgreSQL: CPU seconds and bytes, the input of sizing.py.

Every service is a process of its own over a real broker and a real database, and asks a model server over HTTP. CPU
time of processes is counted, not the clock: a busy machine makes the run longer and the figures hardly larger. What a
service spends at rest, in the same time, is taken off and told beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

import servers
from benchmarks.figure import Measured
from benchmarks.pages import PAGE_BYTES, bodies
from integration.crawler.loopback import Site, serving
from xinstruct.cli.client import LONG_DEADLINE_S, Client, connect_to
from xinstruct.cli.factory import Factory, Member
from xinstruct.cli.look import Snapshot, take_snapshot
from xinstruct.settings import load_settings
from xinstruct.v1 import crawler_service_pb2, curation_service_pb2, messages_pb2

SERVICES = ("crawler", "backgen", "scoring-a", "scoring-b", "training", "curation")
WARM_PAGES = 40
ROUND_PAGES = 200
ROUNDS = 5
PAGES_MAX = WARM_PAGES + ROUNDS * ROUND_PAGES
TEXTS_PER_PAGE = 2
"""Three are longer than a document may be."""
REST_S = 20.0
LOOK_S = 4.0
"""Seldom: the catalog counts its rows for every look."""
IDLE_LOOKS = 3
IDLE_S_MAX = 900.0


@dataclass(frozen=True)
class Spent:
    """CPU seconds of each process tree, and when."""

    cpu_s: Mapping[str, float]
    moment_s: float


def figures(folder: Path) -> Iterator[Measured]:
    """A figure a service and a store; the largest of the rounds counts."""
    with _running(folder) as bench:
        bench.crawl("warm", WARM_PAGES)
        bench.await_idle()
        before = bench.spent()
        _rest()
        resting = _rates(before, bench.spent())
        rounds, kept = [], bench.counts()
        bytes_before = bench.bytes()
        for number in range(ROUNDS):
            rounds.append(_round(bench, f"round{number}", resting))
        documents = bench.counts()["documents_admitted"] - kept["documents_admitted"]
        for name in rounds[0]:
            yield Measured(
                f"cpu_s_per_document_{name}", max(one[name] for one in rounds), [one[name] for one in rounds],
                {"cores_at_rest": round(resting[name], 4)},
            )
        for name, size in bench.bytes().items():
            yield Measured(
                f"bytes_per_document_{name}", (size - bytes_before[name]) / documents, [],
                {"documents": documents, "pages": ROUNDS * ROUND_PAGES, "page_bytes": PAGE_BYTES},
            )
        yield _release(bench)


def _round(bench: _Bench, name: str, resting: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds a document, of each process, while so many pages become scored pairs."""
    count, before = bench.counts(), bench.spent()
    bench.crawl(name, ROUND_PAGES)
    bench.await_idle()
    after = bench.spent()
    documents = bench.counts()["documents_admitted"] - count["documents_admitted"]
    drafted = bench.counts()["pairs_drafted"] - count["pairs_drafted"]
    dropped = dict(take_snapshot(bench.client).funnel.dropped)
    assert documents >= 0.8 * ROUND_PAGES and drafted >= 0.9 * documents, (documents, drafted, dropped)
    passed_s = after.moment_s - before.moment_s
    return {
        key: max(after.cpu_s[key] - before.cpu_s[key] - resting[key] * passed_s, 0.0) / documents
        for key in after.cpu_s
    }


def _release(bench: _Bench) -> Measured:
    before = bench.spent().cpu_s["curation"]
    asked = curation_service_pb2.PublishReleaseRequest(request_id="bench", name="bench")
    release = bench.client.ask(bench.client.curation.PublishRelease, asked, deadline_s=LONG_DEADLINE_S)
    spent_s = bench.spent().cpu_s["curation"] - before
    return Measured("cpu_s_per_published_row", spent_s / release.pairs_count, [], {"rows": release.pairs_count})


def _rest() -> None:
    """Let REST_S pass: what the services spend meanwhile is what is measured."""
    end_s = time.monotonic() + REST_S
    while time.monotonic() < end_s:
        time.sleep(LOOK_S)


def _rates(before: Spent, after: Spent) -> dict[str, float]:
    passed_s = after.moment_s - before.moment_s
    return {name: (after.cpu_s[name] - before.cpu_s[name]) / passed_s for name in after.cpu_s}


@dataclass(frozen=True)
class _Bench:
    """Everything at work, and how to ask it."""

    site: Site
    client: Client
    processes: Mapping[str, psutil.Process]
    database: sa.Engine
    folders: Mapping[str, Path]
    pages: Iterator[bytes]

    def crawl(self, name: str, count: int) -> None:
        """Ask for so many pages that were never there before."""
        paths = []
        for number, body in enumerate(islice(self.pages, count)):
            paths.append(f"/{name}/{number}")
            self.site.answers[paths[-1]] = body
        urls = "".join(f"<url><loc>{self.site.url(path)}</loc></url>" for path in paths)
        self.site.answers[f"/{name}.xml"] = f"<urlset>{urls}</urlset>"
        request = crawler_service_pb2.SubmitCrawlRequest(
            request_id=name, action=messages_pb2.CRAWL_ACTION_ADD, kind=messages_pb2.SOURCE_KIND_SITEMAP,
            location=self.site.url(f"/{name}.xml"),
        )
        self.client.ask(self.client.crawler.SubmitCrawl, request)

    def await_idle(self) -> None:
        """Until every page that is on the site was fetched and several looks in a row find nothing to do."""
        give_up_s, idle = time.monotonic() + IDLE_S_MAX, 0
        wanted = sum(not path.endswith(".xml") for path in self.site.answers)
        while idle < IDLE_LOOKS:
            assert time.monotonic() < give_up_s, f"not idle after {IDLE_S_MAX:g} s: {self.counts()}"
            time.sleep(LOOK_S)
            now = take_snapshot(self.client)
            idle = idle + 1 if now.idle and _counts(now)["pages_fetched"] >= wanted else 0

    def counts(self) -> dict[str, int]:
        """The funnel, all languages."""
        return _counts(take_snapshot(self.client))

    def spent(self) -> Spent:
        """CPU of every process tree until now; the crawler's workers, which parse, apart."""
        spent = {}
        for name, process in self.processes.items():
            own_s, below_s = _tree_s(process)
            if name == "crawler":
                spent |= {"crawler": own_s, "crawler workers": below_s}
            else:
                spent[name] = own_s + below_s
        return Spent(spent, time.monotonic())

    def bytes(self) -> dict[str, int]:
        """What each store holds."""
        with self.database.connect() as connection:
            database = connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
        found = {name: sum(file.stat().st_size for file in folder.rglob(pattern) if file.is_file())
                 for name, (folder, pattern) in {
                     "kafka": (self.folders["kafka"], "*.log"), "blobs": (self.folders["blobs"], "*")}.items()}
        return {"postgres": int(database), **found}


def _counts(snapshot: Snapshot) -> dict[str, int]:
    names = ("pages_fetched", "documents_admitted", "pairs_drafted", "pairs_scored")
    return {name: sum(getattr(row, name) for row in snapshot.funnel.languages) for name in names}


def _tree_s(process: psutil.Process) -> tuple[float, float]:
    """CPU of a process, and of its descendants: those at work, and those that have ended and were waited for."""
    times = process.cpu_times()
    below_s = times.children_user + times.children_system
    for member in process.children(recursive=True):
        try:
            own = member.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it has just ended: its parent has its time
        below_s += own.user + own.system + own.children_user + own.children_system
    return times.user + times.system, below_s


@contextmanager
def _running(folder: Path) -> Iterator[_Bench]:
    """A site, a model server, a broker and a database of their own, and every service in a process."""
    with ExitStack() as stack:
        site = stack.enter_context(serving())
        models = servers.free_port()
        server = subprocess.Popen([sys.executable, "-m", "benchmarks.model_server", str(models)])
        stack.callback(server.wait)
        stack.callback(server.terminate)
        kafka_port = servers.free_port()
        bootstrap = stack.enter_context(servers.own_kafka(folder / "kafka", kafka_port))
        postgres = stack.enter_context(servers.postgres(folder / "postgres"))
        url = stack.enter_context(servers.postgres_database(postgres))
        database = sa.create_engine(url)
        stack.callback(database.dispose)
        members = _members(folder, site, models=models, bootstrap=bootstrap, database_url=url)
        factory = Factory(members, folder / "logs")
        stack.callback(factory.stop)
        factory.spawn_all()
        factory.await_all()
        client = stack.enter_context(connect_to(load_settings(members[0].config), patience_s=60.0))
        ports = {member.name: member.port for member in members}
        ports |= {"kafka": kafka_port, "postgres": sa.make_url(url).port or 0}
        yield _Bench(
            site, client, {name: _listener(port) for name, port in ports.items()}, database,
            {"kafka": folder / "kafka" / "data" / "logs", "blobs": folder / "home" / "blobs"},
            bodies(PAGES_MAX, TEXTS_PER_PAGE),
        )


def _listener(port: int) -> psutil.Process:
    """The process that listens on the port; of those that share it, the oldest."""
    found = {one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}
    return min((psutil.Process(pid) for pid in found if pid), key=lambda process: process.create_time())


def _members(folder: Path, site: Site, *, models: int, bootstrap: str, database_url: str) -> list[Member]:
    ports = {name: servers.free_port() for name in SERVICES}
    endpoint = {"kind": "openai", "url": f"http://127.0.0.1:{models}/v1"}
    fetch = {"private_hosts_allowed": [site.host], "host_delay_ms": 0, "host_requests_max": 16}
    common: dict[str, Any] = {
        "home": str(folder / "home"), "log": {"kind": "kafka", "bootstrap_servers": bootstrap},
        "database_url": database_url, "addresses": {name: f"127.0.0.1:{port}" for name, port in ports.items()},
        "inference": {"generator": endpoint, "evaluator": endpoint}, "crawler": {"fetch": fetch},
    }
    made = []
    for name, port in ports.items():
        file = folder / f"{name}.yaml"
        file.write_text(json.dumps({**common, "instance": f"{name}-0", "rpc": {"port": port}}), "utf-8")
        made.append(Member(name, (name,), file, port))
    return made
