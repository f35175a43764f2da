"""Personal data in text, found by form and check digits and masked: addresses, phones, accounts, cards, national ids.

Digits of every script count. Not covered: names, postal addresses, birthdays, and numbers without a check digit that no
word beside them explains.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_EMAIL = re.compile(
    r"[^\s@<>(),;:\"'\[\]،۔।]{1,64}\s?(?:@|\(at\)|\[at\]|＠)\s?(?:[\w\-]{1,63}(?:\.|\(dot\)|\[dot\])){1,6}[^\W\d_]{2,24}",
    re.IGNORECASE,
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}(?![A-Za-z0-9])")
_IP = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_FINNISH_ID = re.compile(r"(?<!\w)(\d{6})([-+A-FU-Y])(\d{3})([0-9A-FHJ-NPR-Y])(?!\w)")
_SRI_LANKAN_ID = re.compile(r"(?<!\w)\d{2}(?:[0-3]|[5-8])\d{6}[VvXx](?!\w)")
_INDIAN_TAX_ID = re.compile(r"(?<!\w)[A-Z]{3}[ABCFGHLJPTE][A-Z]\d{4}[A-Z](?!\w)")
# A run of digits with the separators that people write: blanks, hyphens, dots, slashes, brackets.
_DIGITS = re.compile(r"(?<![\w.,])(?:\+|\(\+?)?\d(?:[ \u00a0().\-/\u2010-\u2013]{0,3}\d){6,23}(?![\w])")
_DATE = re.compile(
    r"\d{1,2}[./\-]\d{1,2}[./\-]\d{4}|\d{4}[./\-]\d{1,2}[./\-]\d{1,2}|\d{4}\s?[\-\u2010-\u2013]\s?\d{4}"
)
_CUE = re.compile(
    r"(?:tel|tlf|phone|mobile|whats?app|\bwa\b|\bhp\b|fax|puh|puhelin|soita|gsm|telepon|ponsel|hubungi|simu|piga|nambari|"
    r"telefon|cep|gsm|điện thoại|đt|sđt|gọi|hotline|zalo|"
    r"โทร|มือถือ|เบอร์|फ़ोन|फोन|मोबाइल|दूरभाष|ফোন|মোবাইল|தொலைபேசி|கைபேசி|அலைபேசி|فون|موبائل|رابطہ|"
    r"id\b|no\b|nro|nik|ktp|nida|kimlik|t\.?c\.?|cccd|cmnd|căn cước|เลขประจำตัว|บัตรประชาชน|aadhaar|आधार|ஆதார்|nid|"
    r"এনআইডি|পরিচয়পত্র|شناختی|کارڈ|cnic|henkilötunnus|hetu)[^\n]{0,25}$",
    re.IGNORECASE,
)
_CUE_CHARS = 40
_DIGIT_TABLE = {
    code: str(unicodedata.digit(chr(code))) for code in range(128, 0x11000) if unicodedata.category(chr(code)) == "Nd"
}


@dataclass(frozen=True, slots=True)
class Masked:
    """text: with personal data replaced. counts: mask → how often."""

    text: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Found:
    start: int
    end: int
    mask: str


def mask(text: str) -> Masked:
    """`text` with every piece of personal data replaced by "⟨kind⟩"."""
    ascii_text = _ascii_digits(text)
    found = sorted(_find(ascii_text), key=lambda item: (item.start, -item.end))
    pieces: list[str] = []
    counts: dict[str, int] = {}
    place = 0
    for item in found:
        if item.start < place:
            continue
        pieces += [text[place:item.start], f"⟨{item.mask}⟩"]
        counts[item.mask] = counts.get(item.mask, 0) + 1
        place = item.end
    return Masked("".join([*pieces, text[place:]]), counts)


def _find(text: str) -> Iterator[_Found]:
    for pattern, name, valid in _PATTERNS:
        for match in pattern.finditer(text):
            if valid(match.group()):
                yield _Found(*match.span(), name)
    for match in _DIGITS.finditer(text):
        kind = _kind_of_number(match.group(), text[max(match.start() - _CUE_CHARS, 0):match.start()])
        if kind:
            yield _Found(*match.span(), kind)


def _kind_of_number(written: str, before: str) -> str:
    """What a run of digits is: "card", "id", "phone", or "" when it is just a number."""
    digits = re.sub(r"\D", "", written)
    plain = not re.search(r"[^\d\s\-]", written)
    if plain and any(len(digits) == length and rule(digits) for length, rule in _ID_RULES):
        return "id"
    if plain and 13 <= len(digits) <= 19 and _luhn(digits):
        return "card"
    if _phone_form(written, digits) or (_CUE.search(before) and 7 <= len(digits) <= 20 and not _thousands(written)):
        return "phone" if len(digits) <= 15 else "id"
    return ""


def _phone_form(written: str, digits: str) -> bool:
    """Whether the run is written as phones are: with an international prefix, or a leading zero and no thousands."""
    if not 8 <= len(digits) <= 15 or _thousands(written) or _date(written):
        return False
    if written.lstrip("(").startswith("+") or digits.startswith("00"):
        return True
    return digits.startswith("0") and len(digits) >= 9


def _thousands(written: str) -> bool:
    return bool(re.fullmatch(r"\d{1,3}(?:[., \u00a0]\d{3})+", written.strip())) and not written.strip().startswith("0")


def _date(written: str) -> bool:
    """Dates and spans of years."""
    return bool(_DATE.fullmatch(written.strip()))


def _ascii_digits(text: str) -> str:
    """The same text, character by character, with every script's digits as ASCII."""
    return text if text.isascii() else text.translate(_DIGIT_TABLE)


