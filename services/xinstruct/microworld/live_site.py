"""The site while it is served: its pages now, the changes made to it, and the truth of what it has become."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xinstruct.microworld.documents import write_document
from xinstruct.microworld.page import Delivery, Page, Reason, single
from xinstruct.microworld.pages import listing_count, listing_path
from xinstruct.microworld.randomness import draw
from xinstruct.microworld.site import Host, SiteConfig, hosts_of, site_pages, unused_documents
from xinstruct.microworld.world import site_world

# 2024-01-01 and a year and a half, in seconds.
_FIRST_CHANGE_S = 1_704_067_200
_CHANGE_SPAN_S = 47_000_000


class LiveSite:
    """The pages of a configuration, and changes to them. Every method may be called from any thread."""

    def __init__(self, config: SiteConfig) -> None:
        self.config = config
        self.hosts: tuple[Host, ...] = tuple(host for code in config.languages for host in hosts_of(config, code))
        self._pages = {page.path: page for page in site_pages(config)}
        self._initial: dict[str, list[Page]] = {host.prefix: [] for host in self.hosts}
        for page in self._pages.values():
            self._initial[page.site].append(page)
        self._changed_s: dict[str, float] = {}
        self._editions: dict[str, int] = {}
        self._added = 0
        self._lock = threading.Lock()

    def page(self, path: str) -> Page | None:
        """Return the page at a path, None when there is none."""
        return self._pages.get(path)

    def changed_s(self, path: str) -> float:
        """Return when the page at a path last changed, in seconds since 1970; invented for pages never changed."""
        return self._changed_s.get(path) or _FIRST_CHANGE_S + draw("changed", path) % _CHANGE_SPAN_S

    def neighbours_of(self, host: Host) -> list[Page]:
        """Return what a host's pages link to: its pages of the beginning, so that no change changes the others."""
        return self._initial[host.prefix]

    def host_of(self, path: str) -> Host | None:
        """Return the host whose prefix the path has."""
        return next((host for host in self.hosts if path.startswith(host.prefix)), None)

    def pages_of(self, host: Host) -> list[Page]:
        """Return a host's pages, in the order in which they came."""
        with self._lock:
            return [page for page in self._pages.values() if page.site == host.prefix]

    def add(self, language: str) -> Page:
        """Add a page about something that no page was about, and return it; the host's home page and feed link it."""
        with self._lock:
            self._added += 1
            documents = unused_documents(site_world(self.config.seed, language, self.config.pages_per_language))
            seen = {document.title for page in self._pages.values() for document in page.documents}
            document = next(one for one in documents if one.title not in seen)
            host = hosts_of(self.config, language)[self._added % len(hosts_of(self.config, language))]
            page = single(f"{host.prefix}a/{100_000 + self._added}", host.prefix, document)
            return self._put(page)

    def edit(self, path: str) -> Page:
        """Rewrite the page at a path: the same facts in other words. KeyError or IndexError without a document."""
        with self._lock:
            page = self._pages[path]
            edition = self._editions[path] = self._editions.get(path, 0) + 1
            document = page.documents[0]
            world = site_world(self.config.seed, document.language, self.config.pages_per_language)
            rewritten = write_document(world, document.entity, document.form, edition=edition)
            return self._put(replace(single(path, page.site, rewritten), delivery=page.delivery, reason=page.reason))

    def remove(self, path: str) -> Page:
        """Take the page away: 410 from now on. KeyError when there is none."""
        with self._lock:
            page = self._pages[path]
            return self._put(
                Page(path, page.site, page.language, "", reason=Reason.GONE, delivery=Delivery(status=410))
            )

    def opt_out(self, path: str) -> Page:
        """Refuse the page's use for training from now on, in one of several ways. KeyError when there is none."""
        ways = (
            (Reason.OPT_OUT_ROBOTS_META, Delivery(metas=(("robots", "noai"),))),
            (Reason.OPT_OUT_X_ROBOTS_TAG, Delivery(headers=(("X-Robots-Tag", "noai, noimageai"),))),
            (Reason.OPT_OUT_TDM, Delivery(headers=(("tdm-reservation", "1"),))),
            (Reason.OPT_OUT_CONTENT_USAGE, Delivery(headers=(("Content-Usage", "train-ai=n"),))),
        )
        with self._lock:
            reason, delivery = ways[draw("opt out", path) % len(ways)]
            return self._put(replace(self._pages[path], reason=reason, delivery=delivery))

    def truth(self, origin: str) -> Iterator[dict[str, Any]]:
        """Yield a line of the truth for every page as it is now, listing pages included."""
        for host in self.hosts:
            pages = self.pages_of(host)
            for number in range(1, listing_count(pages) + 1):
                path = listing_path(host, number)
                yield Page(path, host.prefix, host.language, host.name, reason=Reason.LISTING).truth(origin)
            for page in pages:
                yield page.truth(origin)

    def _put(self, page: Page) -> Page:
        self._pages[page.path] = page
        self._changed_s[page.path] = time.time()
        return page
