"""Invented personal data in the formats of the languages' countries, check digits included where a format has them.

Nobody's: domains end in .example, numbers are drawn. They serve to test that none of it is ever published.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from xinstruct.microworld.languages import LanguagePack
from xinstruct.microworld.world import World

_NATIVE_DIGITS_SHARE = 0.5
_COUNTRY = {"fi": "FI", "tr": "TR", "ur": "PK"}
_PHONES = {
    "fi": "+358 4# ### ####", "id": "+62 81#-####-####", "th": "08#-###-####", "tr": "+90 53# ### ## ##",
    "vi": "+84 9# ### ## ##", "bn": "+880 17##-######", "hi": "+91 9#### #####", "sw": "+255 7## ### ###",
    "ta": "+91 9#### #####", "ur": "+92 3##-#######",
}  # fmt: skip
_VERHOEFF_STEP = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_TURN = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def fill_contact(pack: LanguagePack, world: World, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Return a paragraph that gives somebody's data away, and the strings in it that must never be published."""
    sentence = rng.choice(pack.boilerplate["contact"])
    person = rng.choice(world.entities["person"])
    data = {
        "email": ".".join(person.roman.lower().split()) + f"{rng.randint(1, 99)}@" + rng.choice(("posta", "mail"))
        + f"{rng.randint(2, 99)}.example",
        "phone": _digits_for(_PHONES[pack.code], rng),
        "iban": iban(_COUNTRY.get(pack.code, "DE"), rng),
        "national_id": _NATIONAL_IDS[pack.code](rng),
    }  # fmt: skip
    if pack.digits and rng.random() < _NATIVE_DIGITS_SHARE:
        native = str.maketrans("0123456789", pack.digits)
        data["phone"], data["national_id"] = data["phone"].translate(native), data["national_id"].translate(native)
    used = tuple(value for key, value in data.items() if f"{{{key}}}" in sentence)
    for key, value in data.items():
        sentence = sentence.replace(f"{{{key}}}", value)
    return sentence, used


def iban(country: str, rng: random.Random) -> str:
    """Return an account number with valid check digits, in groups of four."""
    length = {"FI": 14, "TR": 22, "PK": 20, "DE": 18}[country]
    account = "SCBL" + _drawn(16, rng) if country == "PK" else _drawn(length, rng)
    as_number = "".join(str(int(letter, 36)) for letter in account + country + "00")
    whole = f"{country}{98 - int(as_number) % 97:02}{account}"
    return " ".join(whole[start : start + 4] for start in range(0, len(whole), 4))


def _drawn(count: int, rng: random.Random) -> str:
    return "".join(rng.choices("0123456789", k=count))


def _digits_for(pattern: str, rng: random.Random) -> str:
    return "".join(rng.choice("123456789") if letter == "#" else letter for letter in pattern)


def _finnish_id(rng: random.Random) -> str:
    date, serial = f"{rng.randint(1, 28):02}{rng.randint(1, 12):02}{rng.randint(40, 99)}", f"{rng.randint(2, 899):03}"
    return f"{date}-{serial}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(date + serial) % 31]}"


def _thai_id(rng: random.Random) -> str:
    digits = rng.choice("123456789") + _drawn(11, rng)
    check = (11 - sum(int(digit) * (13 - place) for place, digit in enumerate(digits)) % 11) % 10
    whole = f"{digits}{check}"
    return f"{whole[0]}-{whole[1:5]}-{whole[5:10]}-{whole[10:12]}-{whole[12]}"


def _turkish_id(rng: random.Random) -> str:
    digits = [int(digit) for digit in rng.choice("123456789") + _drawn(8, rng)]
    digits.append((7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10)
    return "".join(map(str, [*digits, sum(digits) % 10]))


def _aadhaar(rng: random.Random) -> str:
    digits = rng.choice("23456789") + _drawn(10, rng)
    state = 0
    for place, digit in enumerate(reversed(digits), start=1):
        state = int(_VERHOEFF_STEP[state][int(_VERHOEFF_TURN[place % 8][int(digit)])])
    whole = digits + str("0432156789"[state])
    return f"{whole[:4]} {whole[4:8]} {whole[8:]}"


_NATIONAL_IDS: dict[str, Callable[[random.Random], str]] = {
    "fi": _finnish_id,
    "th": _thai_id,
    "tr": _turkish_id,
    "hi": _aadhaar,
    "ta": _aadhaar,
    "id": lambda rng: (
        f"32{_drawn(4, rng)}{rng.randint(1, 28):02}{rng.randint(1, 12):02}{_drawn(2, rng)}{_drawn(4, rng)}"
    ),
    "vi": lambda rng: f"0{_drawn(11, rng)}",
    "bn": lambda rng: f"19{rng.randint(40, 99)}{_drawn(13, rng)}",
    "sw": lambda rng: (
        f"19{rng.randint(50, 99)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}-{_drawn(5, rng)}-00001-23"
    ),
    "ur": lambda rng: f"{rng.randint(1, 7)}{_drawn(4, rng)}-{_drawn(7, rng)}-{rng.randint(1, 9)}",
}
