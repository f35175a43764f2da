"""URLs and hosts in one form."""

from __future__ import annotations

import pytest

from xinstruct.crawler.domain import host_and_port
from xinstruct.spine.errors import Invalid
from xinstruct.urls import canonical_url, host_of, normal_host, origin_of


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


def test_an_origin_is_a_scheme_a_host_and_a_port_that_is_not_its_own():
    assert origin_of(canonical_url("https://Example.org:443/a?b")) == "https://example.org"
    assert origin_of(canonical_url("http://example.org:443/a")) == "http://example.org:443"
