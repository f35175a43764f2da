"""Web pages of a given size, made of microworld text: what the extraction stage is measured with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from builders import digest, page
from xinstruct.crawler.config import CrawlerSettings
from xinstruct.crawler.measure import measure
from xinstruct.crawler.stage import MeasureRequest, PageMeasures, stage
from xinstruct.microworld.seeds import plain_texts
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.messages import FetchedPage
from xinstruct.spine.stage import Stage
from xinstruct.spine.topics import PAGE_FETCHED

PAGE_BYTES = 20_000
TEXTS_PER_PAGE = 3
_LINKS = (f'<li><a class="menu-item level-{n % 3}" href="/sehemu/{n}">Sehemu {n}</a></li>' for n in range(60))
_NAVIGATION = "".join(_LINKS)
_STYLE = ".menu-item{display:block;margin:0 1em;color:#123456}.level-1{padding-left:1em}\n"


def bodies(count: int, texts_per_page: int = TEXTS_PER_PAGE) -> Iterator[bytes]:
    """HTML pages in Swahili, each about PAGE_BYTES long, with navigation, style and footer around the text."""
    texts = plain_texts(7, ["sw"], count * texts_per_page)
    for _ in range(count):
        paragraphs = (line for text in itertools.islice(texts, texts_per_page) for line in text.splitlines() if line)
        text = "".join(f"<p>{line}</p>\n" for line in paragraphs)
        head = f"<html lang=sw><head><meta charset=utf-8><title>Makala</title><style>{_STYLE * 20}</style></head>"
        frame = f"{head}<body><nav><ul>{_NAVIGATION}</ul></nav><main>{text}</main>"
        filling = "<script>var x = 1;</script>\n" * max(0, (PAGE_BYTES - len(frame.encode())) // 28)
        yield f"{frame}<footer><p>Haki zote zimehifadhiwa</p></footer>{filling}</body></html>".encode()


def fetched(number: int, body_digest: str = digest("b")) -> FetchedPage:
    """The record of one fetched page."""
    return page(
        fetch_id=f"{number:032x}", page_id=f"{number:032x}", url=f"http://nyumbani.example/makala/{number}",
        body_digest=body_digest, body_bytes=PAGE_BYTES,
    )


class InProcessPort:
    """Measures pages in the caller's thread, as a worker process would."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def submit(self, request: MeasureRequest) -> Future[Any]:
        """The page's measures, at once."""
        arguments = {"content_type": request.content_type, "plain": request.plain}
        found = measure(arguments, self._blobs.get(request.body_digest))
        future: Future[Any] = Future()
        future.set_result(PageMeasures(
            passages=tuple(found["passages"]), agreement_ratio=found["agreement_ratio"],
            visible_chars=found["visible_chars"], licence=found["licence"],
        ))
        return future

    def close(self) -> None:
        """Nothing is open."""


def admit_stage(port: Any) -> Stage:
    """The crawler's own admit stage over `port`."""
    return stage(CrawlerSettings(), port)


def store(blobs: Blobs, count: int, first: int = 0) -> Iterator[Any]:
    """Put so many pages' bodies into the store; their unplaced records."""
    for number, body in enumerate(bodies(count), first):
        yield fetched(number, blobs.put(body)).record(PAGE_FETCHED.name)


def folder_blobs(folder: Path) -> Blobs:
    """A blob store under `folder`."""
    return Blobs(str(folder / "blobs"))
