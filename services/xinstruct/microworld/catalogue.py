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

Verdict = Literal["correct", "name", "class", "sections", "everything"]
"""What a proof-reader says of a record: all is right, one part is wrong, or it is another text's."""

IN_BRIEF = "in brief"
CORRECT_SHARE = 0.5
USUAL_ORDER_SHARE = 0.4
WRONG: tuple[Verdict, ...] = ("name", "class", "sections", "everything")
WRONG_WEIGHTS = (0.2, 0.1, 0.6, 0.1)
SEPARATOR = "; "
DOCUMENTS_KEPT = 64
"""So many texts before are what wrong names and records of other texts are taken from."""


class CataloguedText(TypedDict):
    """A native text and its record: `name; kind, genre; sections`, the sections in the order of the form."""

    text: str
    record: str


class Draft(TypedDict):
    """A record that may be wrong, its three parts in any order."""

    draft: str
    verdict: Verdict


class ProofreadText(CataloguedText):
    """A text with its right record, and drafts of it."""

    drafts: list[Draft]


def catalogued_texts(seed: int, languages: Sequence[str], count: int) -> Iterator[CataloguedText]:
    """Yield count texts a language, the languages in turn; one that is listed twice has twice the texts."""
    for document in _in_turn("catalogue", seed, languages, count):
        yield CataloguedText(text=document.text, record=SEPARATOR.join(_parts(document)))


def proofread_texts(seed: int, languages: Sequence[str], count: int, drafts_each: int) -> Iterator[ProofreadText]:
    """Yield count texts a language, the languages in turn, with so many drafts each; half of all drafts are correct."""
    rng = stream("proofs", seed)
    shelves: dict[str, list[Document]] = {}
    for document in _in_turn("proofs", seed, languages, count):
        shelf = [*shelves.get(document.language, [])[1 - DOCUMENTS_KEPT :], document]
        shelves[document.language] = shelf
        drafts = [_draft(document, shelf, rng) for _ in range(drafts_each)]
        yield ProofreadText(text=document.text, record=SEPARATOR.join(_parts(document)), drafts=drafts)


def _draft(document: Document, shelf: Sequence[Document], draw: random.Random) -> Draft:
    parts = _parts(document)
    verdict: Verdict = "correct"
    if draw.random() >= CORRECT_SHARE:
        verdict = draw.choices(WRONG, WRONG_WEIGHTS)[0]
    if verdict == "name":
        parts[0] = _wrong_name(document.entity.name, [other.entity.name for other in shelf], draw)
    elif verdict == "class":
        parts[1] = draw.choice([_class(form) for form in FORMS.values() if _class(form) != parts[1]])
    elif verdict == "sections":
        parts[2] = _sections(document.form, _wrong_aspects(document.form, document.aspects, draw))
    elif verdict == "everything":
        other = draw.choice(shelf)
        parts, verdict = (_parts(other), verdict) if other.entity.name != parts[0] else (parts, "correct")
    if draw.random() >= USUAL_ORDER_SHARE:
        draw.shuffle(parts)
    return Draft(draft=SEPARATOR.join(parts), verdict=verdict)


def _in_turn(purpose: str, seed: int, languages: Sequence[str], count: int) -> Iterator[Document]:
    sources = {language: other_documents(purpose, seed, language, frozenset()) for language in languages}
    for _ in range(count):
        yield from (next(sources[language]) for language in languages)


def _parts(document: Document) -> list[str]:
    return [document.entity.name, _class(document.form), _sections(document.form, document.aspects)]


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
