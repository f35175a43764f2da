"""The language registry: one data file a language in languages_data/, read once.

A language that the factory works in is a *target*; a neighbour is known only so that its text is not taken for a
target's. A new language is a new data file and nothing else; not covered: prompts and seeds, which its user brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from ruamel.yaml import YAML

from xinstruct.spine.errors import Invalid, NotFound, require

CHARS_MIN = 200
CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Language:
    """One language. Every text is NFC.

    code: BCP 47 tag. script: ISO 15924. direction: of writing. target: False for a neighbour. word_separated: whether
    blanks stand between words. sentence_terminators: characters that end a sentence, empty where the script has none.
    native_digits: 0 to 9, empty where only ASCII digits are used. identification_threshold_ratio: least confidence,
    0–1, at which a text counts as this language. confusables: codes of languages it is taken for. function_words:
    frequent words, lower case; a word that a confusable lacks speaks against that one. distinct_suffixes: word ends
    that speak for it. boilerplate_phrases: what web sites say about themselves, lower case.
    chars_min, chars_max: length of a passage in code points.
    """

    code: str
    iso639_3: str
    english_name: str
    autonym: str
    script: str
    direction: Literal["ltr", "rtl"]
    target: bool
    word_separated: bool
    sentence_terminators: str
    native_digits: str
    identification_threshold_ratio: float
    confusables: tuple[str, ...]
    function_words: tuple[str, ...]
    distinct_suffixes: tuple[str, ...] = ()
    boilerplate_phrases: tuple[str, ...] = ()
    chars_min: int = CHARS_MIN
    chars_max: int = CHARS_MAX

    @property
    def language_script(self) -> str:
        """ISO 639-3 and ISO 15924, for instance "fin_Latn"."""
        return f"{self.iso639_3}_{self.script}"


def language(code: str) -> Language:
    """The target of that BCP 47 tag; NotFound with a sentence that lists the known ones, Invalid when it is empty."""
    require(bool(code), "a language needs a BCP 47 tag, for instance \"sw\"")
    found = _registry().get(code)
    if found is None or not found.target:
        known = ", ".join(f"{item.code} ({item.english_name})" for item in languages())
        raise NotFound(
            f"unknown language {code!r}; known are {known}. "
            f"To add one, write spine/languages_data/{code}.yaml after a neighbour's example",
            language=code,
        )
    return found


def languages() -> tuple[Language, ...]:
    """The targets, in the order of their codes."""
    return tuple(item for item in _registry().values() if item.target)


def neighbours() -> tuple[Language, ...]:
    """The languages known only to be told from targets, in the order of their codes."""
    return tuple(item for item in _registry().values() if not item.target)


def known_language(code: str) -> Language | None:
    """Target or neighbour of that tag; None when the registry has neither."""
    return _registry().get(code)


@cache
def _registry() -> dict[str, Language]:
    folder = resources.files("xinstruct.spine") / "languages_data"
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name)
    found = [parse_language(item.read_text(encoding="utf-8"), item.name) for item in files]
    return check_registry({item.code: item for item in found})


def parse_language(text: str, name: str) -> Language:
    """The language in the data file `name`; Invalid when a key is missing, unknown or of the wrong kind."""
    raw: Any = YAML(typ="safe").load(text)
    require(isinstance(raw, dict), f"{name}: expected keys and values")
    values = {str(key): value for key, value in raw.items()}
    for key in ("function_words", "distinct_suffixes"):
        values[key] = tuple(str(values.get(key, "")).split())
    for key in ("confusables", "boilerplate_phrases"):
        values[key] = tuple(values.get(key, ()))
    try:
        found = Language(**values)
    except TypeError as error:
        raise Invalid(f"{name}: {str(error).removeprefix('Language.__init__() ')}") from error
    require(name == f"{found.code}.yaml", f"{name}: the file of {found.code!r} is called {found.code}.yaml")
    require(found.direction in ("ltr", "rtl"), f"{name}: direction is ltr or rtl, not {found.direction!r}")
    require(len(found.native_digits) in (0, 10), f"{name}: native_digits are ten characters or none")
    require(0 < found.identification_threshold_ratio < 1, f"{name}: identification_threshold_ratio is between 0 and 1")
    require(0 < found.chars_min < found.chars_max, f"{name}: chars_min is below chars_max")
    return found


def check_registry(registry: dict[str, Language]) -> dict[str, Language]:
    """`registry` itself; Invalid when a language names a confusable that has no data file."""
    for item in registry.values():
        missing = [code for code in item.confusables if code not in registry]
        require(not missing, f"{item.code}.yaml: confusables without a data file: {', '.join(missing)}")
    return registry
