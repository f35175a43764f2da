"""A site on loopback, and a crawler that may fetch it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.crawler.loopback import Crawl, Site, crawling, serving


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as started:
        yield started


@pytest.fixture
def crawl(site, tmp_path) -> Iterator[Crawl]:
    with crawling(tmp_path, site) as started:
        yield started
