"""Ids and what a signal means."""

from __future__ import annotations

import pytest

from xinstruct.crawler.domain import Signal, denies, fetch_id_of, opt_out, page_id_of, source_id_of
from xinstruct.spine.messages import SourceKind


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
