"""`xinstruct up` on a site that changes while it is crawled: added, edited, removed and newly refused pages.

The command is the real one, in a process of its own, over HTTP with polled feeds and a polled sitemap and the SQLite
log. Only the models are fakes: `kind: scripted`, bound by the configuration. XINSTRUCT_TRAINED=RUN takes the models
that a finished `xinstruct demo --out RUN` has trained instead: so the times were measured.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
import pytest

from servers import free_port
from xinstruct.cli.client import Client, connect_to
from xinstruct.cli.main import main
from xinstruct.microworld.site import SiteConfig
from xinstruct.microworld.site_files import feed_path, sitemap_path
from xinstruct.microworld.site_server import Handle, ServerConfig, start_in_thread
from xinstruct.settings import load_settings
from xinstruct.spine import registry
from xinstruct.spine.errors import NotFound, Unavailable
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.sql import open_engine
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED, Topic
from xinstruct.targets import now_ms
from xinstruct.v1 import crawler_service_pb2, curation_service_pb2, messages_pb2, training_service_pb2

POLL_INTERVAL_S = 5
START_S_MAX = 180.0
"""Starting and the first pages, on a machine that has much else to do."""
SCORED_S_MAX = 60.0
DRAIN_S_MAX = 10.0
SITE = SiteConfig(seed=60_613, languages=("sw",), pages_per_language=60, slow_s=0.0, padding_bytes=6_000_000)

TRAINED = os.environ.get("XINSTRUCT_TRAINED", "")

FoundT = TypeVar("FoundT")


@dataclass(frozen=True)
class Running:
    """The command at work on the site."""

    site: Handle
    client: Client
    config: Path

    def rows(self, url: str) -> list[curation_service_pb2.Row]:
        """Rows of the catalog whose response stands at `url` and that were scored."""
        request = curation_service_pb2.ListRowsRequest(page_size=1000)
        rows = self.client.pages(self.client.curation.ListRows, request, items="rows")
        return [row for row in rows if row.pair.url == url and row.scores]

    def publish(self, name: str) -> set[str]:
        """Publish a release; the URLs in its files."""
        request = curation_service_pb2.PublishReleaseRequest(request_id=name, name=name)
        release = self.client.ask(self.client.curation.PublishRelease, request, deadline_s=SCORED_S_MAX)
        files = sorted((Path(release.location) / "data").rglob("*.parquet"))
        return {str(url) for file in files for url in pq.read_table(file, columns=["url"])["url"].to_pylist()}

    def last_values(self, topic: Topic) -> dict[str, bytes | None]:
        """Key → last value in the log, None where it is a tombstone."""
        log = SqliteLog(self.config.parent / "home" / "log.sqlite", now_ms)
        try:
            return {record.key: record.value for record in log.read(topic, {})}
        finally:
            log.close()

    def why(self, url: str, capsys: pytest.CaptureFixture[str]) -> str:
        """What `xinstruct why` prints."""
        assert main(["why", url, "--config", str(self.config)]) == 0
        return capsys.readouterr().out

    def path(self, url: str) -> str:
        return url.removeprefix(self.site.origin)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The site and `xinstruct up` on it, its first pages scored."""
    folder = tmp_path_factory.mktemp("streaming")
    site = start_in_thread(ServerConfig(SITE, port=0))
    config = folder / "xinstruct.yaml"
    config.write_text(json.dumps(settings(site, free_port())), "utf-8")
    command = [sys.executable, "-m", "xinstruct.cli.main", "up", "--plain", "--config", str(config)]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with connect_to(load_settings(config)) as client:
            begin(client, site)
            yield Running(site, client, config)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DRAIN_S_MAX) == 0, (folder / "up.log").read_text("utf-8")[-4000:]
    finally:
        process.kill()
        process.wait()
        site.stop()


@pytest.fixture(scope="module")
def published(running: Running) -> list[str]:
    """URLs of the first release, sorted; every test changes one of its own."""
    urls = sorted(running.publish("first"))
    assert len(urls) >= 3
    return urls


def settings(site: Handle, port: int) -> dict[str, Any]:
    """The configuration; whatever the models think of a pair, it is published."""
    kind, family = ("local", "tiny") if TRAINED else ("scripted", "chat")
    model, asked = {"kind": kind}, {"prompt_family": family}
    host = site.origin.removeprefix("http://")
    fetch = {"private_hosts_allowed": [host], "host_delay_ms": 0, "host_requests_max": 8, "retry_delay_ms": 50}
    return {
        "home": "home", "rpc": {"port": port}, "inference": {"generator": model, "evaluator": model},
        "backgen": asked, "scoring": asked, "training": {"generator": asked, "evaluator": asked},
        "crawler": {"fetch": fetch, "languages": ["sw"], "extract_workers_count": 1},
        "curation": {"best_threshold": 0.0},
    }


