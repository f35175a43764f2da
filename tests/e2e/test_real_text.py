"""Real text through the crawler as it stands: no charset declared, nothing that names a language, neighbours beside it.

The Universal Declaration of Human Rights, thirty articles a language, over HTTP: fetched by its sitemap, extracted in
worker processes, cut, identified, filtered. Needs the folder with its texts; skipped by name where it is absent.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest
from lxml import html

from integration.crawler.loopback import crawling, serving
from xinstruct.spine.languages import languages
from xinstruct.spine.messages import AdmittedDocument, DroppedRecord, SourceKind

FOLDER = Path(os.environ.get("XINSTRUCT_UDHR", Path(__file__).parents[3] / "shared" / "data" / "udhr"))
TARGETS = {
    "ben": "bn", "fin": "fi", "hin": "hi", "ind": "id", "swh": "sw", "tam": "ta", "tha": "th", "tur": "tr", "urd": "ur",
    "vie": "vi",
}
PASSAGES_MIN = 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the UDHR folder (XINSTRUCT_UDHR)"),
]


@dataclass(frozen=True)
class Crawled:
    """What the crawl gave, with the name of the file that each record comes from."""

    documents: list[tuple[str, AdmittedDocument]]
    drops: list[tuple[str, DroppedRecord]]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Crawled:
    """Every file served and crawled once."""
    names: dict[str, str] = {}
    with serving() as site:
        for file in sorted(FOLDER.glob("*.html")):
            path = "/" + hashlib.sha256(file.name.encode()).hexdigest()[:12]
            names[site.url(path)] = file.stem
            site.answers[path] = stripped(file.read_text(encoding="utf-8"))
        urls = "".join(f"<url><loc>{url}</loc></url>" for url in names)
        site.answers["/sitemap.xml"] = f"<urlset>{urls}</urlset>"
        with crawling(tmp_path_factory.mktemp("udhr"), site) as crawl:
            crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
            crawl.run()
            return Crawled(
                [(names[item.url], item) for item in crawl.documents()],
                [(names[item.url], item) for item in crawl.drops()],
            )


def stripped(page: str) -> bytes:
    """The page without anything that names its language: lang, data-*, title."""
    page = re.sub(r'\s(?:lang|xml:lang|data-[a-z0-9]+)="[^"]*"', "", page)
    return re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL).encode()


def articles(name: str) -> set[str]:
    """Preamble and articles of a file as a person reads them: heading and paragraphs, a blank line between them."""
    page = html.fromstring((FOLDER / f"{name}.html").read_text("utf-8"))
    parts = page.xpath("//header | //article")
    return {"\n\n".join(plain(block.text_content()) for block in part.xpath(".//h2 | .//p")) for part in parts}


def plain(text: str) -> str:
    """Composed characters and single blanks; line by line."""
    lines = unicodedata.normalize("NFC", text).strip().split("\n\n")
    return "\n\n".join(" ".join(line.split()) for line in lines)


def test_each_target_language_gives_ten_passages_or_more(crawled: Crawled) -> None:
    found = Counter((name, item.language) for name, item in crawled.documents)
    assert {name: found[name, code] for name, code in TARGETS.items() if found[name, code] < PASSAGES_MIN} == {}
    assert {item.language for _, item in crawled.documents} == {item.code for item in languages()}


def test_no_passage_of_a_neighbour_passes_as_a_target_s(crawled: Crawled) -> None:
    assert [(name, item.language) for name, item in crawled.documents if TARGETS.get(name) != item.language] == []


def test_every_passage_is_one_article_as_it_was_written_with_its_heading_on_a_line_of_its_own(crawled: Crawled) -> None:
    written = {name: articles(name) for name in TARGETS}
    assert [item.text for name, item in crawled.documents if plain(item.text) not in written[name]] == []
    assert [item.title for _, item in crawled.documents if item.text.split("\n\n")[0] != item.title] == []


def test_every_article_of_a_target_language_is_admitted_or_dropped_with_a_reason(crawled: Crawled) -> None:
    ended: dict[str, list[int]] = defaultdict(list)
    for name, item in (*crawled.documents, *crawled.drops):
        ended[name].append(item.ordinal)
    for name in TARGETS:
        assert sorted(ended[name]) == list(range(len(ended[name])))
        assert len(ended[name]) >= len(articles(name))
