"""Measurements of one passage, from which domain rules decide. Each is a ratio from 0 to 1 or a count.

Sentence ends follow each script's own rule: Thai has none, so there its blanks separate what counts as sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import ftfy.badness

from xinstruct.crawler.broken import broken_count
from xinstruct.crawler.langid import words_of
from xinstruct.spine.languages import Language

_CLOSING = "\"'”’»)]}›」』"
NGRAM_WORDS = 5
NGRAM_CHARACTERS = 15
UNSPACED_SENTENCE_CHARS = 12
REPEATS_MIN = 3
KEYWORD_CHARS_MIN = 4
KEYWORD_REPEATS_MIN = 5
_INJECTED = re.compile(
    r"(?:ignore|disregard|forget|override)\s+(?:all\s+|any\s+|the\s+)*(?:your\s+)?(?:previous|prior|above|earlier|preceding|"
    r"system)\s+(?:instruction|prompt|direction|message|rule)|"
    r"(?:you are|act as|pretend to be) (?:now )?(?:an? |the )?(?:ai|assistant|language model|chatgpt|gpt|dan)\b|"
    r"\bsystem prompt\b|<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[/?INST\]|<</?SYS>>|"
    r"(?:^|\n)\s*#{2,}\s*(?:instruction|system|response|assistant)s?\s*:|(?:^|\n)\s*(?:assistant|system|human)\s*:|"
    r"(?:reveal|print|repeat|output)\s+(?:your|the)\s+(?:system\s+)?(?:prompt|instructions)|"
    r"as an ai (?:language )?model|\bjailbreak\b",
    re.IGNORECASE,
)


def measure(text: str, paragraphs: Sequence[str], language: Language, masks: Mapping[str, int]) -> dict[str, float]:
    """Every measurement of a passage in `language`; `masks` counts the personal data masked in it."""
    words = list(words_of(text))
    characters = max(len(text), 1)
    return {
        "chars": len(text),
        "sentences": sentence_count(text, paragraphs, language),
        "shortest_line_chars": min((len(line) for part in paragraphs for line in part.splitlines()), default=0),
        "terminal_ratio": terminal_ratio(paragraphs, language),
        "digits_ratio": sum(1 for character in text if character.isdigit()) / characters,
        "upper_ratio": _upper_ratio(text),
        "duplicate_lines_ratio": _duplicate_lines_ratio(text),
        "top_5gram_ratio": _top_ngram_ratio(text, words, language),
        "keyword_ratio": _keyword_ratio(words, language),
        "repeated_ratio": _repeated_ratio(words, language),
        "boilerplate_phrases": _boilerplate_phrases(text, language),
        "function_words_ratio": function_words_ratio(text, words, language),
        "broken_ratio": broken_count(text) / characters,
        "mojibake_ratio": _mojibake_count(text) / characters,
        "masked_ratio": sum(masks.values()) / max(len(words), 1),
        "injected_count": len(_INJECTED.findall(text)),
    }


def sentence_count(text: str, paragraphs: Sequence[str], language: Language) -> int:
    """Sentences in running text, by the language's terminators; where there are none, phrases of some length."""
    running = "\n".join(paragraphs) or text
    if not language.sentence_terminators:
        return sum(len(phrase) >= UNSPACED_SENTENCE_CHARS for phrase in re.split(r"\s+", running))
    ends = re.escape(language.sentence_terminators)
    # Hindi often leaves a blank before its full stop.
    return len(re.findall(rf"[^{ends}\s]\s?[{ends}]+[{re.escape(_CLOSING)}]*(?=\s|$)", running))


def terminal_ratio(paragraphs: Sequence[str], language: Language) -> float:
    """Share of paragraphs that end as sentences do; 1 where the script has no terminal punctuation.

    A colon counts: it leads to a list and ends what is said before it. A comma or a semicolon ends nothing.
    """
    if not language.sentence_terminators or not paragraphs:
        return 1.0
    ends = tuple(language.sentence_terminators + ":")
    return sum(part.rstrip(_CLOSING + " ").endswith(ends) for part in paragraphs) / len(paragraphs)


def function_words_ratio(text: str, words: Sequence[str], language: Language) -> float:
    """Share of the language's function words among its words; of their characters where blanks separate no words."""
    if language.word_separated:
        known = frozenset(language.function_words)
        return sum(word in known for word in words) / max(len(words), 1)
    squeezed = "".join(words)
    return min(sum(squeezed.count(word) * len(word) for word in language.function_words) / max(len(squeezed), 1), 1.0)


def _upper_ratio(text: str) -> float:
    letters = sum(1 for character in text if character.isalpha())
    return sum(1 for character in text if character.isupper()) / max(letters, 1)


def _duplicate_lines_ratio(text: str) -> float:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def _top_ngram_ratio(text: str, words: Sequence[str], language: Language) -> float:
    """Share of the characters that the most frequent 5-gram of words covers; 15 characters where none are separated."""
    parts: Sequence[str] = words if language.word_separated else "".join(words)
    size = NGRAM_WORDS if language.word_separated else NGRAM_CHARACTERS
    counts = Counter(tuple(parts[index:index + size]) for index in range(len(parts) - size + 1))
    if not counts:
        return 0.0
    top, count = max(counts.items(), key=lambda item: (item[1] * sum(map(len, item[0])), item[0]))
    total = sum(map(len, parts))
    # Twice is a coincidence in a short text; overlapping repeats may cover more than all of it.
    return min(count * sum(map(len, top)) / total, 1.0) if count >= REPEATS_MIN else 0.0


def _keyword_ratio(words: Sequence[str], language: Language) -> float:
    """Share of the most frequent word that is no function word."""
    known = frozenset(language.function_words)
    counts = Counter(word for word in words if len(word) >= KEYWORD_CHARS_MIN and word not in known)
    top = max(counts.values(), default=0)
    return top / len(words) if top >= KEYWORD_REPEATS_MIN else 0.0


def _repeated_ratio(words: Sequence[str], language: Language) -> float:
    """Share of pairs of words that stand there three times or more; of phrases where blanks separate no words."""
    parts = list(pairwise(words)) if language.word_separated else [(word, "") for word in words]
    counts = Counter(parts)
    return sum(count for count in counts.values() if count >= REPEATS_MIN) / len(parts) if parts else 0.0


def _boilerplate_phrases(text: str, language: Language) -> float:
    """Different phrases of web sites' furniture a thousand characters; counted only from the third on."""
    lower = text.lower()
    found = sum(phrase in lower for phrase in language.boilerplate_phrases)
    return 1000 * found / max(len(text), 1) if found >= REPEATS_MIN else 0.0


def _mojibake_count(text: str) -> int:
    """Characters that only wrong decoding makes."""
    return text.count("\ufffd") + ftfy.badness.badness(text)
