"""What a page's markup says besides its text: meta elements, canonical URL, links, licence.

Runs in a worker process, on untrusted bytes; the answer is plain data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from resiliparse.parse.html import HTMLTree

LINKS_MAX = 2_000
METAS_MAX = 200
VALUE_CHARS_MAX = 2_000


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


def page_facts(text: str) -> PageFacts:
    """The facts of an HTML page, however malformed."""
    tree = HTMLTree.parse(text)
    root = tree.document
    if root is None:
        return PageFacts()
    return PageFacts(
        metas=tuple(_metas(root))[:METAS_MAX],
        canonical=_first_href(root, "link", "canonical"),
        base=_first_attribute(root, "base", "href"),
        licence=_first_href(root, "link", "license") or _first_href(root, "a", "license"),
        language=_first_attribute(root, "html", "lang")[:40],
        links=tuple(_links(root)),
    )


def _metas(root: Any) -> Iterator[tuple[str, str]]:
    for element in root.get_elements_by_tag_name("meta"):
        name = (_attribute(element, "name") or _attribute(element, "http-equiv")).strip().lower()
        if name:
            yield name, _attribute(element, "content")


def _links(root: Any) -> Iterator[str]:
    count = 0
    for element in root.get_elements_by_tag_name("a"):
        href = _attribute(element, "href").strip()
        if href and not href.startswith("#") and "nofollow" not in _attribute(element, "rel").lower():
            yield href
            count += 1
            if count == LINKS_MAX:
                return


def _first_href(root: Any, tag: str, rel: str) -> str:
    for element in root.get_elements_by_tag_name(tag):
        if rel in _attribute(element, "rel").lower().split():
            return _attribute(element, "href").strip()
    return ""


def _first_attribute(root: Any, tag: str, name: str) -> str:
    for element in root.get_elements_by_tag_name(tag):
        return _attribute(element, name).strip()
    return ""


def _attribute(element: Any, name: str) -> str:
    value = element.getattr(name)
    return str(value)[:VALUE_CHARS_MAX] if value else ""
