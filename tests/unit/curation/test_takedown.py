"""How a takedown finds what it takes down in a report or a training snapshot."""

from __future__ import annotations

import html
import json

import pytest

from xinstruct.curation.config import CurationSettings
from xinstruct.curation.takedown import names_any
from xinstruct.spine.config import parse
from xinstruct.spine.errors import Invalid

URLS = ("https://a.example/maji", "https://a.example/l'eau?a=1&b=2", "https://a.example/'maji'", "https://a.example/m;#row=2")
WRITTEN = ("<td>{}</td>", "<td>\n{}\n</td>", "<a href='{}'>x</a>", '<a href="{}">x</a>', '<a href="{}">{}</a>')


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("form", WRITTEN)
def test_a_page_is_found_however_its_url_is_written(url: str, form: str) -> None:
    assert names_any(form.format(*(html.escape(url),) * 2).encode(), {url})
    assert names_any(form.format(*(html.escape(url).replace("&#x27;", "&#39;"),) * 2).encode(), {url})  # as jinja does
    assert names_any(json.dumps([url, {"url": url}]).encode(), {url})


@pytest.mark.parametrize("url", URLS)
def test_a_page_is_not_another_whose_url_begins_alike(url: str) -> None:
    assert not names_any(f"<td>{url}x</td><td>{url}/</td>".encode(), {url})


def test_an_id_is_found_as_a_word_of_its_own() -> None:
    subject = "0123456789abcdef" * 2
    assert names_any(f'{{"id":"{subject}"}}'.encode(), {subject})
    assert not names_any(f"{subject}0 x{subject}".encode(), {subject})


@pytest.mark.parametrize("url", ["s3://bucket/reports", "file:///var/reports", "memory://reports"])
def test_reports_are_looked_for_in_a_folder_and_a_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match=r"reports_location: .*expected a folder, which takedowns look through"):
        parse(f"reports_location: {url}\n", CurationSettings)
    assert parse("reports_location: /var/reports\n", CurationSettings).reports_location == "/var/reports"
