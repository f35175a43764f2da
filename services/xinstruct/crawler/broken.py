"""Letter sequences that a script does not allow: what broken fonts, wrong conversions and lost characters leave behind.

Indic scripts: vowel signs without a consonant, two vowel signs on one, a virama that joins nothing. Thai and Lao: marks
without a consonant, two vowels above or two tones on one, a leading vowel that leads nothing. Dotted circles anywhere.
"""

from __future__ import annotations

import re
from functools import cache


def broken_count(text: str) -> int:
    """Impossible sequences in `text` (NFC)."""
    if text.isascii():
        return 0
    return sum(sum(1 for _ in pattern.finditer(text)) for pattern in _patterns())


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    indic = (_indic(base) for base in (0x0900, 0x0980, 0x0B80))
    return (*indic, _thai(), re.compile("\u25cc"), re.compile("[\u200c\u200d]{2,}"))


def _indic(base: int) -> re.Pattern[str]:
    """Indic blocks run parallel in Unicode: the same offsets are the same kind of letter."""
    def run(first: int, last: int) -> str:
        return f"{chr(base + first)}-{chr(base + last)}"

    consonant = f"{run(0x15, 0x39)}{run(0x58, 0x5F)}{run(0x70, 0x71)}{run(0x78, 0x7F)}{chr(base + 0x4E)}"
    vowel = run(0x05, 0x14) + run(0x60, 0x61)
    sign = f"{run(0x3E, 0x4C)}{run(0x55, 0x57)}{run(0x62, 0x63)}"
    nukta, virama, mark = chr(base + 0x3C), chr(base + 0x4D), run(0x01, 0x03)
    joiner = "\u200c\u200d"
    if base == 0x0980:
        # Bengali writes অ্যা: a virama on a vowel is no fault there. ৎ takes no sign.
        consonant = f"{run(0x15, 0x39)}{run(0x5C, 0x5F)}{run(0x70, 0x71)}{chr(base + 0x05)}{chr(base + 0x0F)}"
    if base == 0x0900:
        sign += chr(base + 0x3A) + chr(base + 0x3B) + chr(base + 0x4F)
        consonant += chr(base + 0x05)  # ॲ is also written as अ with a sign
    carrier = f"{consonant}{nukta}{joiner}"
    faults = (
        f"(?<![{carrier}])[{sign}]",  # a sign with no consonant, so also a second sign
        f"(?<![{carrier}])[{virama}]",  # a virama on nothing, on a sign, or on another virama
        f"[{virama}][{joiner}]?[{sign}{mark}{vowel}]",  # a virama before what it cannot join
        f"(?<![{consonant}{sign}])[{nukta}]",
        f"[{mark}][{mark}{sign}{virama}]",
    )
    return re.compile("|".join(faults))


def _thai() -> re.Pattern[str]:
    consonant, above, below, tone = "ก-ฮ", "\u0e31\u0e34-\u0e37\u0e47\u0e4d", "\u0e38-\u0e3a", "\u0e48-\u0e4c"
    lead, follow = "เ-ไ", "\u0e30\u0e32\u0e33\u0e45"
    faults = (
        f"(?<![{consonant}])[{above}{below}]",
        f"(?<![{consonant}{above}{below}])[{tone}]",
        f"[{lead}](?![{consonant}])",
        f"(?<![{consonant}{tone}{above}{below}{follow}])[{follow}]",
    )
    return re.compile("|".join(faults))


