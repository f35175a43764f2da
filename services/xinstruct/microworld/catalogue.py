"""Texts of other worlds with English keywords, as a library's catalogue has them, and such records proof-read.

What a base model is pre-trained on. No instruction in it, and nothing that asks for a text.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

from xinstruct.microworld.documents import Document
from xinstruct.microworld.forms import FORMS, Form
from xinstruct.microworld.randomness import stream
from xinstruct.microworld.seeds import other_documents

Verdict = Literal["correct", "name", "class", "sections"]
"""What a proof-reader says of a record: all is right, or which part is wrong."""

IN_BRIEF = "in brief"
CORRECT_SHARE = 0.5
NAMES_KEPT = 64
"""So many names of texts before are what wrong names are made of."""


class CataloguedText(TypedDict):
    """A native text and its record: `name; kind, genre; sections`, the sections in the order of the form."""

    text: str
    record: str


class ProofreadText(CataloguedText):
    """A text with its right record, and `draft`: a record that may be wrong in one part, which the verdict names."""

    draft: str
    verdict: Verdict


def catalogued_texts(seed: int, languages: Sequence[str], count: int) -> Iterator[CataloguedText]:
    """Yield count texts a language, the languages in turn."""
    for document in _in_turn("catalogue", seed, languages, count):
        yield CataloguedText(text=document.text, record=_record(document.entity.name, document.form, document.aspects))


def proofread_texts(seed: int, languages: Sequence[str], count: int) -> Iterator[ProofreadText]:
    """Yield count texts a language, the languages in turn; half of the records are correct."""
    rng = stream("proofs", seed)
    names_by_language: dict[str, list[str]] = {}
    for document in _in_turn("proofs", seed, languages, count):
        names = [*names_by_language.get(document.language, [])[1 - NAMES_KEPT :], document.entity.name]
        names_by_language[document.language] = names
        name, form, aspects = document.entity.name, document.form, document.aspects
        verdict: Verdict = "correct"
        if rng.random() >= CORRECT_SHARE:
            verdict = rng.choice(("name", "class", "sections", "sections"))
        if verdict == "name":
            name = _wrong_name(name, names, rng)
        elif verdict == "class":
            form = rng.choice([other for other in FORMS.values() if _class(other) != _class(form)])
            aspects = ()
        elif verdict == "sections":
            aspects = _wrong_aspects(form, aspects, rng)
        record = _record(document.entity.name, document.form, document.aspects)
        draft = _record(name, form, aspects)
        if verdict == "class":  # the sections stay as they are: the class alone is wrong
            draft = draft.replace(IN_BRIEF, _sections(document.form, document.aspects))
        yield ProofreadText(text=document.text, record=record, draft=draft, verdict=verdict)


def _in_turn(purpose: str, seed: int, languages: Sequence[str], count: int) -> Iterator[Document]:
    sources = [other_documents(purpose, seed, language, frozenset()) for language in languages]
    for _ in range(count):
        yield from (next(source) for source in sources)


def _record(name: str, form: Form, aspects: Sequence[str]) -> str:
    return f"{name}; {_class(form)}; {_sections(form, aspects)}"


def _class(form: Form) -> str:
    return f"{form.kind}, {form.genre}"


def _sections(form: Form, aspects: Sequence[str]) -> str:
    return ", ".join(phrase.text for aspect, phrase in form.aspects.items() if aspect in aspects) or IN_BRIEF


def _wrong_name(name: str, names: Sequence[str], draw: random.Random) -> str:
    """Another name, the start of this with the end of another, or this with one letter wrong."""
    others = [other for other in names if other != name] or [name[::-1]]
    other = draw.choice(others)
    place = draw.randrange(len(name))
    letters = [letter for letter in "".join(others) if letter.isalpha() and letter != name[place]] or ["a"]
    wrong = draw.choice((
        other,
        name[: place + 1] + other[len(other) // 2 :],
        name[:place] + draw.choice(letters) + name[place + 1 :],
        name[: place + 1] + name[place:],
        name[:place] + name[place + 1 :],
    ))
    return wrong if wrong.strip() and wrong != name else other


def _wrong_aspects(form: Form, aspects: Sequence[str], draw: random.Random) -> tuple[str, ...]:
    """One section more, one less, or another instead of one."""
    missing = [aspect for aspect in form.aspects if aspect not in aspects]
    ways = [(*aspects, aspect) for aspect in missing]
    less = [tuple(kept) for kept in itertools.combinations(aspects, len(aspects) - 1)] if aspects else []
    swapped = [(*kept, aspect) for kept in less for aspect in missing]
    return draw.choice(draw.choice([way for way in (ways, less, swapped) if way]))
