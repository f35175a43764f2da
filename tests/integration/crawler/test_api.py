"""CrawlerService over a real channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from integration.crawler.loopback import Crawl, Site, crawling, serving
from xinstruct.spine.errors import Invalid
from xinstruct.spine.rpc import RpcSettings, Server
from xinstruct.v1 import crawler_service_pb2 as pb
from xinstruct.v1 import crawler_service_pb2_grpc, messages_pb2

ADD = messages_pb2.CRAWL_ACTION_ADD
PAUSE = messages_pb2.CRAWL_ACTION_PAUSE
RESUME = messages_pb2.CRAWL_ACTION_RESUME
REMOVE = messages_pb2.CRAWL_ACTION_REMOVE
URL = messages_pb2.SOURCE_KIND_URL
JSONL = messages_pb2.SOURCE_KIND_JSONL


@dataclass
class Service:
    """A served crawler and its stub."""

    stub: Any
    crawl: Crawl
    site: Site

    def submit(self, request_id="r", **fields):
        fields = {"action": ADD, "kind": URL, **fields}
        return self.stub.SubmitCrawl(pb.SubmitCrawlRequest(request_id=request_id, **fields), timeout=10).source_id

    def get(self, source_id):
        return self.stub.GetSource(pb.GetSourceRequest(source_id=source_id), timeout=10)


@pytest.fixture
def service(tmp_path) -> Iterator[Service]:
    with serving() as site, crawling(tmp_path, site) as crawl:
        server = Server(RpcSettings(port=0), crawl.app.servicers)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Service(crawler_service_pb2_grpc.CrawlerServiceStub(channel), crawl, site)
        server.stop(1.0)


def check_refused(service, code, message, **fields):
    with pytest.raises(grpc.RpcError) as error:
        service.submit(**fields)
    assert error.value.code() is code
    assert message in error.value.details()


def test_a_source_is_added_once_and_seen_to_its_end(service):
    service.site.answers["/1"] = "<p>lyhyt</p>"
    first = service.submit(location=service.site.url("/1"))
    assert service.submit(location=service.site.url("/1")) == first
    service.crawl.fetch()
    found = service.get(first)
    assert (found.location, found.state, found.pages_known, found.pages_fetched, found.pages_waiting) == (
        service.site.url("/1"), "done", 1, 1, 0,
    )
    assert service.site.asked.count("/1") == 1


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("request_id", {"request_id": "", "location": "http://127.0.0.1/"}),
        ("request_id", {"request_id": "x" * 101, "location": "http://127.0.0.1/"}),
        ("http", {"location": "ftp://example.org/"}),
        ("action is one of ADD", {"action": 0}), ("kind is one of URL", {"kind": 0, "location": "http://x.example/"}),
        ("location is", {"kind": JSONL, "location": " "}),
        ("declared_language", {"location": "http://x.example/", "declared_language": "xx"}),
        ("host", {"location": "http://127.0.0.1/", "hosts": ["not a host"]}),
        ("contact_url", {"location": "http://x.example/"}),
        ("download it first", {"kind": JSONL, "location": "https://127.0.0.1:9/rows.jsonl"}),
        ("a path, file://", {"kind": JSONL, "location": "ftp://x.example/rows.jsonl"}),
    ],
)
def test_a_malformed_command_is_refused_with_what_to_change(service, message, fields):
    check_refused(service, grpc.StatusCode.INVALID_ARGUMENT, message, **{"location": "", **fields})


def test_steering_an_unknown_source_finds_none(service):
    check_refused(service, grpc.StatusCode.NOT_FOUND, "no source", action=PAUSE, location="http://x.example/")
    with pytest.raises(grpc.RpcError) as error:
        service.get("none")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_source_is_steered_by_id_or_location(service):
    location = service.site.url("/1")
    source_id = service.submit(location=location)
    service.crawl.app.loops[0].step()
    assert service.submit("p", action=PAUSE, location=location) == source_id
    service.crawl.app.loops[0].step()
    assert service.get(source_id).state == "paused"
    assert service.submit("q", action=PAUSE, location=source_id) == source_id


def test_a_removed_source_is_neither_paused_nor_resumed(service):
    location = service.site.url("/1")
    source_id = service.submit(location=location)
    service.crawl.app.loops[0].step()
    service.submit("d", action=REMOVE, location=location)
    service.crawl.app.loops[0].step()
    for action in (PAUSE, RESUME):
        check_refused(service, grpc.StatusCode.FAILED_PRECONDITION, "is removed", action=action, location=location)
    assert service.submit("e", action=REMOVE, location=location) == source_id


def test_commands_that_wait_are_counted_until_they_are_applied(service):
    def waiting():
        return service.stub.ListSources(pb.ListSourcesRequest(), timeout=10).commands_waiting

    for number in range(2):
        service.submit(f"r{number}", location=service.site.url(f"/{number}"))
    assert waiting() == 2
    service.crawl.app.loops[0].step()
    assert waiting() == 0


def test_sources_are_listed_in_pages(service):
    ids = sorted(service.submit(f"r{number}", location=service.site.url(f"/{number}")) for number in range(5))
    service.crawl.app.loops[0].step()
    listed, token = [], ""
    while True:
        page = service.stub.ListSources(pb.ListSourcesRequest(page_size=2, page_token=token), timeout=10)
        listed += [source.source_id for source in page.sources]
        token = page.next_page_token
        if not token:
            break
    assert listed == ids


def test_a_watch_shows_every_source_once_then_changes_and_resumes_by_token(service):
    source_id = service.submit(location=service.site.url("/1"))
    service.crawl.app.loops[0].step()
    events = service.stub.WatchSources(pb.WatchSourcesRequest())
    first = next(events)
    assert (first.source.source_id, first.source.state) == (source_id, "active")
    service.crawl.fetch()
    assert next(events).source.pages_fetched == 1
    events.cancel()
    resumed = service.stub.WatchSources(pb.WatchSourcesRequest(page_token=first.page_token))
    assert next(resumed).source.pages_fetched == 1
    resumed.cancel()


@pytest.mark.parametrize("token", ["x", "²", "7", "9" * 5000])
def test_a_malformed_watch_token_is_refused(service, token):
    events = service.stub.WatchSources(pb.WatchSourcesRequest(page_token=token))
    with pytest.raises(grpc.RpcError) as error:
        next(events)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("host", "listed"),
    [("localhost:9", "localhost:9"), ("127.0.0.1", "127.0.0.1:80"),
     ("[::1]:9", "::1:9"), ("x.localhost", "x.localhost:80")],
)
def test_a_private_address_that_is_not_listed_is_refused_with_the_setting_to_change(tmp_path, host, listed):
    with crawling(tmp_path, contact_url="https://example.org/bot") as crawl:
        request = pb.SubmitCrawlRequest(request_id="r", action=ADD, kind=URL, location=f"http://{host}/")
        with pytest.raises(Invalid) as error:
            crawl.app.servicers[0].servicer.SubmitCrawl(request, None)
    assert f"is a private address: list {listed} in crawler.fetch.private_hosts_allowed" in error.value.message
