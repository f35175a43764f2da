"""Guards on drafts: what may not become an instruction, each rule with its own reason. Pure.

The list follows what reproductions of the method report as failures (docs/method.md).
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum


class BackgenReason(StrEnum):
    """Why a document got no pair."""

    EMPTY = "empty"
    CUT_OFF = "cut_off"
    TEMPLATE_ECHO = "template_echo"
    RESPONSE_COPY = "response_copy"
    NOT_ENGLISH = "not_english"
    ILL_POSED = "ill_posed"
    REFUSAL = "refusal"
    WRONG_COUNT = "wrong_count"
    INJECTED_INSTRUCTIONS = "injected_instructions"
    TOO_LONG_FOR_MODEL = "too_long_for_model"
    REFUSED_BY_SERVER = "refused_by_server"


_WRAPPING = "\"'“”‘’«»`* "
_PREFIX = re.compile(r"^(?:the\s+)?(?:instruction|question|prompt|task)\s*:\s*", re.IGNORECASE)

_ECHO = re.compile(
    r"</?_?text>|between <text>|the text above is the answer|imagine that a person|write that person's instruction"
    r"|answer with the instruction|^=>|==",
    re.IGNORECASE,
)
_ILL_POSED = re.compile(
    r"\b(?:the|this|that|these|those|following|given|above|below|provided)\s+"
    r"(?:\w+\s+)?(?:text|passage|article|document|paragraph|sentences?|excerpt|content|snippet|story below)\b"
    r"|\bthe following\b|\b(?:text|article|passage) (?:above|below|provided)\b"
    r"|^\s*(?:please\s+)?(?:summari[sz]e|translate|paraphrase|rewrite|proofread|rephrase)\s+(?:this|it|that)?\s*[.!?]?$"
    r"|\bfind the link\b|\bclick (?:on|here)\b",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i'?m sorry|i am sorry|i can ?not|i can'?t|i am unable|i'?m unable|as an ai|as a language model"
    r"|i do not have (?:access|enough)|i don'?t have (?:access|enough))\b",
    re.IGNORECASE,
)
_INJECTED = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:previous|prior|above|earlier|all)\b"
    r".{0,40}\b(?:instruction|prompt|rule|direction)s?\b"
    r"|\byou are now\b.{0,40}\b(?:assistant|ai|model|dan)\b|<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>"
    r"|\[/?INST\]|<</?SYS>>|\b(?:system|developer) prompt\b|^\s*(?:system|assistant)\s*:"
    r"|\b(?:reveal|print|repeat)\b.{0,30}\b(?:system prompt|hidden prompt|your instructions)\b",
    re.IGNORECASE | re.MULTILINE,
)

_NUMBERS = {
    word: number
    for number, word in enumerate(
        ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"), start=2
    )
}
_COUNT = re.compile(
    rf"\b(?:list|give|name|write|provide|suggest|state|mention|describe)\s+(?:me\s+)?(?:the\s+)?(?:top\s+)?"
    rf"(\d{{1,3}}|{'|'.join(_NUMBERS)})\s+(?:\w+\s+){{0,2}}"
    r"(?:reasons?|ways?|tips?|items?|examples?|facts?|things?|points?|ideas?|questions?|benefits?|sentences?"
    r"|paragraphs?)\b",
    re.IGNORECASE,
)

ENGLISH_WORDS = frozenset(
    """
    a about after all also an and answer any are as at be because been before between both but by can could create
    describe did do does during each every explain features find first for from generate give guide had has have her
    his history how i if in into instructions is it its list made main make many me more most much name new news no
    not of on one only or other our out over people place prepare provide question recipe report short should some
    steps story such tell than that the their them then there these they this through to travel two under up use used
    visit was way we were what when where which who why will with would write you your
    """.split()  # noqa: SIM905
)
ENGLISH_WORD_RATIO_MIN = 0.25


def clean(answer: str) -> str:
    """The instruction in a model's answer: first paragraph, without wrapping quotes, marks or "Instruction:"."""
    text = unicodedata.normalize("NFC", answer).strip()
    text = text.split("\n\n")[0]
    text = _PREFIX.sub("", text.strip(_WRAPPING)).strip(_WRAPPING)
    return " ".join(text.split())


def guard(
    instruction: str, response: str, *, chars_min: int, chars_max: int, copied_ratio_max: float
) -> BackgenReason | None:
    """The first rule that `instruction` (cleaned) breaks; None when it may stand as the instruction of `response`."""
    if len(instruction) < chars_min:
        return BackgenReason.EMPTY
    if len(instruction) > chars_max:
        return BackgenReason.CUT_OFF
    if _ECHO.search(instruction):
        return BackgenReason.TEMPLATE_ECHO
    if _REFUSAL.search(instruction):
        return BackgenReason.REFUSAL
    if _ILL_POSED.search(instruction):
        return BackgenReason.ILL_POSED
    if copied_ratio(instruction, response) > copied_ratio_max:
        return BackgenReason.RESPONSE_COPY
    if not is_english(instruction):
        return BackgenReason.NOT_ENGLISH
    if asked_items(instruction) > available_items(response):
        return BackgenReason.WRONG_COUNT
    return None


def is_english(text: str) -> bool:
    """Whether `text` reads as English with foreign names in it: a quarter of its Latin-script words, and at least two,
    are among the commonest English words. Words in other scripts (names) count as names."""
    words = re.findall(r"[A-Za-z]+", text)
    common = sum(word.lower() in ENGLISH_WORDS for word in words)
    return common >= 2 and common >= ENGLISH_WORD_RATIO_MIN * len(words)


def copied_ratio(instruction: str, response: str) -> float:
    """Share (0–1) of the instruction's words in the longest run of them that stands word for word in the response.

    Runs of up to three words are names, not copies, and count as 0.
    """
    words = instruction.casefold().split()
    text = f" {' '.join(response.casefold().split())} "
    longest = 0
    for start in range(len(words)):
        while start + longest < len(words) and f" {' '.join(words[start : start + longest + 1])} " in text:
            longest += 1
    return 0.0 if longest <= 3 else longest / len(words)


def asked_items(instruction: str) -> int:
    """How many items the instruction asks for by number ("list five reasons"); 0 when it names none."""
    match = _COUNT.search(instruction)
    if match is None:
        return 0
    number = match.group(1).lower()
    return _NUMBERS.get(number) or int(number)


def available_items(response: str) -> int:
    """How many items the response can hold: its lines or its sentences, whichever is more."""
    lines = sum(bool(line.strip()) for line in response.splitlines())
    sentences = len(re.findall(r"[.!?।॥۔؟…](?:\s|$)", response))
    return max(lines, sentences, 1)


def injected(text: str) -> bool:
    """Whether a web text holds words addressed to a model (jailbreaks, chat-template tokens) instead of its readers."""
    return _INJECTED.search(text) is not None
