"""A crawl of many hosts, and of sites that would keep it busy for ever: what is held at a time is bounded."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from integration.crawler.loopback import crawling, page, response, serving, sitemap
from xinstruct.crawler import frontier
from xinstruct.crawler.tables import HOSTS
from xinstruct.spine.messages import SourceKind


async def never(_):
    await asyncio.Event().wait()


def test_no_more_hosts_are_taken_than_can_be_asked_at_a_time(tmp_path):
    with ExitStack() as stack:
        sites = [stack.enter_context(serving()) for _ in range(5)]
        crawl = stack.enter_context(crawling(tmp_path, *sites, requests_max=2, timeout_s=60))
        for site in sites:
            site.answers["/robots.txt"] = never
            crawl.add(SourceKind.URL, site.url("/"))
        commands, _, fetch, _, _ = crawl.app.loops
        commands.step()
        for _ in range(4):
            fetch.step()
        with crawl.deps.database.begin() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(HOSTS)).scalar_one() == 2


def test_what_is_known_of_a_host_is_forgotten_when_its_lease_has_ended(crawl, site):
    site.answers["/"] = page()
    crawl.add(SourceKind.URL, site.url("/"))
    crawl.fetch()
    fetch = crawl.app.loops[2]
    assert list(fetch._hosts) == [site.host]
    crawl.clock.now_ms += 61_000
    fetch.step()
    assert (fetch._hosts, fetch._leased_until_ms) == ({}, {})
    crawl.add(SourceKind.URL, site.url("/"))
    crawl.fetch()
    assert (site.asked.count("/"), site.asked.count("/robots.txt")) == (2, 1)


def test_a_sitemap_index_does_not_lead_on_without_end(crawl, site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frontier, "SITEMAPS_MAX", 5)

    def index(*paths):
        return "".join(["<sitemapindex>", *(f"<sitemap><loc>{path}</loc></sitemap>" for path in paths),
                        "</sitemapindex>"])

    site.answers |= {"/s": index("/s", *(f"/s{number}" for number in range(4))), "/1": page()}
    site.answers |= {f"/s{number}": index("/s", *(f"/s{number}{more}" for more in range(4))) for number in range(3)}
    site.answers["/s3"] = sitemap(site, "/1")
    crawl.add(SourceKind.SITEMAP, site.url("/s"), pages_max=1)
    crawl.fetch()
    assert crawl.outcomes() == {f"{site.host}/1": ""}
    assert sorted(path for path in site.asked if path.startswith("/s")) == ["/s", "/s0", "/s1", "/s2", "/s3"]


def test_a_host_is_left_alone_between_its_robots_txt_and_its_first_page(site, tmp_path):
    asked_s = {}

    def noted(request):
        asked_s[request.path] = time.monotonic()
        return page()

    site.answers |= {"/.well-known/tdmrep.json": noted, "/1": noted}
    with crawling(tmp_path, site, host_delay_ms=300) as crawl:
        crawl.add(SourceKind.URL, site.url("/1"))
        crawl.fetch()
    assert asked_s["/1"] - asked_s["/.well-known/tdmrep.json"] >= 0.3


def test_pages_that_robots_txt_denies_wait_for_no_delay(site, tmp_path):
    site.answers["/robots.txt"] = "User-agent: *\nDisallow: /no/"
    with crawling(tmp_path, site, host_delay_ms=200) as crawl:
        started_s = time.monotonic()
        site.answers["/sitemap.xml"] = sitemap(site, *(f"/no/{number}" for number in range(60)))
        crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
        crawl.fetch()
        assert [item.failure for item in crawl.pages()] == ["denied_by_robots"] * 60
    assert time.monotonic() - started_s < 6  # a delay each would be 12 s


@pytest.mark.parametrize("path", ["/robots.txt", "/.well-known/tdmrep.json"])
def test_a_file_that_rules_a_host_leads_to_no_private_address(crawl, site, path):
    with serving() as inner:
        site.answers |= {path: response(status=302, headers={"Location": inner.url("/admin")}), "/": page()}
        crawl.add(SourceKind.URL, site.url("/"))
        crawl.fetch()
        assert inner.asked == []
        assert crawl.outcomes() == {f"{site.host}/": "robots_unreachable" if path == "/robots.txt" else ""}
