"""Sitemaps and feeds: lists of pages. Parsed in a worker process, for they come from strangers."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lxml import etree

from xinstruct.spine.errors import Invalid, require

ENTRIES_MAX = 50_000
"""URLs of one sitemap, by the sitemap protocol."""
UNPACKED_BYTES_MAX = 50_000_000


@dataclass(frozen=True, slots=True)
class Listing:
    """pages: URLs as written. listings: further sitemaps of a sitemap index."""

    pages: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()


def parse_sitemap(body: bytes) -> Listing:
    """URLs of a sitemap or sitemap index, gzipped or not; Invalid when it is neither."""
    root = _parse_xml(_unpacked(body))
    kind = _name(root)
    require(kind in ("urlset", "sitemapindex"), f"not a sitemap: its root element is {kind[:40]!r}")
    # Only children of entries: an image's loc is no page.
    found = tuple(url for entry in root for url in list(_texts(entry, "loc"))[:1])[:ENTRIES_MAX]
    return Listing(listings=found) if kind == "sitemapindex" else Listing(pages=found)


def parse_feed(body: bytes) -> Listing:
    """URLs of the entries of an RSS or Atom feed; Invalid when it is neither."""
    root = _parse_xml(_unpacked(body))
    kind = _name(root)
    require(kind in ("rss", "RDF", "feed"), f"not a feed: its root element is {kind[:40]!r}")
    if kind == "feed":
        return Listing(pages=tuple(_atom_links(root))[:ENTRIES_MAX])
    items = (element for element in root.iter() if _name(element) == "item")
    return Listing(pages=tuple(url for item in items for url in list(_texts(item, "link"))[:1])[:ENTRIES_MAX])


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = unpacker.decompress(body, UNPACKED_BYTES_MAX)
    except zlib.error as error:
        raise Invalid("broken gzip") from error
    require(not unpacker.unconsumed_tail, f"more than {UNPACKED_BYTES_MAX} bytes unpacked")
    return content


def _parse_xml(body: bytes) -> Any:
    # No entities, no network, no huge trees: XML from strangers.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, load_dtd=False)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise Invalid("not XML") from error
    require(root is not None, "not XML")
    return root


def _name(element: Any) -> str:
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def _texts(root: Any, name: str) -> Iterator[str]:
    for element in root:
        if _name(element) == name and element.text and element.text.strip():
            yield element.text.strip()


def _atom_links(root: Any) -> Iterator[str]:
    for entry in root.iter():
        if _name(entry) != "entry":
            continue
        links = [item for item in entry if _name(item) == "link" and item.get("rel", "alternate") == "alternate"]
        if links and links[0].get("href"):
            yield links[0].get("href").strip()
