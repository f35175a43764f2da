"""Signals in headers and meta elements."""

from __future__ import annotations

import pytest

from xinstruct.crawler.optouts import header_signals, meta_signals
from xinstruct.crawler.robots import Speaker

SPEAKER = Speaker("xinstruct", ("GPTBot", "Google-Extended"))


def said(signals):
    return [(item.signal, item.directive, item.evidence, item.denies) for item in signals]


def check_header(name, value, expected):
    assert said(header_signals({name: (value,)}, SPEAKER)) == [(*item[:2], "header", item[2]) for item in expected]


def check_meta(name, content, expected):
    assert said(meta_signals([(name, content)], SPEAKER)) == [(*item[:2], "meta", item[2]) for item in expected]


def test_x_robots_tag_lists_directives():
    check_header("x-robots-tag", "NoAI, noimageai",
                 [("x_robots_tag", "noai", True), ("x_robots_tag", "noimageai", False)])


def test_x_robots_tag_for_another_agent_is_not_ours():
    check_header("x-robots-tag", "otherbot: noindex, noai", [])


def test_x_robots_tag_for_us_is_ours():
    check_header("x-robots-tag", "xinstruct: noindex", [("x_robots_tag", "noindex", True)])


def test_x_robots_tag_directive_with_a_value_is_no_agent():
    check_header("x-robots-tag", "max-snippet: 10, noarchive",
                 [("x_robots_tag", "max-snippet: 10", False), ("x_robots_tag", "noarchive", True)])


def test_tdm_content_signal_and_content_usage_headers_are_read():
    check_header("tdm-reservation", " 1 ", [("tdmrep", "tdm-reservation=1", True)])
    check_header("content-signal", "search=yes, ai-train=no",
                 [("content_signal", "search=yes", False), ("content_signal", "ai-train=no", True)])
    check_header("content-usage", "train-ai=n", [("content_usage", "train-ai=n", True)])


def test_robots_meta_is_read_whatever_its_case():
    check_meta("robots", "NOINDEX,Follow", [("robots_meta", "noindex", True), ("robots_meta", "follow", False)])


def test_meta_named_like_us_counts_and_another_name_does_not():
    check_meta("xinstruct", "noai", [("robots_meta", "noai", True)])
    check_meta("googlebot", "noindex", [])


@pytest.mark.parametrize("name", ["gptbot", "google-extended"])
def test_meta_named_like_an_agent_of_ai_training_counts(name):
    check_meta(name, "NoAI", [("robots_meta", "noai", True)])


def test_meta_named_like_an_agent_that_is_not_in_the_list_does_not_count():
    check_meta("bytespider", "noai", [])
    check_meta("gpt", "noai", [])


@pytest.mark.parametrize("agent", ["GPTBot", "gptbot", "GOOGLE-EXTENDED"])
def test_x_robots_tag_for_an_agent_of_ai_training_is_ours(agent):
    check_header("x-robots-tag", f"{agent}: NoIndex, noimageai",
                 [("x_robots_tag", "noindex", True), ("x_robots_tag", "noimageai", False)])


def test_of_several_x_robots_tags_each_is_read_for_its_own_agent():
    said_by = {"x-robots-tag": ("Bytespider: noindex", "otherbot: noai, GPTBot: noarchive", "max-snippet: 5")}
    assert [item.directive for item in header_signals(said_by, SPEAKER)] == ["noarchive", "max-snippet: 5"]


def test_tdm_meta_is_read():
    check_meta("tdm-reservation", "1", [("tdmrep", "tdm-reservation=1", True)])
    check_meta("tdm-reservation", "0", [("tdmrep", "tdm-reservation=0", False)])


def test_empty_values_say_nothing():
    check_meta("robots", " , ", [])
    check_header("x-robots-tag", "", [])
