"""Damage to texts: slight edits, mistaken charsets, broken marks."""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import replace

from xinstruct.microworld.documents import Block, Document

_NUMBER = re.compile(r"\d+")
# Two edits in a text of so many characters, one in a shorter one: word 5-grams keep a Jaccard similarity above 0.75.
_TWO_EDITS_CHARS_MIN = 900
_BROKEN_WORDS_SHARE = 0.4


def edited(document: Document, rng: random.Random) -> Document:
    """Return a near-duplicate: one or two numbers changed, else its end; the same instruction fits it."""
    blocks = list(document.blocks)
    numbered = [position for position, block in enumerate(blocks) if _NUMBER.search(block.text)]
    edits = 2 if len(document.text) >= _TWO_EDITS_CHARS_MIN else 1
    for position in rng.sample(numbered, min(edits, len(numbered))):
        digits = _NUMBER.search(blocks[position].text)
        if digits is not None:
            text = blocks[position].text
            changed = text[: digits.start()] + _another_number(digits[0], rng) + text[digits.end() :]
            blocks[position] = Block(blocks[position].kind, changed)
    if not numbered:
        blocks[-1] = Block(blocks[-1].kind, blocks[-1].text + " …")
    return replace(document, blocks=tuple(blocks))


def mistaken_charset(text: str, rng: random.Random) -> str:
    """Return UTF-8 read as Windows-1252; for ASCII text, letters lost as a replacement character read that way."""
    if text.isascii():
        return "".join("ï¿½" if letter.isalpha() and rng.random() < 0.06 else letter for letter in text)
    return text.encode().decode("cp1252", errors="replace").replace("\ufffd", "")


def broken_marks(text: str, rng: random.Random) -> str:
    """Return the text with vowel signs before their letters and doubled, in many of its words."""
    words = text.split(" ")
    return " ".join(_broken_word(word, rng) if rng.random() < _BROKEN_WORDS_SHARE else word for word in words)


def _broken_word(word: str, rng: random.Random) -> str:
    marks = [letter for letter in word if unicodedata.category(letter)[0] == "M"]
    if not marks:
        return word
    letters = [letter for letter in word if unicodedata.category(letter)[0] != "M"]
    rng.shuffle(marks)
    return marks[0] + "".join(letters[:1]) + marks[-1] * 2 + "".join(letters[1:]) + "".join(marks[1:-1])


def _another_number(digits: str, rng: random.Random) -> str:
    """Return other digits of the same script and count."""
    zero = ord(digits[-1]) - unicodedata.digit(digits[-1])
    last = (unicodedata.digit(digits[-1]) + rng.randint(1, 9)) % 10
    return digits[:-1] + chr(zero + last)
