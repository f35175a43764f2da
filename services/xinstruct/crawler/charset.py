"""Bytes into text without mojibake: what the bytes are is believed before what anybody says they are.

Order: byte order mark; valid UTF-8 (no other encoding looks like that by chance); the header; the page's own meta;
nearly valid UTF-8; detection. Not covered: telling two single-byte encodings of one alphabet apart
where nothing is declared and the text is short.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

META_BYTES_MAX = 4096
REPLACED_RATIO_MAX = 0.02
"""Share of broken sequences below which bytes still count as UTF-8."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-:.]{1,40})", re.IGNORECASE)
_HEADER = re.compile(r"charset\s*=\s*[\"']?([A-Za-z0-9_\-:.]{1,40})", re.IGNORECASE)
# What browsers read these names as (WHATWG encoding standard): pages that say latin-1 mean windows-1252.
_ALIASES = {
    "iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252",
    "iso-8859-9": "cp1254", "tis-620": "cp874", "iso-8859-11": "cp874", "windows-874": "cp874",
}
_WEB_CODEC = re.compile(
    r"utf-8|utf-16(?:-[lb]e)?|iso8859-\d+|cp\d+|koi8-[rut]|mac-\w+|gb2312|gbk|gb18030|big5(?:hkscs)?|euc_\w+|"
    r"shift_jis\w*|iso2022_\w+|tis-620|ascii"
)
_UNLIKELY = re.compile("[\ufffd\u0080-\u009f\ue000-\uf8ff\x01-\x08\x0e-\x1f]|[ÃÂØÙàâ][\u0080-\u00bf]")


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and how it was found. encoding: Python codec name. evidence: bom, bytes, header, meta or detected."""

    text: str
    encoding: str
    evidence: str


def decode(body: bytes, content_type: str = "") -> Decoded:
    """The text of `body`; never fails: what cannot be decoded becomes U+FFFD."""
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return Decoded(body[len(mark):].decode(encoding, "replace"), encoding, "bom")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        return _decode_other(body, content_type)
    return Decoded(text, "utf-8", "bytes")


def declared(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """(codec, evidence) that header and page name, in that order; unknown names are left out."""
    found = []
    header = _HEADER.search(content_type)
    meta = _META.search(body[:META_BYTES_MAX])
    for name, evidence in ((header and header[1], "header"), (meta and meta[1].decode("ascii"), "meta")):
        codec = _codec(name) if name else ""
        if codec:
            found.append((codec, evidence))
    return found


def _decode_other(body: bytes, content_type: str) -> Decoded:
    """Bytes that are not valid UTF-8: the likeliest of what is declared, of damaged UTF-8 and of what is detected."""
    nearly = body.decode("utf-8", "replace")
    broken = nearly.count("\ufffd") / max(sum(1 for byte in body if byte >= 0x80), 1)
    if broken <= REPLACED_RATIO_MAX:
        return Decoded(nearly, "utf-8", "bytes")
    tried = [
        Decoded(body.decode(codec, "replace"), codec, evidence)
        for codec, evidence in declared(body, content_type) if codec != "utf-8"
    ]
    for found in tried:
        if _unlikely_ratio(found.text) < 0.001:
            return found
    tried.append(_detected(body))
    if broken < 0.2:
        tried.append(Decoded(nearly, "utf-8", "bytes"))
    return min(tried, key=lambda found: _unlikely_ratio(found.text))


def _detected(body: bytes) -> Decoded:
    from resiliparse.parse.encoding import detect_encoding

    codec = _codec(detect_encoding(body) or "") or "cp1252"
    return Decoded(body.decode(codec, "replace"), codec, "detected")


def _unlikely_ratio(text: str) -> float:
    """Share of characters that well decoded text does not have: C1 controls, private use, halves of UTF-8 sequences."""
    return len(_UNLIKELY.findall(text)) / max(len(text), 1)


def _codec(name: str) -> str:
    """Python's name of a charset of the web, "" of anything else: Python also knows rot13, zlib and utf-7."""
    lower = name.strip().lower()
    try:
        found = codecs.lookup(_ALIASES.get(lower, lower)).name
    except (LookupError, ValueError):
        return ""
    return found if _WEB_CODEC.fullmatch(found) else ""
