"""Page skins: what the markup around and inside the main text looks like.

A skin is a function from a View to the inside of <body>. Class names and ids are what such sites really use; none of
them marks the main text for a reader who knows the microworld.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from xinstruct.microworld.documents import BlockKind
from xinstruct.microworld.page import Section

Link = tuple[str, str]
"""Text and address."""


@dataclass(frozen=True, slots=True)
class View:
    """A page as a skin sees it: text, and the furniture of the site around it, not yet escaped."""

    heading: str
    intro: str
    sections: tuple[Section, ...]
    site_name: str
    home: str
    menu: tuple[Link, ...]
    cookie: str
    accept: str
    footer: tuple[str, ...]
    related_heading: str
    related: tuple[Link, ...]
    comments_heading: str
    comments: tuple[tuple[str, str], ...]
    share: tuple[str, ...]
    subscribe: str
    search: str
    advert: str
    byline: str


def broadsheet(view: View) -> str:
    """A newspaper: HTML5 elements."""
    comments = "".join(
        f'<li class="comment"><cite>{escape(who)}</cite><p>{escape(said)}</p></li>' for who, said in view.comments
    )
    return f"""<div id="cookie-notice" class="cookie-notice"><p>{escape(view.cookie)}</p>
<button type="button">{escape(view.accept)}</button></div>
<header class="site-header"><a class="logo" href="{view.home}">{escape(view.site_name)}</a>
<form role="search"><input type="search" placeholder="{escape(view.search)}"></form>
<nav class="main-nav"><ul>{_items(view.menu)}</ul></nav></header>
<main><article class="post"><header><h1>{escape(view.heading)}</h1><p class="byline">{escape(view.byline)}</p></header>
{_intro(view)}{_sections(view.sections, "h2", "h3")}
<ul class="share-buttons">{_plain_items(view.share)}</ul></article>
<aside class="related"><h3>{escape(view.related_heading)}</h3><ul>{_items(view.related)}</ul></aside>
<section id="comments" class="comments"><h3>{escape(view.comments_heading)}</h3><ol>{comments}</ol></section></main>
<footer class="site-footer"><p>{escape(" · ".join(view.footer))}</p></footer>"""


def journal(view: View) -> str:
    """A weblog: nested divisions, a sidebar."""
    comments = "".join(
        f'<div class="comment-body"><b>{escape(who)}</b>: <p>{escape(said)}</p></div>' for who, said in view.comments
    )
    return f"""<div id="page"><div id="masthead"><div class="site-title">
<a href="{view.home}">{escape(view.site_name)}</a>
</div><div class="menu">{_inline(view.menu)}</div></div>
<div id="content" class="site-content"><div class="entry"><h1 class="entry-title">{escape(view.heading)}</h1>
<div class="entry-meta">{escape(view.byline)}</div><div class="entry-content">{_intro(view)}
{_sections(view.sections, "h2", "h3")}</div>
<div class="entry-footer sharedaddy">{escape(" | ".join(view.share))}</div></div>
<div id="comments" class="comments-area"><h3>{escape(view.comments_heading)}</h3>{comments}</div></div>
<div id="secondary" class="widget-area sidebar"><div class="widget"><form>{escape(view.search)} <input name="q">
</form></div>
<div class="widget"><h4 class="widget-title">{escape(view.related_heading)}</h4><ul>{_items(view.related)}</ul></div>
<div class="widget widget-ad">{escape(view.advert)}</div><div class="widget">{escape(view.subscribe)}</div></div>
<div id="colophon" class="site-footer">{escape(" ".join(view.footer))}</div>
<div class="cookie-consent banner">{escape(view.cookie)} <a href="#">{escape(view.accept)}</a></div></div>"""


def portal(view: View) -> str:
    """A portal: bread crumbs, boxes, an advertisement within the text's column."""
    boxes = "".join(f'<div class="box teaser"><a href="{link}">{escape(text)}</a></div>' for text, link in view.related)
    comments = "".join(f"<li><span>{escape(who)}</span> {escape(said)}</li>" for who, said in view.comments)
    return f"""<div class="topbar"><ul class="lang">{_items(view.menu[:3])}</ul><span>{escape(view.subscribe)}</span>
</div>
<div class="header"><a href="{view.home}"><img src="{view.home}logo.png" alt="{escape(view.site_name)}"></a></div>
<div class="navbar" role="navigation"><ul>{_items(view.menu)}</ul></div>
<div class="breadcrumb"><a href="{view.home}">{escape(view.site_name)}</a> » {_inline(view.menu[3:4])}</div>
<div class="container"><div class="col-8 content-area"><h1>{escape(view.heading)}</h1>
<div class="info-line"><time>{escape(view.byline)}</time></div>
<div class="ad-slot advertisement">{escape(view.advert)}</div>
<div class="article-body text">{_intro(view)}{_sections(view.sections, "h2", "h3")}</div>
<div class="social-share">{escape(" ".join(view.share))}</div>
<div class="related-articles"><h4>{escape(view.related_heading)}</h4>{boxes}</div>
<div class="user-comments comments"><h4>{escape(view.comments_heading)}</h4><ul>{comments}</ul></div></div></div>
<div class="footer"><ul>{_plain_items(view.footer)}</ul></div>
<div class="modal cookie-modal" style="display:none">{escape(view.cookie)}<button>{escape(view.accept)}</button>
</div>"""


