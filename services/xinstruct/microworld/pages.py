"""HTML documents: a page in its host's skin, and the listing pages that lead to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta
from html import escape

from xinstruct.microworld.languages import LanguagePack, load_pack
from xinstruct.microworld.page import Page
from xinstruct.microworld.randomness import stream
from xinstruct.microworld.site import Host
from xinstruct.microworld.skins import SKINS, Link, View

LISTED_MAX = 40
"""Links on one listing page."""
_RIGHT_TO_LEFT = frozenset(("ur",))
_FIRST_DAY = date(2021, 1, 4)
_DAYS = 1_700


def page_html(page: Page, host: Host, neighbours: Sequence[Page], origin: str) -> str:
    """Return the page as HTML text; neighbours are pages of the same host that it links to."""
    rng = stream("furniture", page.path)
    pack = load_pack(host.language)
    view = _view(page, host, pack, _related(neighbours, rng), rng)
    metas = "".join(f'<meta name="{name}" content="{escape(content)}">\n' for name, content in page.delivery.metas)
    charset = f'<meta charset="{page.delivery.charset_meta}">\n' if page.delivery.charset_meta else ""
    return _document(
        host,
        body=SKINS[host.skin](view),
        head=f"""{charset}<title>{escape(page.heading)} | {escape(host.name)}</title>
{metas}<link rel="canonical" href="{origin}{page.path}">""",
        language_attribute=_language_attribute(host, rng),
    )


def listing_html(host: Host, pages: Sequence[Page], number: int, origin: str) -> str:
    """Return the number-th listing page of a host, from 1: links to its pages, and to the next listing."""
    pack = load_pack(host.language)
    chosen = pages[(number - 1) * LISTED_MAX : number * LISTED_MAX]
    links = "".join(f'<li><a href="{page.path}">{escape(page.heading or page.path)}</a></li>' for page in chosen)
    more = f'<a rel="next" href="{listing_path(host, number + 1)}">{number + 1}</a>' if chosen else ""
    menu = " ".join(f"<span>{escape(label)}</span>" for label in pack.boilerplate["menu"])
    return _document(
        host,
        body=f"<h1>{escape(host.name)}</h1><nav>{menu}</nav><ul>{links}</ul><p>{more}</p>",
        head=f'<meta charset="utf-8">\n<title>{escape(host.name)}</title>\n'
        f'<link rel="alternate" type="application/rss+xml" href="{origin}{host.prefix}feed.xml">',
        language_attribute=f' lang="{host.language}"',
    )


def listing_path(host: Host, number: int) -> str:
    """Return the path of a host's listing page; the first one is its home page."""
    return host.prefix if number == 1 else f"{host.prefix}list/{number}"


def listing_count(pages: Sequence[Page]) -> int:
    """Return how many listing pages so many pages need, one at least."""
    return max(1, -(-len(pages) // LISTED_MAX))


def error_html(host: Host | None, status: int) -> str:
    """Return what an error's body says."""
    phrase = load_pack(host.language).boilerplate["missing"][0] if host else "?"
    return f"<!doctype html>\n<html><head><title>{status}</title></head><body><h1>{escape(phrase)}</h1></body></html>\n"


def _document(host: Host, *, body: str, head: str, language_attribute: str) -> str:
    direction = ' dir="rtl"' if host.language in _RIGHT_TO_LEFT else ""
    return f"""<!doctype html>
<html{language_attribute}{direction}>
<head>
{head}
<meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="{host.prefix}style.css">
</head>
<body>
{body}
</body>
</html>
"""


def _language_attribute(host: Host, rng: random.Random) -> str:
    """Return a lang attribute: mostly right, now and then absent or wrong, on good and bad pages alike."""
    drawn = rng.random()
    if drawn < 0.2:
        return ""
    return f' lang="{"en" if drawn < 0.3 else host.language}"'


def _related(neighbours: Sequence[Page], rng: random.Random) -> tuple[Link, ...]:
    titled = [page for page in neighbours if page.heading]
    chosen = rng.sample(titled, min(4, len(titled)))
    # A tracking parameter now and then: the canonical link says which address counts.
    return tuple((page.heading, page.path + ("?ref=side" if rng.random() < 0.05 else "")) for page in chosen)


def _view(page: Page, host: Host, pack: LanguagePack, related: tuple[Link, ...], rng: random.Random) -> View:
    phrases = pack.boilerplate
    written = _FIRST_DAY + timedelta(days=rng.randrange(_DAYS))
    comments = rng.sample(phrases["comment"], rng.randint(0, 3))
    return View(
        heading=page.heading,
        intro=page.intro,
        sections=page.sections,
        site_name=host.name,
        home=host.prefix,
        menu=tuple((label, f"{host.prefix}#{number}") for number, label in enumerate(phrases["menu"])),
        cookie=rng.choice(phrases["cookie"]),
        accept=rng.choice(phrases["accept"]),
        footer=(f"© {written.year} {host.name}", *phrases["footer"]),
        related_heading=rng.choice(phrases["related"]),
        related=related,
        comments_heading=rng.choice(phrases["comments"]),
        comments=tuple((rng.choice(phrases["commenter"]), said) for said in comments),
        share=phrases["share"],
        subscribe=rng.choice(phrases["subscribe"]),
        search=rng.choice(phrases["search"]),
        advert=rng.choice(phrases["advert"]),
        byline=f"{rng.choice(phrases['published'])}: {written.day}.{written.month}.{written.year}",
    )
