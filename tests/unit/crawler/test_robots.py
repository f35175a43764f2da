"""robots.txt by RFC 9309, tdmrep.json, and what both say about training."""

from __future__ import annotations

import pytest

from xinstruct.crawler.robots import (
    HostRules,
    Speaker,
    crawl_delay_s,
    denial,
    host_signals,
    matches_path,
)

SPEAKER = Speaker("xinstruct", ("GPTBot", "Google-Extended"))
URL = "http://example.org/private/page?x=1"


def rules(text, *, status=200, tdmrep=""):
    return HostRules(status, text, tdmrep)


def check_denied(text, denied, url=URL):
    assert (denial(rules(text), url, SPEAKER) is not None) is denied


def test_a_rule_for_everybody_binds_us():
    check_denied("User-agent: *\nDisallow: /private/", True)


def test_our_own_group_overrides_the_one_for_everybody():
    check_denied("User-agent: *\nDisallow: /\n\nUser-agent: XInstruct\nAllow: /", False)


def test_the_longest_match_wins():
    check_denied("User-agent: *\nDisallow: /private/\nAllow: /private/page", False)


def test_a_group_for_another_crawler_does_not_bind_us():
    check_denied("User-agent: OtherBot\nDisallow: /", False)


def test_a_site_that_shuts_out_ai_training_shuts_us_out():
    check_denied("User-agent: GPTBot\nDisallow: /\n", True)


def test_an_ai_token_that_is_not_named_does_not_fall_back_to_the_group_for_everybody():
    check_denied("User-agent: *\nDisallow: /\n\nUser-agent: xinstruct\nAllow: /\n", False)


def test_an_empty_or_garbled_file_allows_everything():
    check_denied("", False)
    check_denied("<html>\x00 not robots </html>", False)


@pytest.mark.parametrize(("status", "reachable"), [(200, True), (404, True), (403, True), (429, False), (500, False),
                                                   (503, False), (0, False)])
def test_only_a_server_error_or_silence_disallows_everything(status, reachable):
    assert rules("", status=status).reachable is reachable


def test_a_missing_file_allows_everything():
    assert denial(rules("User-agent: *\nDisallow: /", status=404), URL, SPEAKER) is None


def test_a_crawl_delay_is_kept_within_bounds():
    assert crawl_delay_s(rules("User-agent: *\nCrawl-delay: 3"), SPEAKER) == 3.0
    assert crawl_delay_s(rules("User-agent: *\nCrawl-delay: 9999"), SPEAKER) == 60.0
    assert crawl_delay_s(rules(""), SPEAKER) == 0.0


def signals(text, tdmrep="", url=URL):
    found = host_signals(rules(text, tdmrep=tdmrep), url, SPEAKER)
    return [(item.signal, item.directive, item.denies) for item in found]


def test_content_signal_in_robots_txt_is_read():
    assert signals("User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /") == [
        ("content_signal", "search=yes", False), ("content_signal", "ai-train=no", True),
    ]


def test_content_signal_of_another_group_is_not_ours():
    assert signals("User-agent: other\nContent-Signal: ai-train=no\n\nUser-agent: *\nAllow: /") == []


def test_content_usage_may_be_limited_to_a_path():
    text = "User-agent: *\nContent-Usage: /private/ train-ai=n\nContent-Usage: /other/ tdm=n"
    assert signals(text) == [("content_usage", "train-ai=n", True)]


def test_the_first_matching_rule_of_tdmrep_counts():
    tdmrep = '[{"location": "/private/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]'
    assert signals("", tdmrep) == [("tdmrep", "tdm-reservation=1", True)]
    assert signals("", tdmrep, "http://example.org/open") == [("tdmrep", "tdm-reservation=0", False)]


@pytest.mark.parametrize("text", ["", "no json", "{}", "[1]", '[{"location": 5, "tdm-reservation": 1}]', "[" * 100_000])
def test_a_malformed_tdmrep_says_nothing(text):
    assert signals("", text) == []


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [("/", "/a", True), ("/a", "/ab", True), ("/a$", "/ab", False), ("/a$", "/a", True), ("/*.pdf$", "/x/y.pdf", True),
     ("/*.pdf$", "/x/y.pdf?z", False), ("/a*c", "/abbc", True), ("/a*d", "/abbc", False), ("/*?x=", "/a?x=1", True),
     ("/*a*a*a*a*a*a*a*a*a*a*a*a*b", "/" + "a" * 1000, False)],
)
def test_path_patterns_match_as_in_robots_txt(pattern, path, matches):
    assert matches_path(pattern, f"http://example.org{path}") is matches
