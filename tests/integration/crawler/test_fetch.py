"""One request over a real socket: bounds, encodings, addresses."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress

import brotli
import pytest
from aiohttp import web

from integration.crawler.loopback import Site, serving
from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.domain import FetchFailure
from xinstruct.crawler.fetch import Answer, Fetcher, Request


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as started:
        yield started


@pytest.fixture(scope="module")
def fetcher(site: Site) -> Iterator[Fetcher]:
    started = Fetcher(settings(site))
    yield started
    started.close()


def settings(site, **fields):
    allowed = (site.host, f"localhost:{site.port}")
    return FetchSettings(**{"private_hosts_allowed": allowed, "timeout_s": 0.5, "body_bytes_max": 10_000, **fields})


def get(fetcher, site, answer, **fields) -> Answer:
    site.answers["/x"] = answer
    return fetcher.get(Request(site.url("/x"), **fields))


def encoded(body, encoding):
    return lambda request: web.Response(body=body, headers={"Content-Encoding": encoding, "Content-Type": "text/html"})


def test_body_status_and_headers_come_back(fetcher, site):
    answer = get(fetcher, site, lambda request: web.Response(
        status=203, text="hei", headers={"X-Robots-Tag": "noai", "Set-Cookie": "a=b", "ETag": '"1"'}
    ))
    assert (answer.status, answer.body, answer.failure) == (203, b"hei", "")
    assert (answer.header("x-robots-tag"), answer.header("etag"), answer.header("set-cookie")) == ("noai", '"1"', "")


def test_repeated_headers_are_all_kept(fetcher, site):
    def answer(request):
        response = web.Response(text="x")
        response.headers.add("X-Robots-Tag", "otherbot: noindex")
        response.headers.add("X-Robots-Tag", "noai")
        return response

    assert get(fetcher, site, answer).headers["x-robots-tag"] == ("otherbot: noindex", "noai")


def test_we_say_who_we_are_and_send_no_cookies(site):
    started = Fetcher(settings(site, agent_name="testbot", contact_url="https://example.org/bot"))
    get(started, site, "x")
    started.close()
    assert site.headers[-1]["User-Agent"] == "testbot/1 (+https://example.org/bot)"
    assert "Cookie" not in site.headers[-1]


def test_a_conditional_request_names_what_is_known(fetcher, site):
    answer = get(fetcher, site, lambda request: web.Response(status=304), etag='"1"', last_modified="yesterday")
    assert answer.status == 304
    assert (site.headers[-1]["If-None-Match"], site.headers[-1]["If-Modified-Since"]) == ('"1"', "yesterday")


@pytest.mark.parametrize(
    ("pack", "encoding"),
    [(gzip.compress, "gzip"), (brotli.compress, "br"), (zlib.compress, "deflate"), (lambda body: body, "identity")],
)
def test_compressed_bodies_are_unpacked(fetcher, site, pack, encoding):
    assert get(fetcher, site, encoded(pack(b"hei " * 100), encoding)).body == b"hei " * 100


@pytest.mark.parametrize(("pack", "encoding"), [(gzip.compress, "gzip"), (brotli.compress, "br")])
def test_a_decompression_bomb_is_cut_off(fetcher, site, pack, encoding):
    answer = get(fetcher, site, encoded(pack(b"\0" * 50_000_000), encoding))
    assert (answer.failure, answer.body) == (FetchFailure.DECOMPRESSION_BOMB, b"")


@pytest.mark.parametrize(("body", "encoding"), [(b"not packed", "gzip"), (b"not packed", "br"), (b"x", "klingon"),
                                                (gzip.compress(b"hei " * 100, mtime=0)[:-20], "gzip")])
def test_broken_or_unknown_encodings_are_failures(fetcher, site, body, encoding):
    assert get(fetcher, site, encoded(body, encoding)).failure == FetchFailure.ENCODING_BROKEN


def test_a_body_beyond_the_limit_is_cut_off(fetcher, site):
    assert get(fetcher, site, b"x" * 10_000).failure == ""
    assert get(fetcher, site, b"x" * 10_001).failure == FetchFailure.TOO_LARGE


def test_an_endless_body_is_cut_off(fetcher, site):
    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 5_000)
        except (ConnectionError, asyncio.CancelledError):
            return response

    assert get(fetcher, site, endless).failure == FetchFailure.TOO_LARGE


def test_closing_tells_those_who_wait_and_those_who_come_late(site):
    asked = threading.Event()

    async def never(request):
        asked.set()
        await asyncio.Event().wait()

    site.answers["/"] = never
    closing = Fetcher(FetchSettings(private_hosts_allowed=(site.host,)))
    waiting = closing.submit(Request(site.url("/")))
    asked.wait()
    closing.close()
    for answer in (waiting, closing.submit(Request(site.url("/")))):
        with pytest.raises(CancelledError):
            answer.result(timeout=5)


def test_a_slow_answer_is_given_up(fetcher, site):
    async def slow(request):
        await asyncio.Event().wait()

    assert get(fetcher, site, slow).failure == FetchFailure.TIMEOUT


def failure_of(answers, *, timeout_s) -> str:
    """Of one request to a server that takes what is asked and sends `answers`, until the client is gone."""
    def serve(listener):
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65_536)
            for part in answers:
                connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        started = Fetcher(FetchSettings(private_hosts_allowed=(host,), timeout_s=timeout_s))
        failure = started.get(Request(f"http://{host}/")).failure
        started.close()
    return failure


@pytest.mark.parametrize("start", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;",
])
def test_an_answer_that_comes_byte_by_byte_is_given_up(start):
    """Each byte is in time; the whole is not."""
    given_up = threading.Event()

    def drip():
        yield start
        while not given_up.wait(0.02):
            yield b"x"

    assert failure_of(drip(), timeout_s=0.5) == FetchFailure.TIMEOUT
    given_up.set()


@pytest.mark.parametrize("flood", [b"X: " + b"a" * 4_000 + b"\r\n", b"x" * 65_536])
def test_headers_without_end_are_given_up(flood):
    pour = itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(flood))
    assert failure_of(pour, timeout_s=20) == FetchFailure.MALFORMED_ANSWER


def test_redirects_are_answers_and_not_followed(fetcher, site):
    answer = get(fetcher, site, lambda request: web.Response(status=302, headers={"Location": "http://10.0.0.1/"}))
    assert (answer.status, answer.header("location")) == (302, "http://10.0.0.1/")


def test_a_refused_connection_is_a_failure(fetcher):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Fetcher(FetchSettings(private_hosts_allowed=(f"127.0.0.1:{port}",)))
    assert started.get(Request(f"http://127.0.0.1:{port}/")).failure == FetchFailure.CONNECTION_FAILED
    started.close()


def test_an_answer_that_is_no_http_is_a_failure(fetcher):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        started = Fetcher(FetchSettings(private_hosts_allowed=(f"127.0.0.1:{port}",), timeout_s=2))
        pending = started.submit(Request(f"http://127.0.0.1:{port}/"))
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b"SSH-2.0-hello\r\n\r\n")
        connection.close()
        assert pending.result().failure in (FetchFailure.MALFORMED_ANSWER, FetchFailure.CONNECTION_FAILED)
        started.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "127.1", "2130706433", "0x7f.1", "0.0.0.0"])
def test_private_hosts_that_are_not_listed_are_not_asked(site, host):
    site.asked.clear()
    started = Fetcher(FetchSettings(contact_url="https://example.org/bot", timeout_s=2))
    answer = started.get(Request(f"http://{host}:{site.port}/x"))
    started.close()
    assert (answer.status, site.asked) == (0, [])
    assert answer.failure


def test_a_listed_pair_allows_no_other_port_or_name(site):
    started = Fetcher(FetchSettings(contact_url="https://example.org/bot", private_hosts_allowed=("127.0.0.1:1",)))
    assert started.get(Request(site.url("/x"))).failure == FetchFailure.PRIVATE_ADDRESS
    started.close()


def test_a_name_that_leads_to_loopback_is_checked_after_dns(site):
    allowed = Fetcher(settings(site))
    site.answers["/x"] = "x"
    assert allowed.get(Request(f"http://localhost:{site.port}/x")).body == b"x"
    allowed.close()
    refused = Fetcher(FetchSettings(contact_url="https://example.org/bot"))
    assert refused.get(Request(f"http://localhost:{site.port}/x")).failure == FetchFailure.PRIVATE_ADDRESS
    refused.close()


def test_without_a_contact_no_public_host_is_asked():
    started = Fetcher(FetchSettings())
    assert started.get(Request("http://example.org/")).failure == FetchFailure.HOST_NOT_LISTED
    started.close()


@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120.0), ("", None), ("soon", None), ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
                           ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("-5", None)],
)
def test_retry_after_is_seconds_or_a_date(value, seconds):
    assert Answer("u", headers={"retry-after": (value,)}).retry_after_s(now_ms=10_000) == seconds


def test_header_bytes_that_are_no_text_become_text():
    """A lone surrogate could be written to no table and no message."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nETag: \"\xe9\"\r\nContent-Length: 2\r\n\r\nok")

        threading.Thread(target=answer, daemon=True).start()
        started = Fetcher(FetchSettings(private_hosts_allowed=(host,)))
        found = started.get(Request(f"http://{host}/"))
        started.close()
    assert (found.header("etag"), found.body) == ('"\ufffd"', b"ok")
