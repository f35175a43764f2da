"""URLs that lead to each other: one page is kept, whatever was visited first."""

from __future__ import annotations

from itertools import permutations

import pytest
from aiohttp import web

from integration.crawler.loopback import page, response
from xinstruct.spine.messages import SourceKind


def naming(path):
    return page(head=f'<link rel="canonical" href="{path}">')


def moving(path):
    return response(status=301, headers={"Location": path})


def hang_up(request):
    request.transport.close()
    return web.Response()


def crawled(crawl, site, answers, order):
    """Path → failure as it stands in the end, after visits that begin with `order`, one after the other."""
    site.answers |= answers
    for path in order:
        crawl.add(SourceKind.URL, site.url(path))
        crawl.fetch()
    return {item.url.removeprefix(site.url("")): item.failure for item in crawl.pages()}


@pytest.mark.parametrize("order", [("/a",), ("/b",), ("/a", "/b")])
def test_a_page_whose_canonical_url_redirects_back_to_it_is_kept(crawl, site, order):
    found = crawled(crawl, site, {"/a": naming("/b"), "/b": moving("/a")}, order)
    assert found == {"/a": "", "/b": "redirected"}


@pytest.mark.parametrize("order", [("/a",), ("/b",), ("/a", "/b")])
def test_of_pages_that_name_each_other_canonical_the_smaller_url_is_kept(crawl, site, order):
    found = crawled(crawl, site, {"/a": naming("/b"), "/b": naming("/a")}, order)
    assert found == {"/a": "", "/b": "canonical_elsewhere"}


@pytest.mark.parametrize("order", list(permutations(("/b", "/c", "/d", "/e"))))
def test_one_page_of_a_long_circle_is_kept_and_those_outside_follow_it(crawl, site, order):
    answers = {"/b": moving("/c"), "/c": naming("/d"), "/d": naming("/b"), "/e": naming("/d")}
    found = crawled(crawl, site, answers, order)
    assert found == {"/b": "redirected", "/c": "", "/d": "canonical_elsewhere", "/e": "canonical_elsewhere"}


def test_the_page_kept_of_a_circle_stays_when_it_is_visited_again(crawl, site):
    found = crawled(crawl, site, {"/a": naming("/b"), "/b": naming("/a")}, ("/b", "/a", "/b", "/a"))
    assert found == {"/a": "", "/b": "canonical_elsewhere"}
    assert len(crawl.pages()) == 2


def test_redirects_in_a_circle_are_visited_once(crawl, site):
    found = crawled(crawl, site, {"/a": moving("/b"), "/b": moving("/a")}, ("/a",))
    assert found == {"/a": "redirected", "/b": "redirect_loop"}
    assert sorted(path for path in site.asked if path in ("/a", "/b")) == ["/a", "/b"]


@pytest.mark.parametrize("order", [("/a",), ("/b", "/a"), ("/a", "/b")])
@pytest.mark.parametrize(("broken", "failure"), [
    (response(status=404), "http_error"), (response(status=503), "http_error"), (hang_up, "connection_failed"),
    (response(content_type="application/pdf"), "not_text"),
])
def test_a_page_whose_canonical_url_is_broken_is_kept(crawl, site, order, broken, failure):
    found = crawled(crawl, site, {"/a": naming("/b"), "/b": broken}, order)
    assert found == {"/a": "", "/b": failure}


@pytest.mark.parametrize("order", list(permutations(("/a", "/b", "/c"))))
def test_of_pages_that_name_each_other_the_last_before_a_broken_one_is_kept(crawl, site, order):
    answers = {"/a": naming("/b"), "/b": naming("/c"), "/c": moving("/d"), "/d": response(status=410)}
    found = crawled(crawl, site, answers, order)
    assert found == {"/a": "canonical_elsewhere", "/b": "", "/c": "redirected", "/d": "gone"}


@pytest.mark.parametrize("order", [("/a",), ("/b", "/a")])
def test_a_page_whose_canonical_url_refuses_its_use_is_not_used_instead(crawl, site, order):
    found = crawled(crawl, site, {"/a": naming("/b"), "/b": response(headers={"X-Robots-Tag": "noai"})}, order)
    assert found == {"/a": "canonical_elsewhere", "/b": "opted_out"}


def test_a_canonical_url_that_is_ill_for_a_while_still_stands_for_its_copies(crawl, site):
    crawled(crawl, site, {"/a": naming("/b"), "/b": page()}, ("/a",))
    found = crawled(crawl, site, {"/b": response(status=500)}, ("/b", "/a"))
    assert found == {"/a": "canonical_elsewhere", "/b": "http_error"}
