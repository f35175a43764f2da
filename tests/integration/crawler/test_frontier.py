"""The frontier over real sockets: from a command to records on the log."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from aiohttp import web

from integration.crawler.loopback import TEXT, crawl_sitemap, crawling, page, response, serving, sitemap
from xinstruct.spine.messages import SourceKind

# ── discovery ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sitemap_leads_to_admitted_documents(crawl, site):
    site.answers |= {"/sitemap.xml": sitemap(site, "/1", "/1", "/2"), "/1": page(), "/2": page("<p>lyhyt</p>")}
    crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"), licence="CC0-1.0")
    crawl.run()
    assert [item.url for item in crawl.documents()] == [site.url("/1")]
    document = crawl.documents()[0]
    assert (document.language, document.licence, document.title) == ("fi", "CC0-1.0", "Kylän talo")
    assert document.text.startswith("Kylän talo\n\nKylän vanhin talo")
    assert [(item.url, item.reason) for item in crawl.drops()] == [(site.url("/2"), "too_short")]


def test_a_page_leads_to_its_links_down_to_the_depth(crawl, site):
    link = '<a href="{}">x</a>'
    site.answers |= {"/": page(link.format("/1")), "/1": page(link.format("/2")), "/2": page(link.format("/3"))}
    crawl.add(SourceKind.URL, site.url("/"), depth_max=2)
    crawl.fetch()
    assert set(crawl.outcomes()) == {site.url(path).partition("/")[2].partition("/")[2] for path in ("/", "/1", "/2")}


@pytest.mark.parametrize("short_way_waits_for", ["/near", "/far", "/far answered"])
def test_a_crawl_reaches_the_same_pages_whatever_answers_first(crawl, site, short_way_waits_for):
    done = []

    def leading(*paths):
        return page("".join(f'<a href="{path}">x</a>' for path in paths))

    async def short(_):
        while short_way_waits_for not in [*site.asked, *done]:
            await asyncio.sleep(0.01)
        return web.Response(text=leading("/far"), content_type="text/html")

    async def far(_):
        # A shorter way is found while the page is visited.
        while short_way_waits_for == "/far" and crawl.row("crawler_pages", url=site.url("/far")).depth > 2:
            await asyncio.sleep(0.01)
        done.append("/far answered")
        return web.Response(text=leading("/beyond"), content_type="text/html")

    site.answers |= {
        "/": leading("/near", "/short"), "/near": leading("/middle"), "/middle": leading("/far"), "/short": short,
        "/far": far, "/beyond": leading("/too-far"),
    }
    crawl.add(SourceKind.URL, site.url("/"), depth_max=3)
    crawl.fetch()
    assert {item.url for item in crawl.pages()} == {site.url(path) for path in site.answers}


def test_a_feed_leads_to_its_entries_and_is_polled(crawl, site):
    item = f"<item><link>{site.url('/1')}</link></item>"
    site.answers |= {"/feed": f"<rss><channel>{item}</channel></rss>", "/1": page(), "/2": page(TEXT + TEXT)}
    crawl.add(SourceKind.FEED, site.url("/feed"), poll_interval_s=60)
    crawl.fetch()
    site.answers["/feed"] = f"<rss><channel>{item}<item><link>/2</link></item></channel></rss>"
    crawl.fetch()
    assert [item.url for item in crawl.pages()] == [site.url("/1")]
    crawl.clock.now_ms += 61_000
    crawl.fetch()
    assert {item.url for item in crawl.pages()} == {site.url("/1"), site.url("/2")}


def test_a_feed_that_is_no_xml_is_a_reason_and_harms_nobody(crawl, site):
    site.answers |= {"/feed": "this is no feed", "/sitemap.xml": sitemap(site, "/1"), "/1": page()}
    source = crawl.add(SourceKind.FEED, site.url("/feed"))
    crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
    crawl.fetch()
    assert {item.url: item.failure for item in crawl.pages()} == {
        site.url("/feed"): "malformed_listing", site.url("/1"): "",
    }
    assert "malformed_listing" in crawl.row("crawler_sources", source_id=source).last_error


def test_only_listed_hosts_are_asked(site, tmp_path):
    with ExitStack() as stack:
        other = stack.enter_context(serving())
        crawl = stack.enter_context(crawling(tmp_path, site, other))
        other.answers["/x"] = page()
        assert crawl_sitemap(crawl, site, {"/1": page(f'<a href="{other.url("/x")}">x</a>' + TEXT)}, depth_max=3) == {
            "/1": "",
        }
        assert other.asked == []


def test_a_budget_limits_the_pages_of_a_source(crawl, site):
    found = crawl_sitemap(crawl, site, {f"/{number}": page() for number in range(10)}, pages_max=3)
    assert sorted(found) == ["/0", "/1", "/2"]


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_bad_answer_is_a_reason_and_neighbours_are_unharmed(crawl, site):
    def disconnect(request):
        request.transport.close()
        return web.Response()

    found = crawl_sitemap(crawl, site, {
        "/good": page(), "/gone": response(status=410), "/error": response(status=500), "/huge": b"x" * 300_000,
        "/pdf": response(content_type="application/pdf"), "/broken": response(headers={"Content-Encoding": "gzip"}),
        "/cut": disconnect, "/moved": response(status=301, headers={"Location": "/good"}),
        "/loop1": response(status=302, headers={"Location": "/loop2"}),
        "/loop2": response(status=302, headers={"Location": "/loop1"}),
        "/self": response(status=302, headers={"Location": "/self"}),
        "/inside": response(status=302, headers={"Location": "http://169.254.169.254/latest"}),
        "/utf8": "<p>\udcff</p>".encode("utf-8", "surrogateescape"), "/empty": b"", "/deep": b"<div>" * 30_000,
    })
    assert found == {
        "/good": "", "/gone": "gone", "/error": "http_error", "/huge": "too_large", "/pdf": "not_text",
        "/broken": "encoding_broken", "/cut": "connection_failed", "/moved": "redirected",
        "/loop1": found["/loop1"], "/loop2": found["/loop2"], "/self": "redirect_loop", "/inside": "host_not_listed",
        "/utf8": "", "/empty": "", "/deep": found["/deep"],
    }
    assert {found["/loop1"], found["/loop2"]} <= {"redirected", "redirect_loop"}
    assert "redirect_loop" in (found["/loop1"], found["/loop2"])


def test_endless_redirects_end(crawl, site):
    for number in range(20):
        target = {"Location": f"/r{number + 1}"}
        site.answers[f"/r{number}"] = response(status=302, headers=target)
    crawl.add(SourceKind.URL, site.url("/r0"))
    crawl.fetch()
    assert sorted(item.failure for item in crawl.pages()) == ["redirected"] * 5 + ["too_many_redirects"]


def test_a_canonical_url_stands_for_its_copies(crawl, site):
    head = f'<link rel="canonical" href="{site.url("/main")}">'
    found = crawl_sitemap(crawl, site, {"/copy": page(head=head), "/main": page(head=head)})
    assert found == {"/copy": "canonical_elsewhere", "/main": ""}



# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_robots_txt_is_asked_first_and_once(crawl, site):
    site.answers["/robots.txt"] = "User-agent: *\nDisallow: /private"
    found = crawl_sitemap(crawl, site, {"/1": page(), "/2": page(), "/private/3": page()})
    assert found == {"/1": "", "/2": "", "/private/3": "denied_by_robots"}
    assert site.asked[0] == "/robots.txt"
    assert site.asked.count("/robots.txt") == 1
    assert "/private/3" not in site.asked


def test_robots_txt_is_asked_again_after_a_day(crawl, site):
    crawl_sitemap(crawl, site, {"/1": page()}, poll_interval_s=3600)
    crawl.clock.now_ms += 3_600_000
    crawl.fetch()
    assert site.asked.count("/robots.txt") == 1
    crawl.clock.now_ms += 24 * 3_600_000
    crawl.fetch()
    assert site.asked.count("/robots.txt") == 2


@pytest.mark.parametrize("schemes", [("http", "https"), ("https", "http")])
def test_each_scheme_of_a_host_has_a_robots_txt_of_its_own(crawl, site, schemes):
    site.answers["/1"] = page()
    for scheme in schemes:
        crawl.add(SourceKind.URL, f"{scheme}://{site.host}/1")  # https: the site speaks http only
        crawl.fetch()
    assert {item.url: item.failure for item in crawl.pages()} == {
        f"http://{site.host}/1": "", f"https://{site.host}/1": "robots_unreachable",
    }


@pytest.mark.parametrize("location", ["http://[", "http://a.example:99999/", "ftp://a.example/", "javascript:"])
def test_a_robots_txt_that_moved_to_no_web_address_is_none(crawl, site, location):
    site.answers["/robots.txt"] = response(status=302, headers={"Location": location})
    assert crawl_sitemap(crawl, site, {"/1": page()}) == {"/1": ""}


@pytest.mark.parametrize("status", [500, 503])
def test_a_robots_txt_with_a_server_error_disallows_everything(crawl, site, status):
    site.answers |= {"/robots.txt": response(status=status), "/1": page()}
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    assert [item.failure for item in crawl.pages()] == ["robots_unreachable"]
    assert "/1" not in site.asked


def test_the_beginning_of_an_over_long_robots_txt_counts(site, tmp_path):
    site.answers |= {"/robots.txt": "User-agent: *\nDisallow: /\n" + "# more\n" * 5_000, "/1": page()}
    with crawling(tmp_path, site, body_bytes_max=10_000) as crawl:
        crawl.add(SourceKind.URL, site.url("/1"))
        crawl.fetch()
        assert [item.failure for item in crawl.pages()] == ["denied_by_robots"]


@pytest.mark.parametrize("robots", [None, "User-agent: *\nAllow: /"])
@pytest.mark.parametrize("moved", [False, True])
def test_a_reservation_for_the_host_holds_with_and_without_a_robots_txt_and_where_it_moved(crawl, site, robots, moved):
    reserved = '[{"location": "/", "tdm-reservation": 1}]'
    to_new = response(status=301, headers={"Location": "/tdm.json"})
    site.answers |= {"/1": page(), "/tdm.json": reserved, "/.well-known/tdmrep.json": to_new if moved else reserved}
    if robots is not None:
        site.answers["/robots.txt"] = robots
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    assert [item.failure for item in crawl.pages()] == ["opted_out"]
    assert "/1" not in site.asked


@pytest.mark.parametrize(("rules", "status"), [("/.well-known/tdmrep.json", 503), ("/robots.txt", 500)])
def test_rules_that_cannot_be_read_now_close_the_host_until_they_can(crawl, site, rules, status):
    site.answers |= {rules: response(status=status), "/1": page()}
    crawl.add(SourceKind.URL, site.url("/1"))
    crawl.fetch()
    del site.answers[rules]
    crawl.clock.now_ms += 601_000
    crawl.fetch()
    assert [item.failure for item in crawl.pages()] == ["robots_unreachable", ""]


@pytest.mark.parametrize(
    "answer",
    [
        page(head='<meta name="robots" content="noindex">'), page(head='<meta name="ROBOTS" content="noai, follow">'),
        response(headers={"X-Robots-Tag": "noai"}), response(headers={"TDM-Reservation": "1"}),
        page(head='<meta name="tdm-reservation" content="1">'), response(headers={"Content-Signal": "ai-train=no"}),
        response(headers={"Content-Usage": "train-ai=n"}), page(head='<meta name="robots" content="noarchive">'),
        response(headers={"X-Robots-Tag": "GPTBot: noindex"}), page(head='<meta name="ClaudeBot" content="noai">'),
    ],
)
def test_every_way_to_opt_out_is_honoured_and_the_body_is_not_kept(crawl, site, answer):
    found = crawl_sitemap(crawl, site, {"/1": answer})
    assert found == {"/1": "opted_out"}
    record = crawl.pages()[0]
    assert (record.body_digest, list(crawl.deps.blobs.digests())) == ("", [])
    assert any(item.denies for item in record.opt_outs)


@pytest.mark.parametrize("answer", [page(head='<meta name="robots" content="noimageai">'),
                                    response(headers={"X-Robots-Tag": "googlebot: noindex"})])
def test_signals_that_are_no_refusal_are_recorded_only(crawl, site, answer):
    assert crawl_sitemap(crawl, site, {"/1": answer}) == {"/1": ""}


def test_a_sitemap_that_is_not_to_be_indexed_still_lists_its_pages(crawl, site):
    site.answers["/1"] = page()
    site.answers["/sitemap.xml"] = response(text=sitemap(site, "/1"), headers={"X-Robots-Tag": "noindex"})
    crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
    crawl.fetch()
    assert crawl.outcomes() == {f"{site.host}/1": ""}


def test_a_whole_host_opts_out_with_tdmrep(crawl, site):
    site.answers |= {"/robots.txt": "", "/.well-known/tdmrep.json": '[{"location": "/a/*", "tdm-reservation": 1}]'}
    assert crawl_sitemap(crawl, site, {"/a/1": page(), "/b/1": page()}) == {"/a/1": "opted_out", "/b/1": ""}
    assert "/a/1" not in site.asked


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def polled(crawl, site, first, second):
    """Records of /1, which answers first and, a poll later, second."""
    crawl_sitemap(crawl, site, {"/1": first}, poll_interval_s=60)
    site.answers["/1"] = second
    crawl.clock.now_ms += 61_000
    crawl.fetch()
    return crawl.pages()


def test_an_unchanged_page_is_recorded_once(crawl, site):
    assert len(polled(crawl, site, page(), page())) == 1


def test_a_known_page_is_asked_for_conditionally(crawl, site):
    first = response(headers={"ETag": '"1"'})
    records = polled(crawl, site, first, lambda request: web.Response(status=304))
    assert len(records) == 1
    assert site.headers[-1].get("If-None-Match") == '"1"' or '"1"' in [h.get("If-None-Match") for h in site.headers]


def test_an_edited_page_names_the_body_that_it_supersedes(crawl, site):
    first, second = polled(crawl, site, page(), page(TEXT + "<p>Uusi kappale tuli tähän lisää tänään.</p>"))
    assert (second.superseded_body_digest, second.fetch_number) == (first.body_digest, 2)
    assert second.body_digest not in ("", first.body_digest)


@pytest.mark.parametrize(("status", "failure"), [(410, "gone"), (404, "http_error")])
def test_a_removed_page_supersedes_its_body(crawl, site, status, failure):
    first, second = polled(crawl, site, page(), response(status=status))
    assert (second.failure, second.superseded_body_digest, second.body_digest) == (failure, first.body_digest, "")


def test_a_page_s_declared_language_is_that_of_its_markup_else_of_its_header_else_of_its_source(crawl, site):
    header = {"Content-Language": "fi-FI"}
    crawl_sitemap(crawl, site, {
        "/markup": response(text=page().replace("<html>", '<html lang="sv-FI">'), headers=header),
        "/header": response(headers=header), "/source": page(),
    }, declared_language="et")
    found = {item.url.removeprefix(site.url("")): item.declared_language for item in crawl.pages()}
    assert found == {"/markup": "sv-FI", "/header": "fi-FI", "/source": "et"}


def test_a_later_opt_out_is_a_takedown(crawl, site):
    first, second = polled(crawl, site, page(), page(head='<meta name="robots" content="noai">'))
    assert (second.failure, second.superseded_body_digest) == ("opted_out", first.body_digest)
    assert [(item.target, item.reason) for item in crawl.takedowns()] == [(site.url("/1"), "opt_out")]


def test_a_page_that_may_recover_is_tried_again(crawl, site):
    tries = []

    def flaky(request):
        tries.append(1)
        return response(status=503)(request) if len(tries) < 3 else response()(request)

    assert crawl_sitemap(crawl, site, {"/1": flaky}) == {"/1": ""}
    assert len(tries) == 3


def test_a_retry_after_keeps_the_whole_host_waiting(crawl, site):
    site.answers |= {"/sitemap.xml": sitemap(site, "/1"), "/1": response(status=503, headers={"Retry-After": "600"})}
    crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
    crawl.fetch()
    site.answers |= {"/1": page(), "/2": page()}
    crawl.add(SourceKind.URL, site.url("/2"))
    crawl.fetch()
    assert crawl.pages() == []
    crawl.clock.now_ms += 601_000
    crawl.fetch()
    assert {item.url for item in crawl.pages()} == {site.url("/1"), site.url("/2")}


def test_the_longest_of_two_retry_afters_holds(crawl, site):
    answers = {
        "/1": response(status=503, headers={"Retry-After": "1200"}),
        "/2": response(status=503, headers={"Retry-After": "100"}),
    }
    crawl_sitemap(crawl, site, answers)
    asked = len(site.asked)
    crawl.clock.now_ms += 1_100_000
    crawl.fetch()
    assert len(site.asked) == asked
    assert crawl.row("crawler_hosts", host=site.host).next_time_ms == crawl.clock.now_ms + 100_000


def test_the_retry_after_of_a_page_that_is_given_up_keeps_its_host_waiting(site, tmp_path):
    with crawling(tmp_path, site, attempts_max=1) as crawl:
        found = crawl_sitemap(crawl, site, {"/1": response(status=503, headers={"Retry-After": "600"})})
        assert found == {"/1": "http_error"}
        site.answers["/2"] = page()
        crawl.add(SourceKind.URL, site.url("/2"))
        crawl.fetch()
        assert "/2" not in site.asked


@pytest.mark.parametrize("path", ["/robots.txt", "/.well-known/tdmrep.json"])
@pytest.mark.parametrize("status", [429, 503])
def test_the_retry_after_of_a_file_that_rules_the_host_is_honoured(crawl, site, path, status):
    site.answers |= {path: response(status=status, headers={"Retry-After": "1800"}), "/1": page()}
    crawl.add(SourceKind.URL, site.url("/1"))
    for _ in range(3):
        crawl.fetch()
        crawl.clock.now_ms += 595_000
    assert site.asked.count(path) == 1
    del site.answers[path]
    crawl.clock.now_ms += 700_000
    crawl.fetch()
    assert [item.failure for item in crawl.pages()] == ["robots_unreachable", ""]


def test_polling_in_the_future_is_not_pending(crawl, site):
    crawl_sitemap(crawl, site, {"/1": page()}, poll_interval_s=60)
    assert not any(loop.pending() for loop in crawl.app.loops)
    crawl.clock.now_ms += 61_000
    assert any(loop.pending() for loop in crawl.app.loops)
