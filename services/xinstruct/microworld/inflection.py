"""Suffixes that depend on the letters of a name: Turkish and Finnish. Other packs put a head noun beside the name.

The packs' syllables are chosen so that these rules suffice: Finnish names end in a vowel after a consonant
that does not gradate (no k, p, t in the last syllable).
"""

from __future__ import annotations

from collections.abc import Callable


def inflect(language: str, form: str, name: str) -> str:
    """Return the name with the suffix that the form stands for; KeyError for a form the language has not."""
    return _RULES[language][form](name)


_TURKISH_HARMONY = {"a": "ı", "ı": "ı", "e": "i", "i": "i", "o": "u", "u": "u", "ö": "ü", "ü": "ü"}


def _turkish(suffix: str, buffer: str) -> Callable[[str], str]:
    """Suffix notation: A is a/e, I is ı/i/u/ü, D is d/t; the buffer stands between a final vowel and the suffix."""

    def apply(name: str) -> str:
        letters = name.replace("I", "ı").replace("İ", "i").lower()
        vowel = next(letter for letter in reversed(letters) if letter in _TURKISH_HARMONY)
        ends_in_vowel = letters[-1] in _TURKISH_HARMONY
        text = (buffer if ends_in_vowel else "") + suffix
        text = text.replace("A", "a" if vowel in "aıou" else "e").replace("I", _TURKISH_HARMONY[vowel])
        return f"{name}’{text.replace('D', 't' if letters[-1] in 'fstkçşhp' else 'd')}"

    return apply


def _finnish(suffix: str) -> Callable[[str], str]:
    def apply(name: str) -> str:
        harmony = "a" if any(letter in "aouAOU" for letter in name) else "ä"
        return name + suffix.replace("A", harmony).replace("V", name[-1])

    return apply


_RULES: dict[str, dict[str, Callable[[str], str]]] = {
    "tr": {
        "of": _turkish("In", "n"),
        "to": _turkish("A", "y"),
        "in": _turkish("DA", ""),
        "from": _turkish("DAn", ""),
        "acc": _turkish("I", "y"),
    },
    "fi": {
        "of": _finnish("n"),
        "part": _finnish("A"),
        "in": _finnish("ssA"),
        "from": _finnish("stA"),
        "to": _finnish("Vn"),
        "at": _finnish("llA"),
        "off": _finnish("ltA"),
        "onto": _finnish("lle"),
    },
}
