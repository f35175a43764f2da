"""The language packs: everything that is written in a language, one TOML file each.

A pack `<code>.toml` (see sw.toml for a complete example) holds

    code, name, script       BCP 47 code, English name, Unicode script name of its letters
    stop                     what ends a sentence that has no end of its own ("" in Thai)
    thousands                separator of thousands
    digits, digits_share     native digits, 0 to 9, and the share of documents written with them (both optional)
    price_unit               what the slot {price} is multiplied with, so that prices suit the currency in the text
    [names]                  first, middle, last: syllables, blank-separated, at least 50,000 combinations together;
                             `native:roman` where the script is not Latin; joiner between syllables ("" mostly);
                             given_man, given_woman: given names; family names are made of syllables
    [words]                  lists of words for slots, `a|b|c`. "fish" fills {fish}, {fish2}, {fish3}, always different;
                             "fish.part" is a parallel list (same length, same order), filling {fish.part}, {fish2.part}
    [headings]               aspect = section headings, one is drawn; the key `form.aspect` wins over `aspect`
    [forms.<form>]           title, lead (one is drawn; both hold {name} in its base form), general (one or
                             more), close (none or one), and each aspect of the form (forms.py): two or more sentences,
                             each of which stands alone, in any order unless the form says otherwise.
                             Notation: templates.py. No sentence stop at the end.
    [boilerplate]            navigation, footers, cookie banners and so on for skins.py
    neighbours               codes of confusable languages, for pages in a wrong language (neighbours.toml)

Slots: {name}; relations by kind ({town}, {town2}, {person}, {dish}…); the numbers of world.NUMBERS; the pack's words.
A name takes a suffix as {town:in} where inflection.py knows the language.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from xinstruct.microworld.templates import Template, compile_template

LANGUAGES = ("fi", "id", "th", "tr", "vi", "bn", "hi", "sw", "ta", "ur")


@dataclass(frozen=True, slots=True)
class Syllable:
    """A piece of a name, in the language's script and in Latin letters."""

    native: str
    roman: str


@dataclass(frozen=True, slots=True)
class Names:
    """The inventories that names are made of."""

    first: tuple[Syllable, ...]
    middle: tuple[Syllable, ...]
    last: tuple[Syllable, ...]
    joiner: str
    given_man: tuple[Syllable, ...]
    given_woman: tuple[Syllable, ...]


@dataclass(frozen=True, slots=True)
class FormText:
    """The sentences of one form, compiled."""

    title: tuple[Template, ...]
    lead: tuple[Template, ...]
    general: tuple[Template, ...]
    close: tuple[Template, ...]
    aspects: Mapping[str, tuple[Template, ...]]


@dataclass(frozen=True, slots=True)
class LanguagePack:
    """One language's file, read and compiled; see the module's docstring for the fields."""

    code: str
    name: str
    script: str
    stop: str
    thousands: str
    digits: str
    digits_share: float
    price_unit: int
    names: Names
    words: Mapping[str, tuple[str, ...]]
    headings: Mapping[str, tuple[str, ...]]
    forms: Mapping[str, FormText]
    boilerplate: Mapping[str, tuple[str, ...]]
    neighbours: tuple[str, ...]


@cache
def load_pack(code: str) -> LanguagePack:
    """Return the pack of a language; ValueError when there is none."""
    if code not in LANGUAGES:
        raise ValueError(f"unknown language {code!r}; the microworld has {', '.join(LANGUAGES)}")
    raw = _read(code)
    names = raw["names"]
    return LanguagePack(
        code=code,
        name=raw["name"],
        script=raw["script"],
        stop=raw["stop"],
        thousands=raw["thousands"],
        digits=raw.get("digits", ""),
        digits_share=raw.get("digits_share", 0.0),
        price_unit=raw["price_unit"],
        names=Names(
            first=_syllables(names["first"]),
            middle=_syllables(names["middle"]),
            last=_syllables(names["last"]),
            joiner=names.get("joiner", ""),
            given_man=_syllables(names["given_man"]),
            given_woman=_syllables(names["given_woman"]),
        ),
        words=_flat(raw["words"]),
        headings={key: tuple(value.split("|")) for key, value in raw["headings"].items()},
        forms={form: _form_text(sentences) for form, sentences in raw["forms"].items()},
        boilerplate={key: tuple(value.split("|")) for key, value in raw["boilerplate"].items()},
        neighbours=tuple(raw["neighbours"]),
    )


@cache
def neighbour_sentences(code: str) -> tuple[Template, ...]:
    """Return the sentences in a confusable language, compiled."""
    return tuple(compile_template(source) for source in _read("neighbours")[code])


def _read(name: str) -> dict[str, Any]:
    # Composed once here, so that names, texts and instructions agree byte by byte (Bengali য়, Hindi ढ़).
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(unicodedata.normalize("NFC", text))


def _syllables(line: str) -> tuple[Syllable, ...]:
    pieces = (item.partition(":") for item in line.split())
    return tuple(Syllable(native, roman or native) for native, _, roman in pieces)


def _flat(words: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {key: tuple(value.split("|")) for key, value in words.items()}


def _form_text(sentences: Mapping[str, list[str]]) -> FormText:
    compiled = {key: tuple(compile_template(source) for source in sources) for key, sources in sentences.items()}
    return FormText(
        title=compiled.pop("title"),
        lead=compiled.pop("lead"),
        general=compiled.pop("general"),
        close=compiled.pop("close"),
        aspects=compiled,
    )
