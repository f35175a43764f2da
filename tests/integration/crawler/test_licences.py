"""Pages that several sources list with licences of their own."""

from __future__ import annotations

from itertools import permutations

import pytest

from integration.crawler.loopback import page, response, sitemap
from xinstruct.spine.messages import SourceKind


def licence_of(crawl, site, asserted, answer=None):
    """Licence of the one document of /1 after sources that list it with the licences `asserted` were read in turn."""
    site.answers["/1"] = answer or response(headers={"ETag": '"1"'})
    for number, licence in enumerate(asserted):
        site.answers[f"/s{number}"] = sitemap(site, "/1")
        crawl.add(SourceKind.SITEMAP, site.url(f"/s{number}"), licence=licence)
        crawl.fetch()
    crawl.run()
    assert len({item.document_id for item in crawl.documents()}) == 1
    return crawl.documents()[-1].licence


@pytest.mark.parametrize("asserted", [
    ("CC0-1.0", "CC-BY-4.0"), ("CC-BY-4.0", "CC0-1.0"), ("CC0-1.0", "CC-BY-4.0", "CC0-1.0"),
    *permutations(("CC0-1.0", "CC-BY-4.0", "")),
])
def test_of_different_licences_none_holds_whichever_source_came_first(crawl, site, asserted):
    assert licence_of(crawl, site, asserted) == ""


@pytest.mark.parametrize("asserted", [("CC0-1.0", ""), ("", "CC0-1.0"), ("CC0-1.0", "CC0-1.0")])
def test_a_source_that_asserts_no_licence_disputes_none(crawl, site, asserted):
    assert licence_of(crawl, site, asserted) == "CC0-1.0"


def test_a_page_of_disputed_licence_has_the_one_that_it_names_itself(crawl, site):
    named = page(head='<link rel="license" href="https://example.org/licence">')
    assert licence_of(crawl, site, ("CC0-1.0", "CC-BY-4.0"), named) == "https://example.org/licence"


def test_a_page_added_by_itself_with_another_licence_is_disputed_too(crawl, site):
    assert licence_of(crawl, site, ("CC0-1.0",)) == "CC0-1.0"
    crawl.add(SourceKind.URL, site.url("/1"), licence="CC-BY-4.0")
    crawl.run()
    assert crawl.documents()[-1].licence == ""


def test_a_source_that_is_added_again_corrects_its_licence(crawl, site):
    assert licence_of(crawl, site, ("CC0-1.0",)) == "CC0-1.0"
    crawl.add(SourceKind.SITEMAP, site.url("/s0"), licence="CC-BY-4.0", poll_interval_s=60)
    crawl.fetch()
    assert crawl.row("crawler_pages", url=site.url("/1")).licence == "CC-BY-4.0"


def test_a_licence_asserted_while_the_page_is_visited_counts(crawl, site):
    def answer(request):
        if site.asked.count("/1") == 1:
            crawl.add(SourceKind.URL, site.url("/1"), licence="CC-BY-4.0")
            commands = crawl.app.loops[0]
            commands.step()
        return response()(request)

    site.answers["/1"] = answer
    crawl.add(SourceKind.URL, site.url("/1"), licence="")
    crawl.run()
    assert crawl.documents()[-1].licence == "CC-BY-4.0"
