"""Ids, URLs and what a signal means."""

from __future__ import annotations

import pytest

from xinstruct.crawler.domain import (
    Signal,
    canonical_url,
    denies,
    fetch_id_of,
    host_and_port,
    host_of,
    normal_host,
    opt_out,
    page_id_of,
    source_id_of,
)
from xinstruct.spine.errors import Invalid
from xinstruct.spine.messages import SourceKind


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://Example.ORG", "http://example.org/"),
        ("http://example.org:80/a", "http://example.org/a"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("http://example.org:8080/a", "http://example.org:8080/a"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("http://example.org/a/../b/./c", "http://example.org/b/c"),
        ("http://example.org/a//b/", "http://example.org/a/b/"),
        ("http://example.org/%e0%ae%95", "http://example.org/%E0%AE%95"),
        ("http://example.org/क", "http://example.org/%E0%A4%95"),
        ("http://example.org/a?b=1&c=ä", "http://example.org/a?b=1&c=%C3%A4"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://example.org./", "http://example.org/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        (" http://example.org/a ", "http://example.org/a"),
    ],
)
def test_a_page_has_one_url(url, canonical):
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org/", "javascript:alert(1)", "http://", "http://user:pw@example.org/",
     "http://exa mple.org/", "http://example.org:99999/", "http://[::1", "http://example.org/" + "a" * 3000],
)
def test_what_is_no_web_page_is_invalid(url):
    with pytest.raises(Invalid):
        canonical_url(url)


def test_a_link_is_resolved_against_its_page():
    assert canonical_url("../b?x#y", "http://example.org/a/c/d") == "http://example.org/a/b?x"


def test_a_host_keeps_only_a_port_that_is_not_the_schemes_own():
    assert host_of(canonical_url("http://Example.org:80/")) == "example.org"
    assert host_of(canonical_url("http://example.org:81/")) == "example.org:81"
    assert host_and_port("https://example.org/") == ("example.org", 443)
    assert normal_host("Example.ORG:8080") == "example.org:8080"


def test_ids_are_names_of_things_and_differ_between_them():
    url = "http://example.org/"
    ids = {page_id_of(url), fetch_id_of(url, 1), fetch_id_of(url, 2), source_id_of(SourceKind.URL, url)}
    assert len(ids) == 4
    assert page_id_of(url) == page_id_of(url)


@pytest.mark.parametrize(
    ("signal", "directive", "refuses"),
    [
        (Signal.ROBOTS_META, "noindex", True), (Signal.ROBOTS_META, "none", True), (Signal.ROBOTS_META, "noai", True),
        (Signal.ROBOTS_META, "noarchive", True), (Signal.ROBOTS_META, "noimageai", False),
        (Signal.ROBOTS_META, "nofollow", False), (Signal.ROBOTS_META, "index", False),
        (Signal.X_ROBOTS_TAG, "noai", True), (Signal.X_ROBOTS_TAG, "all", False),
        (Signal.TDMREP, "tdm-reservation=1", True), (Signal.TDMREP, "tdm-reservation=0", False),
        (Signal.CONTENT_SIGNAL, "ai-train=no", True), (Signal.CONTENT_SIGNAL, "ai-train=yes", False),
        (Signal.CONTENT_SIGNAL, "search=no", False), (Signal.CONTENT_SIGNAL, "ai-input=no", False),
        (Signal.CONTENT_USAGE, "train-ai=n", True), (Signal.CONTENT_USAGE, "train-ai=y", False),
        (Signal.CONTENT_USAGE, "tdm=n", True), (Signal.CONTENT_USAGE, "search=n", False),
        (Signal.ROBOTS_TXT, "disallow for xinstruct", True),
    ],
)
def test_the_policy_reads_each_directive(signal, directive, refuses):
    assert denies(signal, directive) is refuses


def test_a_signal_is_recorded_in_lower_case_and_short():
    found = opt_out(Signal.ROBOTS_META, "  NoAI  " + "x" * 500, "meta")
    assert found.directive.startswith("noai x")
    assert len(found.directive) == 200
