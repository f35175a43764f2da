"""Sitemaps, feeds and text files, good and bad."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xinstruct.crawler.listings import parse_feed, parse_sitemap
from xinstruct.crawler.sources import read_jsonl, read_parquet
from xinstruct.spine.errors import Invalid, NotFound

SITEMAP = b"""<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
<url><loc> http://a.example/1 </loc><image:image><image:loc>http://a.example/1.png</image:loc></image:image></url>
<url><loc>http://a.example/2</loc><lastmod>2026-01-01</lastmod></url></urlset>"""
RSS = b"""<rss version="2.0"><channel><link>http://a.example/</link><item><title>x</title><link>http://a.example/1</link></item>
<item><guid>y</guid></item><item><link>/2</link></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><link href="http://a.example/"/>
<entry><link rel="edit" href="http://a.example/e"/><link href="http://a.example/1"/></entry></feed>"""


def test_a_sitemap_lists_pages_and_not_images():
    assert parse_sitemap(SITEMAP).pages == ("http://a.example/1", "http://a.example/2")


def test_a_gzipped_sitemap_is_unpacked():
    assert parse_sitemap(gzip.compress(SITEMAP)).pages == ("http://a.example/1", "http://a.example/2")


def test_a_sitemap_index_lists_sitemaps():
    body = b"<sitemapindex><sitemap><loc>http://a.example/s1.xml</loc></sitemap></sitemapindex>"
    assert parse_sitemap(body).listings == ("http://a.example/s1.xml",)


def test_rss_and_atom_list_their_entries_only():
    assert parse_feed(RSS).pages == ("http://a.example/1", "/2")
    assert parse_feed(ATOM).pages == ("http://a.example/1",)


@pytest.mark.parametrize("body", [b"", b"not xml", b"<html><p>hi</p></html>", b"<urlset><url>", b"\x1f\x8bbroken"])
def test_what_is_neither_sitemap_nor_feed_is_invalid(body):
    with pytest.raises(Invalid):
        parse_sitemap(body)
    with pytest.raises(Invalid):
        parse_feed(body)


def test_entities_are_not_expanded():
    bomb = b'<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><urlset><url><loc>http://a.example/&b;</loc></url></urlset>'
    assert "aaaa" not in "".join(parse_sitemap(bomb).pages)


def test_a_gzip_bomb_is_refused():
    with pytest.raises(Invalid, match="bytes unpacked"):
        parse_sitemap(gzip.compress(b" " * 60_000_000))


def write_jsonl(path, lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return str(path)


def read(location, position=0, first=0, rows_max=100):
    return read_jsonl(location, position, first_number=first, rows_max=rows_max, text_field="text", url_field="url")


def test_jsonl_gives_a_row_a_line_and_a_reason_for_bad_ones(tmp_path):
    location = write_jsonl(tmp_path / "a.jsonl", [
        {"text": "one", "url": "http://a.example/"}, "broken\n", {"other": 1}, "[1]\n", {"text": "two"},
    ])
    found = read(location)
    assert [(row.number, row.text, row.url, row.error) for row in found.rows] == [
        (0, "one", "http://a.example/", ""), (1, "", "", "not JSON"), (2, "", "", "no text in 'text'"),
        (3, "", "", "not an object"), (4, "two", "", ""),
    ]
    assert found.ended


def test_jsonl_goes_on_where_it_stopped(tmp_path):
    location = write_jsonl(tmp_path / "a.jsonl", [{"text": str(number)} for number in range(5)])
    first = read(location, rows_max=2)
    rest = read(location, first.position, first=2)
    assert [row.text for row in (*first.rows, *rest.rows)] == ["0", "1", "2", "3", "4"]
    assert (first.ended, rest.ended) == (False, True)


def test_an_absent_file_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        read(str(tmp_path / "absent.jsonl"))


def parquet(path, columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return str(path)


def test_parquet_is_read_across_row_groups(tmp_path):
    location = parquet(tmp_path / "a.parquet", {"text": list("abcde"), "url": ["u"] * 5})
    first = read_parquet(location, 0, rows_max=3, text_field="text", url_field="url")
    rest = read_parquet(location, first.position, rows_max=3, text_field="text", url_field="url")
    assert [row.text for row in (*first.rows, *rest.rows)] == list("abcde")
    assert [row.number for row in (*first.rows, *rest.rows)] == [0, 1, 2, 3, 4]
    assert (first.ended, rest.ended) == (False, True)


def test_a_missing_column_is_named_with_those_that_exist(tmp_path):
    location = parquet(tmp_path / "a.parquet", {"body": ["a"]})
    with pytest.raises(Invalid, match="no column 'text'; there are body"):
        read_parquet(location, 0, rows_max=3, text_field="text", url_field="url")


def test_what_is_no_parquet_is_invalid(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(Invalid, match="Parquet"):
        read_parquet(str(path), 0, rows_max=3, text_field="text", url_field="url")