def begin(client: Client, site: Handle) -> None:
    """Put the models to use, add one site by its sitemap and the others by their feeds, await the first scores."""
    until(lambda: answers(client), START_S_MAX)
    for role in ("generator", "evaluator"):
        request = training_service_pb2.RegisterModelRequest(role=role, location=location(role))
        model = client.ask(client.training.RegisterModel, request)
        promotion = training_service_pb2.PromoteModelRequest(role=role, model_digest=model.model_digest)
        client.ask(client.training.PromoteModel, promotion)
    mapped, *fed = site.live.hosts
    add(client, "SOURCE_KIND_SITEMAP", site.origin + sitemap_path(mapped))
    for host in fed:
        add(client, "SOURCE_KIND_FEED", site.origin + feed_path(host))
    wanted = sum(page["admissible"] for page in site.truth()) // 2
    until(lambda: scored(client) >= wanted, START_S_MAX)


def location(role: str) -> str:
    """What the model of a role is registered as."""
    if not TRAINED:
        return "endpoint:scripted"
    engine = open_engine(f"sqlite:///{Path(TRAINED) / 'home' / 'database.sqlite'}")
    model = registry.promoted(engine, role)
    engine.dispose()
    assert model is not None
    return model.location


def answers(client: Client) -> bool:
    """Whether the process serves."""
    try:
        scored(client)
    except Unavailable:
        return False
    return True


def scored(client: Client) -> int:
    """Pairs scored so far."""
    funnel = client.ask(client.curation.GetFunnel, curation_service_pb2.GetFunnelRequest())
    return sum(row.pairs_scored for row in funnel.languages)


def add(client: Client, kind: str, location: str) -> None:
    """Crawl a source again and again."""
    request = crawler_service_pb2.SubmitCrawlRequest(
        request_id=location, action=messages_pb2.CRAWL_ACTION_ADD, kind=messages_pb2.SourceKind.Value(kind),
        location=location, licence="CC0-1.0", poll_interval_s=POLL_INTERVAL_S,
    )
    client.ask(client.crawler.SubmitCrawl, request)


def until(found: Callable[[], FoundT], wait_s_max: float) -> FoundT:
    """What `found` returns once that is something; the process and the sites give no signal to wait for."""
    deadline_s = time.monotonic() + wait_s_max
    while not (value := found()):
        assert time.monotonic() < deadline_s, f"nothing within {wait_s_max:g} s"
        time.sleep(0.5)
    return value


@pytest.mark.slow
def test_a_new_page_is_scored_within_a_minute_whether_a_sitemap_or_a_feed_lists_it(running: Running) -> None:
    pages = [running.site.live.add("sw") for _ in running.site.live.hosts]
    urls = [running.site.origin + page.path for page in pages]
    assert len({page.site for page in pages}) == len(running.site.live.hosts)
    until(lambda: all(running.rows(url) for url in urls), SCORED_S_MAX)


@pytest.mark.slow
def test_an_edited_page_supersedes_its_document_pair_and_score(
    running: Running, published: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = published[0]
    (old,) = running.rows(url)
    running.site.live.edit(running.path(url))
    new = until(lambda: [row for row in running.rows(url) if row.pair.pair_id != old.pair.pair_id], SCORED_S_MAX)
    until(lambda: running.rows(url) == new, SCORED_S_MAX)
    with pytest.raises(NotFound):
        request = curation_service_pb2.GetRowRequest(pair_id=old.pair.pair_id)
        running.client.ask(running.client.curation.GetRow, request)
    keys = ((DOCUMENT_ADMITTED, old.pair.document_id), (PAIR_DRAFTED, old.pair.pair_id),
            *((PAIR_SCORED, score.score_id) for score in old.scores))
    until(lambda: all(running.last_values(topic).get(key, b"") is None for topic, key in keys), SCORED_S_MAX)
    assert running.last_values(PAIR_DRAFTED)[new[0].pair.pair_id]
    assert "superseded" in running.why(url, capsys)


@pytest.mark.slow
def test_a_removed_page_is_absent_from_the_next_release(
    running: Running, published: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = published[1]
    running.site.live.remove(running.path(url))
    until(lambda: not running.rows(url), SCORED_S_MAX)
    assert url not in running.publish("after-removal")
    story = running.why(url, capsys)
    assert "not fetched: gone" in story
    assert "superseded" in story


@pytest.mark.slow
def test_a_page_that_newly_refuses_is_absent_from_the_next_release(
    running: Running, published: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = published[2]
    running.site.live.opt_out(running.path(url))
    until(lambda: not running.rows(url), SCORED_S_MAX)
    assert url not in running.publish("after-refusal")
    story = running.why(url, capsys)
    assert "suppressed by a takedown" in story
    assert "reason=opt_out" in story