def tables(view: View) -> str:
    """An old site: layout by tables."""
    menu = "<br>".join(f'<a href="{link}">{escape(text)}</a>' for text, link in view.menu)
    related = "<br>".join(f'<a href="{link}">{escape(text)}</a>' for text, link in view.related)
    return f"""<table width="100%" border="0" cellpadding="4"><tr bgcolor="#ddeeff"><td colspan="3">
<a href="{view.home}"><b>{escape(view.site_name)}</b></a></td></tr>
<tr valign="top"><td width="140" id="leftmenu" class="menu navigation">{menu}</td>
<td><h1>{escape(view.heading)}</h1>
{_intro(view)}{_sections(view.sections, "h2", "h3")}
</td><td width="160" id="sidebar" class="sidebar"><b>{escape(view.related_heading)}</b><br>{related}</td></tr>
<tr><td colspan="3" align="center" id="footer" class="footer"><small>{escape(" | ".join(view.footer))}</small></td>
</tr></table>"""


def cards(view: View) -> str:
    """An application's page: generated class names, the footer full of links."""
    related = "".join(
        f'<a class="css-9dq1k" href="{link}"><span>{escape(text)}</span></a>' for text, link in view.related
    )
    comments = "".join(
        f'<div class="css-c0mm"><div class="css-u5r">{escape(who)}</div><div class="css-t3x">{escape(said)}</div></div>'
        for who, said in view.comments
    )
    return f"""<div id="__app"><nav class="css-1a2b3c"><a href="{view.home}">{escape(view.site_name)}</a>
{_inline(view.menu)}</nav><div role="dialog" aria-label="cookies" class="css-77ck">{escape(view.cookie)}
<button class="css-btn">{escape(view.accept)}</button></div>
<main class="css-m41n"><section class="css-s3ct"><h1 class="css-h34d">{escape(view.heading)}</h1>
<div class="css-by">{escape(view.byline)}</div>{_intro(view)}{_sections(view.sections, "h2", "h3")}</section></main>
<aside class="css-a51d"><h2>{escape(view.related_heading)}</h2>{related}</aside>
<section id="comments" class="css-cmts comments"><h2>{escape(view.comments_heading)}</h2>{comments}</section>
<footer class="css-f007"><div>{escape(view.subscribe)}</div><ul>{_items(view.menu)}{_plain_items(view.footer)}</ul>
</footer>
</div>"""


def almanac(view: View) -> str:
    """A quiet page: text first, everything else below it in definition lists and plain divisions."""
    return f"""<p class="skip"><a href="#t">{escape(view.accept)}</a></p><h1 id="t">{escape(view.heading)}</h1>
<div class="c">{_intro(view)}{_sections(view.sections, "h2", "h3")}</div><hr>
<nav><dl><dt>{escape(view.related_heading)}</dt><dd>{_inline(view.related)}</dd>
<dt><a href="{view.home}">{escape(view.site_name)}</a></dt><dd>{_inline(view.menu)}</dd></dl></nav>
<footer><address>{escape(" – ".join(view.footer))}</address><p class="note">{escape(view.cookie)}</p></footer>"""


HELD_OUT_SKIN = "almanac"
"""No test and no default selects it: it stays unseen until somebody asks whether extraction generalises."""
SKINS: dict[str, Callable[[View], str]] = {
    "broadsheet": broadsheet,
    "journal": journal,
    "portal": portal,
    "tables": tables,
    "cards": cards,
    HELD_OUT_SKIN: almanac,
}
SKINS_IN_USE = tuple(skin for skin in SKINS if skin != HELD_OUT_SKIN)


def _sections(sections: Sequence[Section], section_tag: str, block_tag: str) -> str:
    """Return the text as HTML; sections have headings of the first level, blocks within them of the second."""
    pieces: list[str] = []
    for section in sections:
        # Within a page of one document its own headings take the first level.
        heading_tag = block_tag if section.heading else section_tag
        if section.heading:
            pieces.append(f"<{section_tag}>{escape(section.heading)}</{section_tag}>")
        for block in section.blocks:
            tag = heading_tag if block.kind is BlockKind.HEADING else "p"
            pieces.append(f"<{tag}>{escape(block.text, quote=False)}</{tag}>")
    return "\n".join(pieces)


def _intro(view: View) -> str:
    return f"<p>{escape(view.intro)}</p>\n" if view.intro else ""


def _items(links: Sequence[Link]) -> str:
    return "".join(f'<li><a href="{link}">{escape(text)}</a></li>' for text, link in links)


def _inline(links: Sequence[Link]) -> str:
    return " ".join(f'<a href="{link}">{escape(text)}</a>' for text, link in links)


def _plain_items(lines: Sequence[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)
