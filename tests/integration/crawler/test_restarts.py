"""Commands to a crawler that works, restarts, repeats, and a full disk."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiohttp import web

from integration.crawler.loopback import TEXT, Clock, crawl_sitemap, crawling, page, response, sitemap
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.messages import CrawlAction, SourceKind
from xinstruct.spine.record import FOR_GROUP_HEADER
from xinstruct.spine.topics import PAGE_FETCHED


def test_a_paused_source_waits_and_a_resumed_one_goes_on(crawl, site):
    site.answers |= {"/sitemap.xml": sitemap(site, "/1"), "/1": page()}
    location = site.url("/sitemap.xml")
    crawl.add(SourceKind.SITEMAP, location)
    crawl.command(CrawlAction.PAUSE, SourceKind.SITEMAP, location)
    crawl.fetch()
    assert site.asked == []
    crawl.command(CrawlAction.RESUME, SourceKind.SITEMAP, location)
    crawl.fetch()
    assert len(crawl.pages()) == 1


def test_a_removed_source_is_fetched_no_more(crawl, site):
    location = site.url("/sitemap.xml")
    crawl_sitemap(crawl, site, {"/1": page()}, poll_interval_s=60)
    crawl.command(CrawlAction.REMOVE, SourceKind.SITEMAP, location)
    crawl.clock.now_ms += 61_000
    asked = len(site.asked)
    crawl.fetch()
    assert len(site.asked) == asked


def test_pages_of_a_removed_source_are_fetched_for_the_next_that_lists_them(crawl, site):
    crawl_sitemap(crawl, site, {"/1": page(), "/2": page()}, licence="CC0-1.0")
    crawl.command(CrawlAction.REMOVE, SourceKind.SITEMAP, site.url("/sitemap.xml"))
    site.answers["/new.xml"] = sitemap(site, "/1", "/2")
    source = crawl.add(SourceKind.SITEMAP, site.url("/new.xml"), pages_max=1, licence="CC-BY-4.0")
    crawl.fetch()
    assert (site.asked.count("/1"), site.asked.count("/2")) == (2, 1)
    first, second = (item for item in crawl.pages() if item.url == site.url("/1"))
    assert (second.fetch_number, second.source_id, second.licence) == (2, source, "CC-BY-4.0")
    assert second.fetch_id != first.fetch_id
    assert crawl.row("crawler_sources", source_id=source).pages_known == 1


def test_a_removed_source_that_is_added_again_visits_its_pages_again(crawl, site):
    location = site.url("/sitemap.xml")
    crawl_sitemap(crawl, site, {"/1": response(headers={"ETag": '"1"'}), "/2": page()})
    crawl.command(CrawlAction.REMOVE, SourceKind.SITEMAP, location)
    crawl.fetch()
    site.answers["/1"] = page(TEXT + "<p>Uusi kappale tuli tähän lisää tänään.</p>")
    source = crawl.add(SourceKind.SITEMAP, location)
    crawl.fetch()
    assert (site.asked.count("/1"), site.asked.count("/2")) == (2, 2)
    assert [item.fetch_number for item in crawl.pages() if item.url == site.url("/1")] == [1, 2]
    assert crawl.row("crawler_sources", source_id=source).pages_known == 2


def test_pages_that_a_removed_source_never_visited_count_for_nothing_when_it_is_added_again(crawl, site):
    site.answers |= {"/sitemap.xml": sitemap(site, "/1", "/2"), "/1": page(), "/2": page()}
    location = site.url("/sitemap.xml")
    crawl.add(SourceKind.SITEMAP, location, pages_max=2)
    commands, _, fetch, _, _ = crawl.app.loops
    commands.step()
    while "/sitemap.xml" not in site.asked or fetch._visits:
        fetch.step()
    crawl.command(CrawlAction.REMOVE, SourceKind.SITEMAP, location)
    commands.step()
    crawl.add(SourceKind.SITEMAP, location, pages_max=2)
    crawl.fetch()
    assert {item.url: item.failure for item in crawl.pages()} == {site.url("/1"): "", site.url("/2"): ""}


def test_the_same_command_twice_is_one_command(crawl, site):
    site.answers |= {"/1": page()}
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    crawl.sent = 0
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    assert site.asked.count("/1") == 1


def test_a_command_that_makes_no_sense_is_a_dead_letter_and_harms_nobody(crawl, site):
    site.answers["/1"] = page()
    crawl.add(SourceKind.URL, "ftp://example.org/")
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    assert [item.url for item in crawl.pages()] == [site.url("/1")]


@pytest.mark.parametrize("kind", [SourceKind.SITEMAP, SourceKind.FEED])
def test_a_known_page_that_is_added_as_a_list_is_read_as_one(crawl, site, kind):
    listing = sitemap(site, "/1") if kind is SourceKind.SITEMAP else "<rss><item><link>/1</link></item></rss>"
    site.answers |= {"/": page('<a href="/list">x</a>'), "/list": listing, "/1": page()}
    crawl.add(SourceKind.URL, site.url("/"), depth_max=1)
    crawl.fetch()
    added = crawl.add(kind, site.url("/list"))
    crawl.fetch()
    assert crawl.outcomes()[f"{site.host}/1"] == ""
    row = crawl.row("crawler_pages", url=site.url("/list"))
    assert (row.kind, row.source_id, row.depth) == (kind.name.lower(), added, 0)


def test_a_page_that_another_source_listed_is_followed_as_deep_as_its_own_source_says(crawl, site):
    site.answers |= {"/1": response(text=page('<a href="/2">x</a>'), headers={"ETag": '"1"'}), "/2": page()}
    crawl_sitemap(crawl, site, {"/1": site.answers["/1"]})
    added = crawl.add(SourceKind.URL, site.url("/1"), depth_max=1)
    crawl.fetch()
    assert set(crawl.outcomes()) == {f"{site.host}/1", f"{site.host}/2"}
    assert crawl.row("crawler_sources", source_id=added).pages_known == 2


def test_a_page_that_is_added_as_a_list_while_it_is_visited_is_read_as_one(crawl, site):
    def answer(request):
        if site.asked.count("/list") == 1:
            crawl.add(SourceKind.SITEMAP, site.url("/list"))
            commands = crawl.app.loops[0]
            commands.step()
        return web.Response(text=sitemap(site, "/1"), content_type="text/html")

    site.answers |= {"/list": answer, "/1": page()}
    crawl.add(SourceKind.URL, site.url("/list"))
    crawl.fetch()
    assert crawl.outcomes() == {f"{site.host}/1": ""}


def test_a_restarted_crawler_goes_on_and_repeats_nothing(site, tmp_path):
    clock = Clock()
    site.answers |= {f"/{number}": page() for number in range(6)}
    site.answers["/sitemap.xml"] = sitemap(site, *(f"/{number}" for number in range(6)))
    with crawling(tmp_path, site, clock=clock, requests_max=1, host_requests_max=1) as crawl:
        crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
        commands, _, fetch, _, _ = crawl.app.loops
        while commands.pending():
            commands.step()
        for _ in range(6):
            fetch.step()
    clock.now_ms += 120_000
    with crawling(tmp_path, site, clock=clock) as crawl:
        crawl.run()
        urls = [item.url for item in crawl.pages()]
        assert sorted(urls) == [site.url(f"/{number}") for number in range(6)]
        assert len({item.fetch_id for item in crawl.pages()}) == 6


def test_a_record_that_was_appended_twice_is_admitted_once(crawl, site):
    site.answers["/1"] = page()
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    records = list(crawl.deps.log.read(PAGE_FETCHED, {}))
    crawl.deps.log.append(records)
    crawl.run()
    assert len(crawl.documents()) == 1
    assert [item.reason for item in crawl.drops()] == ["repeated"]


def test_a_replayed_dead_letter_is_no_repeat(crawl, site):
    site.answers["/1"] = page()
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    (record,) = crawl.deps.log.read(PAGE_FETCHED, {})
    (body,) = crawl.deps.blobs.digests()
    content = crawl.deps.blobs.get(body)
    crawl.deps.blobs.delete(body)
    crawl.run()
    assert [item.reason for item in crawl.drops()] == ["body_expired"]
    crawl.deps.blobs.put(content)
    crawl.deps.log.append([replace(record, headers={FOR_GROUP_HEADER: "admit"})])
    crawl.run()
    assert [item.url for item in crawl.documents()] == [site.url("/1")]


def test_old_bodies_are_erased(crawl, site):
    crawl_sitemap(crawl, site, {"/1": page()})
    expiry = crawl.app.loops[-1]
    assert not expiry.step()
    crawl.clock.now_ms += 91 * 24 * 3_600_000
    assert expiry.step()
    assert list(crawl.deps.blobs.digests()) == []
    crawl.run()
    assert [item.reason for item in crawl.drops()] == ["body_expired"]


def test_a_blob_store_that_is_full_keeps_the_page_due(site, tmp_path, monkeypatch):
    with crawling(tmp_path, site) as crawl:
        site.answers["/1"] = page()
        crawl.add(SourceKind.URL, site.url("/1"))
        blocked = tmp_path / "blobs"
        blocked.write_text("not a folder")
        with pytest.raises(Unavailable):
            crawl.fetch()
        blocked.unlink()
        crawl.fetch()
        assert [item.failure for item in crawl.pages()] == [""]


def test_a_host_that_was_private_is_asked_at_once_when_it_is_listed_and_its_source_resumed(site, tmp_path):
    clock, location = Clock(), f"http://localhost:{site.port}/1"
    site.answers["/1"] = page()
    with crawling(tmp_path, clock=clock, contact_url="https://example.org/bot") as crawl:
        source = crawl.add(SourceKind.URL, location)
        crawl.run()
        advice = f"list localhost:{site.port} in crawler.fetch.private_hosts_allowed if it is your own"
        found = crawl.row("crawler_sources", source_id=source)
        assert (found.pages_denied, found.last_error) == (1, f"{location}: private_address; {advice}")
        assert [(item.reason, item.evidence["setting"]) for item in crawl.drops()] == [
            ("private_address", "crawler.fetch.private_hosts_allowed"),
        ]
        assert site.asked == []
    with crawling(tmp_path, clock=clock, private_hosts_allowed=(f"localhost:{site.port}",)) as crawl:
        crawl.sent = 1
        crawl.command(CrawlAction.RESUME, SourceKind.URL, location)
        crawl.fetch()
        assert [item.failure for item in crawl.pages()] == ["private_address", ""]


@pytest.mark.parametrize("action", [CrawlAction.ADD, CrawlAction.RESUME])
def test_a_host_whose_rules_could_not_be_read_is_asked_again_when_its_source_is_resumed_or_added(crawl, site, action):
    site.answers |= {"/robots.txt": response(status=500), "/1": page()}
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    del site.answers["/robots.txt"]
    crawl.command(action, SourceKind.URL, site.url("/1"))
    crawl.fetch()
    assert [item.failure for item in crawl.pages()] == ["robots_unreachable", ""]


def test_resuming_asks_no_host_before_its_retry_after(crawl, site):
    site.answers |= {"/robots.txt": response(status=503, headers={"Retry-After": "1800"}), "/1": page()}
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    crawl.command(CrawlAction.RESUME, SourceKind.URL, site.url("/1"))
    crawl.fetch()
    assert site.asked == ["/robots.txt"]


@pytest.mark.parametrize("later", [{}, {"poll_interval_s": 60}])
def test_a_site_that_is_added_again_is_looked_through_again(crawl, site, later):
    links = "".join(f'<a href="{path}">x</a>' for path in ("/1", "/2", "/3"))
    same = response(headers={"ETag": '"1"'})
    site.answers |= {"/": page(links), "/1": page(), "/2": page(), "/3": same}
    crawl.add(SourceKind.URL, site.url("/"), depth_max=1)
    crawl.fetch()
    site.answers |= {"/1": page(TEXT + "<p>Uusi kappale tuli tähän lisää tänään.</p>"), "/2": response(status=404)}
    crawl.add(SourceKind.URL, site.url("/"), depth_max=1, **later)
    crawl.fetch()
    first = {item.url: item.body_digest for item in crawl.pages() if item.fetch_number == 1}
    second = {item.url: item.superseded_body_digest for item in crawl.pages() if item.fetch_number == 2}
    assert second == {site.url(path): first[site.url(path)] for path in ("/1", "/2")}
    assert [headers.get("If-None-Match") for path, headers in zip(site.asked, site.headers, strict=True)
            if path == "/3"] == [None, '"1"']
    crawl.clock.now_ms += 61_000
    crawl.fetch()
    assert site.asked.count("/3") == (3 if later else 2)


def test_a_site_that_is_added_again_deeper_is_followed_deeper(crawl, site):
    etag = {"headers": {"ETag": '"1"'}}
    site.answers |= {
        "/": page('<a href="/1">x</a>'), "/1": response(text=page('<a href="/2">x</a>'), **etag), "/2": page(),
    }
    crawl.add(SourceKind.URL, site.url("/"), depth_max=1)
    crawl.fetch()
    crawl.add(SourceKind.URL, site.url("/"), depth_max=2)
    crawl.fetch()
    assert {item.url for item in crawl.pages()} == {site.url(path) for path in ("/", "/1", "/2")}


def test_every_page_of_a_polled_site_is_looked_at_once_an_interval(crawl, site):
    site.answers |= {"/": page('<a href="/1">x</a>'), "/1": page()}
    crawl.add(SourceKind.URL, site.url("/"), depth_max=1, poll_interval_s=60)
    crawl.fetch()
    site.answers["/1"] = response(status=410)
    for _ in range(2):
        crawl.clock.now_ms += 61_000
        crawl.fetch()
    assert (site.asked.count("/"), site.asked.count("/1")) == (3, 3)
    assert [(item.failure, bool(item.superseded_body_digest)) for item in crawl.pages() if item.url.endswith("/1")] == [
        ("", False), ("gone", True),
    ]
