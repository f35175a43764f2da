"""A world: one language's region, its entities and the facts about them, all from (seed, language)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from xinstruct.microworld.forms import KINDS
from xinstruct.microworld.inflection import inflect
from xinstruct.microworld.languages import LanguagePack, load_pack
from xinstruct.microworld.randomness import draw, stream

ENTITIES_PER_KIND = 32
# Of every kind a site has this share of its pages, so that no two documents of a site are about the same in one form.
_SITE_ENTITIES_SHARE = 1 / 8
_SITE_ENTITIES_MIN = 12

# Slot → (smallest, largest, step). Years of a person's life hang together and are derived in _LIFE.
NUMBERS: Mapping[str, tuple[int, int, int]] = {
    "year": (1720, 1950, 1), "recent": (2012, 2025, 1), "population": (400, 64_000, 10), "households": (60, 9_000, 5),
    "count": (7, 29, 1), "few": (2, 6, 1), "km": (3, 140, 1), "hours": (2, 11, 1), "minutes": (15, 95, 5),
    "days": (2, 12, 1), "weeks": (2, 9, 1), "months": (3, 18, 1), "height": (420, 4_870, 1), "depth": (6, 240, 1),
    "area": (2, 890, 1), "percent": (12, 88, 1), "warm": (19, 38, 1), "cold": (2, 15, 1), "rain": (380, 2_600, 10),
    "visitors": (800, 96_000, 50), "price": (5, 95, 1), "million": (2, 97, 1), "length": (6, 190, 1),
    "weight": (2, 85, 1), "lifespan": (4, 38, 1), "metres": (2, 40, 1), "span": (24, 640, 1), "spoons": (2, 5, 1),
    "grams": (50, 900, 25), "portions": (2, 12, 1), "litres": (2, 9, 1), "open": (5, 9, 1), "close": (15, 20, 1),
    "stalls": (20, 480, 5), "rooms": (6, 60, 1), "day": (1, 28, 1), "century": (14, 19, 1), "animals": (120, 9_400, 10),
    "children": (2, 7, 1), "age": (5, 14, 1), "works": (4, 48, 1), "pupils": (80, 2_400, 5),
    "signatures": (90, 4_800, 5),
}  # fmt: skip


# Slot → (the year it counts from, or None for the calendar; smallest, largest distance). No year is after _PRESENT.
_LIFE: Mapping[str, tuple[str | None, int, int]] = {
    "born": (None, 1890, 1984), "debut": ("born", 19, 31), "wed": ("born", 22, 38), "awarded": ("debut", 8, 26),
}  # fmt: skip
_PRESENT = 2025
_UNGROUPED = frozenset(("year", "recent", *_LIFE))
_SLOT = re.compile(r"(?P<base>[a-z_]+?)(?P<index>[2-4]?)(?:\.(?P<parallel>[a-z]+)|:(?P<suffix>[a-z]+))?")
_DISTINCT_MAX = 4
_PLAIN = str.maketrans("đĐıİ", "dDiI")


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that the region knows; its name is unique in its world."""

    kind: str
    name: str
    roman: str
    """The name in plain ASCII letters; equal to the name where that is what it is written in."""
    woman: bool
    """Meaningful for persons only."""
    family: tuple[str, str] = ("", "")
    """A person's second name, native and romanised: invented like the names of towns, and as telling."""


@dataclass(frozen=True, slots=True)
class World:
    """One language's region."""

    seed: int
    language: str
    entities: Mapping[str, tuple[Entity, ...]]

    @property
    def names(self) -> frozenset[str]:
        """All names, in the native and in the romanised form, and the family names of persons."""
        every = (one for group in self.entities.values() for one in group)
        return frozenset(form for one in every for form in (one.name, one.roman, *one.family) if form)


def build_world(
    seed: int, language: str, *, per_kind: int = ENTITIES_PER_KIND, exclude_names: Set[str] = frozenset()
) -> World:
    """Return the region of (seed, language) with per_kind entities of every kind; no name of them, nor the family name
    of a person, is an excluded one.
    """
    pack = load_pack(language)
    taken: set[str] = set()
    entities: dict[str, tuple[Entity, ...]] = {}
    for kind in KINDS:
        entities[kind] = tuple(islice(_entities(seed, pack, kind, taken, exclude_names), per_kind))
    return World(seed, language, entities)


def site_world(seed: int, language: str, pages: int) -> World:
    """Return the region that a site of so many pages in the language is written about."""
    return build_world(seed, language, per_kind=max(_SITE_ENTITIES_MIN, int(pages * _SITE_ENTITIES_SHARE)))