# ── check digits ────────────────────────────────────────────────────────────────────────────────────────────────────


def _luhn(digits: str) -> bool:
    total = 0
    for index, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + index % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and len(set(digits)) > 1


def _iban(written: str) -> bool:
    raw = re.sub(r"[^A-Z0-9]", "", written)
    moved = raw[4:] + raw[:4]
    return 15 <= len(raw) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _finnish(written: str) -> bool:
    match = _FINNISH_ID.fullmatch(written)
    assert match is not None
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(match[1] + match[3]) % 31] == match[4]


def _thai(digits: str) -> bool:
    total = sum(int(digit) * (13 - index) for index, digit in enumerate(digits[:12]))
    return (11 - total % 11) % 10 == int(digits[12]) and digits[0] != "0"


def _turkish(digits: str) -> bool:
    values = [int(digit) for digit in digits]
    tenth = (7 * sum(values[0:9:2]) - sum(values[1:8:2])) % 10
    return values[0] != 0 and tenth == values[9] and sum(values[:10]) % 10 == values[10]


_VERHOEFF_TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)
_VERHOEFF_PERMUTED = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)


def _aadhaar(digits: str) -> bool:
    check = 0
    for index, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_TIMES[check][int(_VERHOEFF_PERMUTED[index % 8][int(digit)])])
    return check == 0 and digits[0] in "23456789"


def _indonesian(digits: str) -> bool:
    """NIK: region, then day (women: + 40), month and year of birth; it has no check digit."""
    day, month = int(digits[6:8]), int(digits[8:10])
    return 11 <= int(digits[:2]) <= 96 and 1 <= (day - 40 if day > 40 else day) <= 31 and 1 <= month <= 12


def _vietnamese(digits: str) -> bool:
    """CCCD: province 001–096, century and sex, year; it has no check digit."""
    return 1 <= int(digits[:3]) <= 96 and digits[3] in "0123"


def _tanzanian(digits: str) -> bool:
    """NIDA: date of birth, post code, serial; it has no check digit."""
    return 1900 <= int(digits[:4]) <= 2100 and 1 <= int(digits[4:6]) <= 12 and 1 <= int(digits[6:8]) <= 31


def _pakistani(digits: str) -> bool:
    """CNIC: province 1–8 first; it has no check digit."""
    return digits[0] in "12345678"


def _ip(written: str) -> bool:
    try:
        return ipaddress.ip_address(written).is_global
    except ValueError:
        return False


_ID_RULES: tuple[tuple[int, Callable[[str], bool]], ...] = (
    (11, _turkish), (12, _aadhaar), (12, _vietnamese), (13, _thai), (13, _pakistani), (16, _indonesian),
    (20, _tanzanian),
)
_PATTERNS: tuple[tuple[re.Pattern[str], str, Callable[[str], bool]], ...] = (
    (_EMAIL, "email", lambda written: True),
    (_IBAN, "iban", _iban),
    (_FINNISH_ID, "id", _finnish),
    (_SRI_LANKAN_ID, "id", lambda written: True),
    (_INDIAN_TAX_ID, "id", lambda written: True),
    (_IP, "ip", _ip),
)
