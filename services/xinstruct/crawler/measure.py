"""What a worker measures of a page: parse, extract, cut, identify, mask. It decides nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from xinstruct.crawler.charset import decode
from xinstruct.crawler.extract import Extraction, extract, plain_blocks
from xinstruct.crawler.langid import identify
from xinstruct.crawler.markup import licence_of, parsed
from xinstruct.crawler.minhash import signature, text_digest
from xinstruct.crawler.personal_data import mask
from xinstruct.crawler.quality import measure as measure_quality
from xinstruct.crawler.segment import Passage, passages
from xinstruct.spine.languages import CHARS_MAX, CHARS_MIN, known_language

TEXT_CHARS_MAX = 1_000_000
"""Main text beyond this is not looked at: no article is that long."""
MEASURED_CHARS_MAX = 50_000
"""Passages beyond this are only counted, not measured: they are too long for every language."""


def measure(arguments: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """Every passage of a page with its measurements.

    arguments: content_type, plain (whether the body is text, not HTML). The answer: passages (see _measured),
    agreement_ratio, visible_chars, encoding, licence (as the page names it).
    """
    decoded = decode(body, str(arguments.get("content_type", "")))
    text = decoded.text[:TEXT_CHARS_MAX]
    if arguments.get("plain"):
        found, licence = Extraction(plain_blocks(text), 1.0, len(text)), ""
    else:
        tree = parsed(text)
        found, licence = extract(text, tree), licence_of(tree) if tree is not None else ""
    page_text = "\n".join(block.text for block in found.blocks)
    cut = passages(found.blocks, CHARS_MAX)
    return {
        "passages": [_measured(passage, page_text) for passage in cut],
        "agreement_ratio": found.agreement_ratio, "visible_chars": found.visible_chars,
        "encoding": decoded.encoding, "licence": licence,
    }


def _measured(passage: Passage, page_text: str) -> dict[str, Any]:
    """text: masked. language, confidence_ratio, script_ratio, foreign_ratio, runner_up: see langid. measures: see
    quality; for a language that the registry does not know, or a text of impossible length, only the length."""
    masked = mask(passage.text)
    text = masked.text
    answer: dict[str, Any] = {"title": mask(passage.title).text, "masked_count": sum(masked.counts.values())}
    if not CHARS_MIN // 4 <= len(text) <= MEASURED_CHARS_MAX:
        return answer | {"text": "", "language": "", "measures": {"chars": len(text)}}
    said = identify(text, page_text)
    answer |= {
        "text": text, "language": said.code, "confidence_ratio": said.confidence_ratio, "runner_up": said.runner_up,
        "script_ratio": said.script_share_ratio, "foreign_ratio": said.foreign_share_ratio,
    }
    known = known_language(said.code)
    if known is None:
        return answer | {"measures": {"chars": len(text)}}
    return answer | {
        "measures": measure_quality(text, passage.paragraphs, known, masked.counts),
        "signature": base64.b64encode(signature(text, word_separated=known.word_separated)).decode("ascii"),
        "text_digest": text_digest(text),
    }