def site_names(seed: int, languages: Sequence[str], pages: int) -> frozenset[str]:
    """Return every name, native and romanised, in the regions of the site of (seed, languages, pages a language)."""
    return frozenset().union(*(site_world(seed, language, pages).names for language in languages))


def fact_reader(world: World, entity: Entity) -> Callable[[str], str]:
    """Return a function from slot to the entity's fact as text, in ASCII digits; it depends on no other slot."""
    pack = load_pack(world.language)
    known: dict[str, str] = {}

    def fact(slot: str) -> str:
        if slot not in known:
            known[slot] = _fact(world, pack, entity, slot)
        return known[slot]

    return fact


def _entities(seed: int, pack: LanguagePack, kind: str, taken: set[str], excluded: Set[str]) -> Iterator[Entity]:
    rng = stream("names", seed, pack.code, kind)
    inventory = pack.names
    while True:
        parts = [group[int(rng.random() * len(group))] for group in (inventory.first, inventory.middle, inventory.last)]
        woman = rng.random() < 0.5
        name = inventory.joiner.join(part.native for part in parts)
        roman = inventory.joiner.join(part.roman for part in parts)
        name, roman = _capitalised(name, pack.code), _capitalised(_plain(roman), pack.code)
        family = ("", "")
        if kind == "person":
            family = (name, roman)
            given = rng.choice(inventory.given_woman if woman else inventory.given_man)
            name, roman = f"{given.native} {name}", f"{_plain(given.roman)} {roman}"
        if not {name, roman} & taken and not {name, roman, *family} & excluded:
            taken.update((name, roman))
            yield Entity(kind, name, roman, woman, family)


def _fact(world: World, pack: LanguagePack, entity: Entity, slot: str) -> str:
    if slot == "name":
        return entity.name
    match = _SLOT.fullmatch(slot)
    if match is None:
        raise ValueError(f"malformed slot {{{slot}}} in the pack of {pack.code}")
    base, index = match["base"], int(match["index"] or 1)
    key = (world.seed, world.language, entity.kind, entity.name, base)
    if base in pack.words:
        return _word(pack, key, base, index, match["parallel"])
    if base == "name" or base in world.entities:
        name = entity.name if base == "name" else _related(world, entity, key, base, index)
        return inflect(pack.code, match["suffix"], name) if match["suffix"] else name
    number = _year_of_life(key, base) if base in _LIFE else _number(key, base, index, pack.price_unit)
    return str(number) if base in _UNGROUPED else f"{number:,}".replace(",", pack.thousands)


def _word(pack: LanguagePack, key: tuple[object, ...], base: str, index: int, parallel: str | None) -> str:
    words = pack.words[f"{base}.{parallel}" if parallel else base]
    return words[_distinct(draw(*key), len(words), index)]


def _related(world: World, entity: Entity, key: tuple[object, ...], kind: str, index: int) -> str:
    group = world.entities[kind]
    bits = draw(*key)
    nearby = (group[_distinct(bits, len(group), number)] for number in range(1, _DISTINCT_MAX + 1))
    return [one for one in nearby if one is not entity][index - 1].name


def _distinct(bits: int, count: int, index: int) -> int:
    """Return a position below count; four indexes give four positions, where count is at least four."""
    first, step = bits % count, 1 + (bits >> 32) % (count - 1)
    if index <= 2:
        return (first + (index - 1) * step) % count
    taken = {first, (first + step) % count}
    free = [position for position in range(first, first + 4) if position % count not in taken]
    return free[index - 3] % count


def _number(key: tuple[object, ...], base: str, index: int, price_unit: int) -> int:
    smallest, largest, step = NUMBERS[base]
    number = smallest + step * (draw(*key, index) % ((largest - smallest) // step + 1))
    return number * price_unit if base == "price" else number


def _year_of_life(key: tuple[object, ...], base: str) -> int:
    anchor, smallest, largest = _LIFE[base]
    year = smallest + draw(*key[:-1], base) % (largest - smallest + 1)
    return year if anchor is None else min(_PRESENT - 1, year + _year_of_life(key, anchor))


def _plain(roman: str) -> str:
    decomposed = unicodedata.normalize("NFD", roman.translate(_PLAIN))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _capitalised(name: str, language: str) -> str:
    """Return the name with capitals as the language writes names; scripts without case come back unchanged."""
    return " ".join(capital(word, language) for word in name.split(" "))


def capital(text: str, language: str) -> str:
    """Return the text with a capital first letter: İ for a Turkish i."""
    first = "İ" if language == "tr" and text[:1] == "i" else text[:1].upper()
    return first + text[1:]
