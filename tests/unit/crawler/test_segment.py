"""Pages are cut at headings, and only when they are too long."""

from __future__ import annotations

from xinstruct.crawler.extract import Block
from xinstruct.crawler.segment import passages


def heading(text, level=2):
    return Block(text, level=level)


def paragraph(chars, letter="a"):
    return Block(letter * (chars - 1) + ".")


def check(blocks, expected, chars_max=1000):
    found = passages(blocks, chars_max)
    assert [(passage.title, len(passage.text)) for passage in found] == expected


def test_a_page_that_fits_is_one_passage_with_its_headings():
    check([heading("T", 1), paragraph(300), heading("S"), paragraph(300)], [("T", 1 + 2 + 300 + 2 + 1 + 2 + 300)])


def test_a_long_page_is_cut_at_its_highest_headings():
    blocks = [heading("T", 1), paragraph(400), heading("A"), paragraph(400), heading("B"), paragraph(400)]
    check(blocks, [("T", 403), ("A", 403), ("B", 403)])


def test_a_long_section_is_cut_again_at_lower_headings():
    lower = [heading("a", 3), paragraph(800), heading("b", 3), paragraph(800)]
    check([heading("A"), *lower, heading("B"), paragraph(500)], [("A", 806), ("b", 803), ("B", 503)])


def test_a_section_that_fits_keeps_its_lower_headings():
    lower = [heading("a", 3), paragraph(300), heading("b", 3), paragraph(300)]
    check([heading("A"), *lower, heading("B"), paragraph(800)], [("A", 611), ("B", 803)])


def test_a_long_text_without_headings_stays_whole():
    check([paragraph(900), paragraph(900)], [("", 1802)])


def test_a_title_alone_cuts_nothing():
    check([heading("T", 1), paragraph(900), paragraph(900)], [("T", 1805)])


def test_headings_without_text_are_no_passage():
    check([heading("T", 1), heading("A")], [])
    check([], [])


def test_text_before_the_first_heading_is_a_passage_of_its_own():
    check([paragraph(700), heading("A"), paragraph(700)], [("", 700), ("A", 703)])
