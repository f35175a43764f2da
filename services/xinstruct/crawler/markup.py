"""What a page's markup says besides its text: meta elements, canonical URL, links, licence.

Runs in a worker process, on untrusted bytes; the answer is plain data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from lxml import etree
from lxml import html as lxml_html

LINKS_MAX = 2_000
METAS_MAX = 200
VALUE_CHARS_MAX = 2_000
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class PageFacts:
    """metas: (lower-case name, content). canonical, licence: as written, "" when absent. links: href values in document
    order, without those of rel=nofollow. base: href of the base element. language: lang of the root, evidence only."""

    metas: tuple[tuple[str, str], ...] = ()
    canonical: str = ""
    base: str = ""
    licence: str = ""
    language: str = ""
    links: tuple[str, ...] = ()


def page_facts(tree: Any | None) -> PageFacts:
    """The facts of a parsed page; none of a page without content."""
    if tree is None:
        return PageFacts()
    return PageFacts(
        metas=tuple(islice(_metas(tree), METAS_MAX)),
        canonical=_first_href(tree, "link", "canonical"),
        base=next((_attribute(element, "href") for element in tree.iter("base")), ""),
        licence=licence_of(tree),
        language=_attribute(tree, "lang")[:40],
        links=tuple(islice(_links(tree), LINKS_MAX)),
    )


def licence_of(tree: Any) -> str:
    """href of the first link or anchor with rel=license, "" when there is none."""
    return _first_href(tree, "link", "license") or _first_href(tree, "a", "license")


def parsed(text: str) -> Any | None:
    """The DOM of a page, however malformed; None when there is nothing in it."""
    # lxml refuses a str that declares an encoding, and ends at a null character.
    text = _XML_DECLARATION.sub("", _CONTROLS.sub("", text))
    try:
        return lxml_html.document_fromstring(text)
    except (ValueError, AssertionError, etree.LxmlError):
        return None


def _metas(tree: Any) -> Iterator[tuple[str, str]]:
    for element in tree.iter("meta"):
        name = (_attribute(element, "name") or _attribute(element, "http-equiv")).lower()
        if name:
            yield name, _attribute(element, "content")


def _links(tree: Any) -> Iterator[str]:
    for element in tree.iter("a"):
        href = _attribute(element, "href")
        if href and not href.startswith("#") and "nofollow" not in _attribute(element, "rel").lower():
            yield href


def _first_href(tree: Any, tag: str, rel: str) -> str:
    for element in tree.iter(tag):
        if rel in _attribute(element, "rel").lower().split():
            return _attribute(element, "href")
    return ""


def _attribute(element: Any, name: str) -> str:
    return str(element.get(name) or "").strip()[:VALUE_CHARS_MAX]
