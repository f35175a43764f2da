"""The files about the site: robots.txt, tdmrep.json, sitemaps and feeds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from xml.sax.saxutils import escape

from xinstruct.microworld.page import Page
from xinstruct.microworld.pages import listing_count, listing_path
from xinstruct.microworld.site import Host

FEED_ITEMS_MAX = 25
ROBOTS_PATH = "/robots.txt"
TDMREP_PATH = "/.well-known/tdmrep.json"
SITEMAP_INDEX_PATH = "/sitemap.xml"


def robots_txt(hosts: Sequence[Host], origin: str) -> str:
    """Return robots.txt: per host a closed section, and sections closed to training alone."""
    lines = ["User-agent: *"]
    for host in hosts:
        lines += [
            f"Disallow: {host.prefix}x/",
            f"Content-Signal: {host.prefix}s/ search=yes, ai-train=no",
            f"Content-Usage: {host.prefix}u/ train-ai=n",
        ]
    lines += ["", "User-agent: BadBot", "Disallow: /", "", f"Sitemap: {origin}{SITEMAP_INDEX_PATH}", ""]
    return "\n".join(lines)


def tdmrep_json(hosts: Sequence[Host]) -> str:
    """Return the host-wide TDM reservations: a section of each host, the rest explicitly open."""
    rules = [{"location": f"{host.prefix}t/*", "tdm-reservation": 1} for host in hosts]
    return json.dumps([*rules, {"location": "/*", "tdm-reservation": 0}])


def sitemap_index(hosts: Sequence[Host], origin: str) -> str:
    """Return the index of the hosts' sitemaps."""
    entries = "".join(f"<sitemap><loc>{origin}{sitemap_path(host)}</loc></sitemap>\n" for host in hosts)
    return f'{_XML}<sitemapindex xmlns="{_SITEMAP_SPACE}">\n{entries}</sitemapindex>\n'


def sitemap_path(host: Host) -> str:
    """Return the path of a host's sitemap, which is compressed."""
    return f"{host.prefix}sitemap.xml.gz"


def feed_path(host: Host) -> str:
    """Return the path of a host's RSS feed."""
    return f"{host.prefix}feed.xml"


def sitemap(host: Host, pages: Sequence[Page], origin: str) -> bytes:
    """Return a host's sitemap, gzip-compressed, the same bytes for the same pages."""
    listings = [listing_path(host, number) for number in range(1, listing_count(pages) + 1)]
    urls = "".join(f"<url><loc>{escape(origin + path)}</loc></url>\n" for path in (*listings, *_paths(pages)))
    return gzip.compress(f'{_XML}<urlset xmlns="{_SITEMAP_SPACE}">\n{urls}</urlset>\n'.encode(), mtime=0)


def feed(host: Host, pages: Sequence[Page], origin: str) -> str:
    """Return a host's RSS feed of its last pages, the newest first."""
    newest = [page for page in reversed(pages) if page.heading][:FEED_ITEMS_MAX]
    items = "".join(
        f"<item><title>{escape(page.heading)}</title><link>{origin}{page.path}</link>"
        f'<guid isPermaLink="true">{origin}{page.path}</guid></item>\n'
        for page in newest
    )
    channel = f"<title>{escape(host.name)}</title><link>{origin}{host.prefix}</link><description/>"
    return f'{_XML}<rss version="2.0"><channel>{channel}\n{items}</channel></rss>\n'


_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SITEMAP_SPACE = "http://www.sitemaps.org/schemas/sitemap/0.9"


def _paths(pages: Sequence[Page]) -> list[str]:
    return [page.path for page in pages]
