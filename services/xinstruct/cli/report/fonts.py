"""Fonts of the page: embedded as data URLs, only those whose scripts the report shows. Licences: fonts/OFL.txt."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Font:
    """A font file and where it is used. `scripts`: ISO 15924 codes; empty: always embedded."""

    family: str
    file: str
    scripts: frozenset[str]
    weight: int = 400
    unicode_range: str = ""


_LATIN = (
    "U+0000-00FF,U+0131,U+0152-0153,U+02BB-02BC,U+02C6,U+02DA,U+02DC,U+2000-206F,U+20AC,U+2122,U+2191,U+2193,U+2212"
)
_LATIN_EXTENDED = "U+0100-02BA,U+0304,U+0308,U+0329,U+1E00-1E9F,U+1EF2-1EFF,U+20A0-20AB,U+20AD-20C0"
_VIETNAMESE = (
    "U+0102-0103,U+0110-0111,U+0128-0129,U+0168-0169,U+01A0-01A1,U+01AF-01B0,U+0300-0303,U+0309,U+0323,U+1EA0-1EF9"
)

FONTS = (
    Font("Report", "noto-sans-latin-400-normal.woff2", frozenset(), unicode_range=_LATIN),
    Font("Report", "noto-sans-latin-600-normal.woff2", frozenset(), 600, _LATIN),
    Font("Report", "noto-sans-latin-ext-400-normal.woff2", frozenset(), unicode_range=_LATIN_EXTENDED),
    Font("Report", "noto-sans-vietnamese-400-normal.woff2", frozenset(), unicode_range=_VIETNAMESE),
    Font("Report Devanagari", "noto-sans-devanagari-devanagari-400-normal.woff2", frozenset(("Deva",))),
    Font("Report Bengali", "noto-sans-bengali-bengali-400-normal.woff2", frozenset(("Beng",))),
    Font("Report Tamil", "noto-sans-tamil-tamil-400-normal.woff2", frozenset(("Taml",))),
    Font("Report Thai", "noto-sans-thai-thai-400-normal.woff2", frozenset(("Thai",))),
    Font("Report Nastaliq", "noto-nastaliq-urdu-arabic-400-normal.woff2", frozenset(("Arab",))),
)


def font_css(scripts: Iterable[str]) -> str:
    """@font-face rules of the fonts that `scripts` (ISO 15924) need, files included."""
    wanted = set(scripts)
    return "\n".join(_face(font) for font in FONTS if not font.scripts or font.scripts & wanted)


def families(script: str) -> str:
    """The CSS font-family list for text in `script`."""
    own = [font.family for font in FONTS if script in font.scripts]
    return ", ".join(f'"{name}"' for name in [*own, "Report"]) + ", sans-serif"


def _face(font: Font) -> str:
    raw = (resources.files("xinstruct.cli.report") / "fonts" / font.file).read_bytes()
    ranged = f"unicode-range:{font.unicode_range};" if font.unicode_range else ""
    return (
        f'@font-face{{font-family:"{font.family}";font-weight:{font.weight};{ranged}'
        f"src:url(data:font/woff2;base64,{base64.b64encode(raw).decode('ascii')}) format('woff2')}}"
    )
