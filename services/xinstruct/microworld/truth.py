"""The rules by which an instruction, and a pair, is right. The only place that says so.

"An instruction is right when every slot (intent, entity, each aspect) has an accepted form in it, as whole words,
case-folded. A pair is good when its page is admissible, its response is a document of that page (F1 ≥ 0.9) and its
instruction is right." Not covered: whether the instruction is English, or says something wrong besides.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

F1_MIN = 0.9
# Languages written without blanks between words: F1 counts their characters.
UNSPACED = frozenset(("th",))


@dataclass(frozen=True, slots=True)
class TextSlot:
    """Something that an instruction must name, by any one of the accepted forms."""

    name: str
    accepts: tuple[str, ...]


def instruction_right(instruction: str, slots: Iterable[TextSlot]) -> bool:
    """True when every slot has an accepted form in the instruction, as whole words, case-folded."""
    folded = _fold(instruction)
    return all(any(_has_whole(folded, _fold(form)) for form in slot.accepts) for slot in slots)


def f1(text_a: str, text_b: str, language: str) -> float:
    """Return F1 over the multisets of words, of characters for Thai; 1.0 for two empty texts. Symmetric."""
    units_a, units_b = (Counter(_units(text, language)) for text in (text_a, text_b))
    total = units_a.total() + units_b.total()
    return 2 * (units_a & units_b).total() / total if total else 1.0


def pair_good(page_truth: Mapping[str, Any], response: str, instruction: str) -> bool:
    """True when the page (a line of the truth) is admissible, with the response as a document that is asked for."""
    if not page_truth["admissible"]:
        return False
    return any(
        f1(response, document["text"], page_truth["language"]) >= F1_MIN
        and instruction_right(instruction, slots_from(document["slots"]))
        for document in page_truth["documents"]
    )


def slots_from(raw: Sequence[Mapping[str, Any]]) -> tuple[TextSlot, ...]:
    """Return the slots of a document in a line of the truth."""
    return tuple(TextSlot(slot["name"], tuple(slot["accepts"])) for slot in raw)


def is_word_character(character: str) -> bool:
    """True for letters, marks and digits, and for the joiners inside Indic and Urdu words."""
    return unicodedata.category(character)[0] in "LMN" or character in "\u200c\u200d"


def _fold(text: str) -> str:
    # Casefold may leave NFC (İ becomes i + dot above), so it is normalised on both sides of folding.
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return folded.replace("’", "'")


def _has_whole(text: str, form: str) -> bool:
    start = text.find(form)
    while start >= 0:
        end = start + len(form)
        before, after = text[start - 1 : start] or " ", text[end : end + 1] or " "
        if not is_word_character(before) and not is_word_character(after):
            return True
        start = text.find(form, start + 1)
    return False


def _units(text: str, language: str) -> list[str]:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    if language in UNSPACED:
        return [character for character in folded if not character.isspace()]
    return "".join(character if is_word_character(character) else " " for character in folded).split()
