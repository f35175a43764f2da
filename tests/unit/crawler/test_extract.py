"""The main text of a page, on handwritten markup."""

from __future__ import annotations

import pytest

from xinstruct.crawler.extract import extract, plain_blocks
from xinstruct.crawler.markup import PageFacts, page_facts, parsed
from xinstruct.crawler.segment import Passage

FIRST = "Järvi on maan syvin, ja sen rannalla on kolme kylää, joissa kalastetaan ympäri vuoden."
SECOND = "Talvella jää kantaa autoja, mutta keväällä siitä varoitetaan kaikkia kulkijoita kirkon kelloilla."
THIRD = "Kesällä laiva kulkee kahdesti päivässä kylästä toiseen, ja matka kestää runsaan tunnin."


def text_of(html):
    return Passage(extract(html, parsed(html)).blocks).text


def page(main, around=""):
    return (
        '<html><head><title>Otsikko</title><script>var a = "skripti";</script></head><body>'
        '<header class="site-header"><nav><ul><li><a href="/">Etusivu</a></li><li><a href="/b">Uutiset</a></li></ul>'
        f"</nav></header>{main}{around}"
        "<footer><p>Kaikki oikeudet pidätetään. Ota yhteyttä toimitukseen.</p></footer></body></html>"
    )


ARTICLE = f"<h1>Syväjärvi</h1><p>{FIRST}</p><h2>Talvi</h2><p>{SECOND}</p><p>{THIRD}</p>"
ARTICLE_TEXT = f"Syväjärvi\n\n{FIRST}\n\nTalvi\n\n{SECOND}\n\n{THIRD}"


@pytest.mark.parametrize(
    "main",
    [
        f"<main><article>{ARTICLE}</article></main>",
        f'<div id="content"><div class="story">{ARTICLE}</div></div>',
        f"<table><tr><td>{ARTICLE}</td></tr></table>",
        f"<section>{ARTICLE}</section>",
    ],
)
def test_headings_and_paragraphs_are_kept_in_order_whatever_holds_them(main):
    assert text_of(page(main)) == ARTICLE_TEXT


@pytest.mark.parametrize(
    "around",
    [
        '<aside><h3>Lue myös</h3><ul><li><a href="/x">Toinen juttu järvistä</a></li></ul></aside>',
        '<div class="cookie-banner"><p>Käytämme evästeitä, jotta sivusto toimisi mahdollisimman hyvin.</p></div>',
        '<section id="comments"><h3>Kommentit</h3><div class="comment"><p>Olen käynyt siellä, hieno paikka kesällä.</p>'
        "</div></section>",
        '<div class="newsletter-signup"><p>Tilaa uutiskirje, niin saat uusimmat jutut sähköpostiisi.</p></div>',
        '<div style="display: none"><p>Piilotettu teksti, jota kukaan ei näe missään vaiheessa.</p></div>',
        '<div hidden><p>Piilotettu teksti, jota kukaan ei näe missään vaiheessa.</p></div>',
    ],
)
def test_what_stands_around_the_article_is_left_out(around):
    assert text_of(page(f"<main>{ARTICLE}</main>", around)) == ARTICLE_TEXT


def test_a_line_that_only_says_when_is_left_out():
    html = page(f"<main><h1>Syväjärvi</h1><p>Julkaistu: 3.4.2024 12:30</p><p>{FIRST}</p><p>{SECOND}</p></main>")
    assert "Julkaistu" not in text_of(html)


def test_a_date_in_a_sentence_is_kept():
    sentence = "Laiva kulki ensimmäisen kerran 3.4.1924."
    html = page(f"<main><h1>Syväjärvi</h1><p>{FIRST}</p><p>{sentence}</p><p>{SECOND}</p></main>")
    assert sentence in text_of(html)


def test_class_names_that_put_everything_aside_are_not_believed():
    html = page(f'<div class="widget">{ARTICLE}</div>')
    assert FIRST in text_of(html) and SECOND in text_of(html)


def test_list_items_are_lines_of_one_paragraph():
    html = page(
        f"<main><h1>Kalakeitto</h1><p>{FIRST}</p><ul><li>kaksi sipulia kuorittuna</li><li>litra vettä lähteestä</li>"
        f"</ul><p>{SECOND}</p></main>"
    )
    assert "kaksi sipulia kuorittuna\nlitra vettä lähteestä" in text_of(html)


def test_line_breaks_divide_paragraphs_only_when_doubled():
    html = page(f"<main><div>{FIRST}<br>{SECOND}<br><br>{THIRD}</div></main>")
    assert text_of(html) == f"{FIRST}\n{SECOND}\n\n{THIRD}"


@pytest.mark.parametrize(
    "html",
    [
        "", "   ", "<", "<html>", "<!-- only a comment -->", "\x00\x01", "<p", "<table><tr><td>", "</div></div></p>",
        "<?xml version='1.0' encoding='utf-8'?><html><body></body></html>",
        "<div>" * 5000, "<a href='x'>" * 3000 + "loppu", "<p>\ud7ff\ufffe</p>",
    ],
)
def test_malformed_pages_give_no_text_and_no_error(html):
    assert isinstance(text_of(html or "<p></p>"), str)


def test_unclosed_elements_lose_no_text():
    assert text_of(f"<body><h1>Syväjärvi<p>{FIRST}<p>{SECOND}<h2>Kesä<p>{THIRD}").count(".") == 3


def test_engines_that_agree_say_so():
    html = page(f"<main><article>{ARTICLE}</article></main>")
    assert extract(html, parsed(html)).agreement_ratio > 0.7


def test_invisible_characters_are_removed_and_joiners_kept():
    assert plain_blocks("na\u00adme\u200b x\n\nक\u200dष")[0].text == "name x"
    assert plain_blocks("na\u00adme\u200b x\n\nक\u200dष")[1].text == "क\u200dष"


def test_plain_text_is_cut_at_empty_lines():
    assert [block.text for block in plain_blocks("a\r\nb\r\n\r\n c \n\n\n")] == ["a\nb", "c"]


def test_page_facts_are_read_from_any_place():
    html = (
        '<html lang="fi"><head><base href="/x/"><link rel="canonical" href="/c"><link rel="license" href="http://l.example/">'
        '<meta name="Robots" content="noai"><meta http-equiv="Content-Language" content="fi"></head><body>'
        '<a href="/1">1</a><a href="#top">2</a><a rel="nofollow" href="/3">3</a><a>4</a></body></html>'
    )
    assert page_facts(parsed(html)) == PageFacts(
        metas=(("robots", "noai"), ("content-language", "fi")), canonical="/c", base="/x/", licence="http://l.example/",
        language="fi", links=("/1",),
    )


def test_an_empty_page_has_no_facts():
    assert page_facts(parsed("")) == PageFacts()
