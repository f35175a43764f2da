"""Real text: thirty articles a language, no charset declared, close neighbours served beside the targets.

Needs the folder with the Universal Declaration of Human Rights; skipped by name where it is absent.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from integration.crawler.loopback import crawling, serving
from xinstruct.spine.languages import languages
from xinstruct.spine.messages import SourceKind

FOLDER = Path(os.environ.get("XINSTRUCT_UDHR", Path(__file__).parents[4] / "shared" / "data" / "udhr"))
TARGETS = {
    "ben": "bn", "fin": "fi", "hin": "hi", "ind": "id", "swh": "sw", "tam": "ta", "tha": "th", "tur": "tr", "urd": "ur",
    "vie": "vi",
}


def stripped(html: str) -> bytes:
    """The page without anything that names its language: lang, data-*, title."""
    html = re.sub(r'\s(?:lang|xml:lang|data-[a-z0-9]+)="[^"]*"', "", html)
    return re.sub(r"<title>.*?</title>", "", html, flags=re.DOTALL).encode()


@pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the UDHR folder (XINSTRUCT_UDHR)")
@pytest.mark.slow
def test_each_target_gives_ten_passages_and_no_neighbour_passes_as_one(tmp_path):
    names: dict[str, str] = {}
    with serving() as site:
        for file in sorted(FOLDER.glob("*.html")):
            path = "/" + hashlib.sha256(file.name.encode()).hexdigest()[:12]
            names[path] = file.stem
            site.answers[path] = stripped(file.read_text(encoding="utf-8"))
        urls = "".join(f"<url><loc>{site.url(path)}</loc></url>" for path in names)
        site.answers["/sitemap.xml"] = f"<urlset>{urls}</urlset>"
        with crawling(tmp_path, site) as crawl:
            crawl.add(SourceKind.SITEMAP, site.url("/sitemap.xml"))
            crawl.run()
            documents = crawl.documents()
            prefix = site.url("")
            found = Counter((names[item.url.removeprefix(prefix)], item.language) for item in documents)
    assert {name: found[name, code] for name, code in TARGETS.items() if found[name, code] < 10} == {}
    assert {key: count for key, count in found.items() if TARGETS.get(key[0]) != key[1]} == {}
    assert {item.language for item in documents} == {item.code for item in languages()}
    assert all(200 <= len(item.text) <= 2000 and "\ufffd" not in item.text for item in documents)
