"""What a visit means: records, supersession, takedowns, links, retries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.domain import FetchFailure, Signal, opt_out
from xinstruct.crawler.settle import Found, Page, Source, Visit, settle
from xinstruct.crawler.tables import NEVER_MS
from xinstruct.spine.messages import TakedownKind

SETTINGS = FetchSettings(attempts_max=3, retry_delay_ms=1000, redirects_max=2)
SOURCE = Source("s", ("a.example",), depth_max=1)
PAGE = Page("http://a.example/1", "a.example", "s")
KNOWN = replace(PAGE, fetch_number=1, body_digest="sha256:old", outcome="other", etag='"e"')
NOAI = opt_out(Signal.ROBOTS_META, "noai", "meta")


def seen(**fields):
    return Visit(**{"status": 200, "content_type": "text/html", "body_digest": "sha256:new", "body_bytes": 5,
                    "end_time_ms": 10_000, **fields})


def settled(visit, page=PAGE, source=SOURCE):
    return settle(page, source, visit, SETTINGS)


def check(visit, *, failure, page=PAGE, superseded="", source=SOURCE):
    found = settled(visit, page, source)
    assert found.record is not None
    assert (found.record.failure, found.record.superseded_body_digest) == (failure, superseded)
    return found


def test_a_good_page_is_recorded_with_its_body():
    found = check(seen(etag='"x"', last_modified="yesterday"), failure="")
    assert (found.record.body_digest, found.record.fetch_number, found.counted) == ("sha256:new", 1, "fetched")
    assert (found.page.etag, found.page.last_modified, found.page.due_time_ms) == ('"x"', "yesterday", NEVER_MS)


def test_the_same_answer_again_makes_no_record():
    first = settled(seen())
    again = settled(seen(end_time_ms=20_000), first.page)
    assert again.record is None
    assert again.page.fetch_number == 2


def test_not_modified_makes_no_record_and_keeps_the_body():
    found = settled(seen(status=304, body_digest=""), KNOWN)
    assert (found.record, found.page.body_digest, found.counted) == (None, "sha256:old", "fetched")


def test_not_modified_that_opts_out_is_a_takedown():
    found = settled(seen(status=304, body_digest="", opt_outs=(NOAI,)), KNOWN)
    assert found.record.failure == "opted_out"
    assert found.takedown is not None


def test_an_edited_page_supersedes_its_old_body():
    found = check(seen(), failure="", page=KNOWN, superseded="sha256:old")
    assert (found.record.fetch_number, found.takedown) == (2, None)


@pytest.mark.parametrize("status", [404, 410])
def test_a_page_that_is_gone_supersedes_its_old_body(status):
    failure = "gone" if status == 410 else "http_error"
    found = check(seen(status=status, body_digest=""), failure=failure, page=KNOWN, superseded="sha256:old")
    assert found.page.body_digest == ""


@pytest.mark.parametrize("status", [500, 502, 403, 401])
def test_a_page_that_is_ill_keeps_its_old_body(status):
    found = check(seen(status=status, body_digest=""), failure="http_error", page=KNOWN)
    assert found.error == f"http://a.example/1: http_error (HTTP {status})"
    assert found.page.body_digest == "sha256:old"


def test_an_opt_out_stores_no_body_and_asks_for_no_takedown_of_what_was_never_used():
    found = check(seen(opt_outs=(NOAI,), body_digest=""), failure="opted_out")
    assert (found.record.body_digest, found.record.opt_outs, found.takedown) == ("", (NOAI,), None)
    assert found.counted == "denied"


@pytest.mark.parametrize("failure", [FetchFailure.OPTED_OUT, FetchFailure.DENIED_BY_ROBOTS])
def test_a_later_refusal_supersedes_and_takes_down(failure):
    found = check(Visit(failure=failure, end_time_ms=5), failure=failure, page=KNOWN, superseded="sha256:old")
    assert (found.takedown.kind, found.takedown.target, found.takedown.reason) == (
        TakedownKind.URL, PAGE.url, "opt_out",
    )


def test_an_unreachable_robots_txt_is_no_takedown_and_is_asked_again():
    visit = Visit(failure=FetchFailure.ROBOTS_UNREACHABLE, end_time_ms=5)
    found = check(visit, failure="robots_unreachable", page=KNOWN)
    assert found.takedown is None
    assert found.page.due_time_ms == 5 + SETTINGS.robots_retry_s * 1000


def test_a_redirect_is_recorded_and_its_target_is_visited():
    found = check(seen(status=301, location="/2", body_digest=""), failure="redirected")
    assert found.found == (Found("http://a.example/2", "page", 0, 1),)
    assert found.page.moved_to == "http://a.example/2"


def test_a_redirect_to_an_unlisted_host_is_not_followed():
    found = check(seen(status=302, location="http://127.0.0.1/", body_digest=""), failure="host_not_listed")
    assert found.found == ()


def test_a_redirect_loop_is_named():
    assert check(seen(status=302, location="/2", loops=True, body_digest=""), failure="redirect_loop").found == ()


def test_redirects_end_somewhere():
    page = replace(PAGE, hops=2)
    assert check(seen(status=302, location="/3", body_digest=""), failure="too_many_redirects", page=page).found == ()


@pytest.mark.parametrize("location", ["", "javascript:1", "http://[::1"])
def test_a_redirect_to_nowhere_is_an_error(location):
    check(seen(status=301, location=location, body_digest=""), failure="http_error")


def test_a_canonical_url_on_the_same_host_stands_for_the_page():
    found = check(seen(canonical="/main", body_digest=""), failure="canonical_elsewhere")
    assert found.found == (Found("http://a.example/main", "page", 0, 1),)


@pytest.mark.parametrize("canonical", ["/1", "http://a.example/1#x", "http://b.example/1", "mailto:x"])
def test_a_canonical_url_that_is_itself_or_on_another_host_is_ignored(canonical):
    check(seen(canonical=canonical), failure="")


def test_canonical_urls_in_a_circle_do_not_lose_the_page():
    check(seen(canonical="/2", loops=True), failure="")


def test_links_are_followed_within_scope_and_depth():
    visit = seen(links=("/2", "http://b.example/3", "/2#x", "mailto:x", "http://a.example:81/4", "http://[bad"))
    assert settled(visit).found == (Found("http://a.example/2", "page", 1, 0),)
    assert settled(visit, replace(PAGE, depth=1)).found == ()
    assert settled(replace(visit, nofollow=True)).found == ()


def test_links_are_resolved_against_the_pages_base():
    assert settled(seen(base="/deep/", links=("x",))).found[0].url == "http://a.example/deep/x"


def test_a_sitemap_gives_pages_and_sitemaps_and_no_record():
    page = replace(PAGE, kind="sitemap")
    found = settled(seen(links=("/1", "/2"), listings=("/s2.xml",)), page)
    assert found.record is None
    assert [(item.url, item.kind) for item in found.found] == [
        ("http://a.example/1", "page"), ("http://a.example/2", "page"), ("http://a.example/s2.xml", "sitemap"),
    ]


def test_a_sitemap_that_cannot_be_read_is_recorded():
    page = replace(PAGE, kind="feed")
    found = check(Visit(failure=FetchFailure.MALFORMED_LISTING, status=200), failure="malformed_listing", page=page)
    assert found.error == "http://a.example/1: malformed_listing"


def test_a_failure_that_may_pass_is_tried_again_with_growing_delay():
    first = settled(Visit(failure=FetchFailure.CONNECTION_FAILED, end_time_ms=0))
    assert (first.record, first.counted, first.page.due_time_ms) == (None, "", 1000)
    second = settled(Visit(failure=FetchFailure.CONNECTION_FAILED, end_time_ms=0), first.page)
    assert second.page.due_time_ms == 2000
    third = settled(Visit(failure=FetchFailure.CONNECTION_FAILED, end_time_ms=0), second.page)
    assert (third.record.failure, third.page.attempts) == ("connection_failed", 0)


def test_retry_after_is_honoured_within_bounds():
    asked = settled(seen(status=503, retry_after_s=30.0, end_time_ms=0))
    assert (asked.page.due_time_ms, asked.host_until_ms) == (30_000, 30_000)
    too_long = settled(seen(status=429, retry_after_s=1e9, end_time_ms=0))
    assert too_long.page.due_time_ms == SETTINGS.retry_after_s_max * 1000


def test_the_last_try_s_retry_after_is_honoured_for_the_host():
    last = settled(seen(status=503, retry_after_s=30.0, body_digest="", end_time_ms=0), replace(PAGE, attempts=2))
    assert (last.record.failure, last.host_until_ms) == ("http_error", 30_000)


def test_a_retry_shorter_than_our_own_delay_brings_nothing_back_early():
    asked = settled(seen(status=503, retry_after_s=0.5, end_time_ms=0), replace(PAGE, attempts=1))
    assert (asked.page.due_time_ms, asked.host_until_ms) == (2000, 500)


def test_a_page_that_was_read_postpones_nothing():
    assert settled(seen(retry_after_s=30.0)).host_until_ms == 0


def test_a_polled_source_comes_back():
    source = replace(SOURCE, poll_interval_s=60)
    assert settled(seen(), source=source).page.due_time_ms == 70_000
