"""Root verb and object of an English instruction, by word lists: enough for a chart, no parser. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_VERBS = frozenset(
    """
    write give describe explain tell list provide create generate make summarize summarise find report compose draft
    outline introduce present discuss compare show suggest recommend name answer plan prepare help share state identify
    teach cover sketch narrate advise produce guide inform
    """.split()  # noqa: SIM905
)
_QUESTIONS = frozenset(("what", "how", "why", "when", "where", "who", "which"))
_SKIPPED = frozenset(
    """
    a an the me us my our your some any of about on for to in with and short brief long detailed simple complete clear
    full good new native please short-form encyclopedic encyclopaedic useful practical interesting small
    """.split()  # noqa: SIM905
)
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*(?:(?<=s)')?")
"""Letters of any script, joined by apostrophes and hyphens; an apostrophe ends only a plural's possessive."""
_POSSESSIVE_ENDS = ("'s", "s'")
OTHER = "other"


def verb_and_noun(instruction: str) -> tuple[str, str]:
    """The verb that asks and the first noun-like word after it, lower case.

    A question gives its question word and the word after it; whose something is, is passed over; OTHER stands for what
    the lists do not know.
    """
    words = _WORD.findall(instruction.casefold().replace("’", "'"))
    for index, word in enumerate(words):
        if word in _VERBS or (index == 0 and word in _QUESTIONS):
            return word, next(filter(_may_be_object, words[index + 1 :]), OTHER)
    return OTHER, OTHER


def _may_be_object(word: str) -> bool:
    return word not in _SKIPPED and not word.endswith(_POSSESSIVE_ENDS)


def verb_noun_counts(
    instructions: Iterable[str], *, verbs_max: int = 12, nouns_max: int = 4
) -> list[tuple[str, int, list[tuple[str, int]]]]:
    """The commonest verbs with their counts and commonest nouns, most frequent first, ties by the alphabet."""
    pairs = Counter(verb_and_noun(instruction) for instruction in instructions)
    verbs: Counter[str] = Counter()
    for (verb, _), count in pairs.items():
        verbs[verb] += count
    chosen = sorted(verbs, key=lambda verb: (-verbs[verb], verb))[:verbs_max]
    return [(verb, verbs[verb], _nouns(pairs, verb, nouns_max)) for verb in chosen]


def _nouns(pairs: Counter[tuple[str, str]], verb: str, nouns_max: int) -> list[tuple[str, int]]:
    nouns = [(noun, count) for (of, noun), count in pairs.items() if of == verb]
    return sorted(nouns, key=lambda item: (-item[1], item[0]))[:nouns_max]
