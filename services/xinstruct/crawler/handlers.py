"""What a worker process serves, by name. Arguments and answers are plain JSON data.

The libraries that find main text and languages take a second to import: only a worker that measures pages pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from xinstruct.crawler.charset import decode
from xinstruct.crawler.listings import parse_feed, parse_sitemap
from xinstruct.crawler.markup import page_facts, parsed
from xinstruct.spine.errors import Invalid


def facts(arguments: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """See markup.PageFacts; arguments: content_type."""
    return asdict(page_facts(parsed(decode(body, str(arguments.get("content_type", ""))).text)))


def sitemap(_arguments: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """See listings.Listing; {"invalid": why} when the body is no sitemap."""
    try:
        return asdict(parse_sitemap(body))
    except Invalid as error:
        return {"invalid": error.message}


def feed(_arguments: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """See listings.Listing; {"invalid": why} when the body is no feed."""
    try:
        return asdict(parse_feed(body))
    except Invalid as error:
        return {"invalid": error.message}


def measure(arguments: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """See measure.measure."""
    from xinstruct.crawler.measure import measure as measure_page

    return measure_page(arguments, body)


def warm(name: str) -> None:
    """Import what the handler `name` needs, and load the language models."""
    if name == "measure":
        from xinstruct.crawler.measure import measure as measure_page

        measure_page({"plain": True}, "Kylän vanhin talo on rakennettu hirsistä. Siellä asuu kissa.".encode() * 3)


HANDLERS = {"facts": facts, "sitemap": sitemap, "feed": feed, "measure": measure}
