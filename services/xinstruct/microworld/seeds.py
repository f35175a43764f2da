"""Training data from other worlds: gold pairs, and plain text without any instruction in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence, Set
from typing import TypedDict

from xinstruct.microworld.documents import Document, forms_of, write_document
from xinstruct.microworld.randomness import draw, stream
from xinstruct.microworld.world import World, build_world


class SeedPair(TypedDict):
    """A gold pair: an English instruction and the native text that answers it."""

    instruction: str
    response: str
    language: str


def seed_pairs(seed: int, languages: Sequence[str], per_language: int, exclude_names: Set[str]) -> Iterator[SeedPair]:
    """Yield per_language gold pairs a language, language by language; no entity in them has an excluded name.

    Pass site_names(seed, languages, …) of the run's site as exclude_names. The pairs of a language are the
    first ones of an endless sequence, whatever the other languages are.
    """
    for language in languages:
        for document in itertools.islice(other_documents("seeds", seed, language, exclude_names), per_language):
            yield SeedPair(instruction=document.instruction, response=document.text, language=language)


def plain_texts(seed: int, languages: Sequence[str], count: int) -> Iterator[str]:
    """Yield count texts a language, the languages in turn, for pre-training: documents only, no instruction."""
    sources = [other_documents("plain", seed, language, frozenset()) for language in languages]
    for _ in range(count):
        for source in sources:
            yield next(source).text


def other_documents(purpose: str, seed: int, language: str, exclude_names: Set[str]) -> Iterator[Document]:
    """Yield documents of worlds that are the site's of no seed, without end; each purpose has worlds of its own."""
    for number in itertools.count():
        world_seed = draw("other world", purpose, seed, number)
        world = build_world(world_seed, language, exclude_names=exclude_names)
        yield from _shuffled_documents(world)


def _shuffled_documents(world: World) -> Iterator[Document]:
    plan = [(one, form) for group in world.entities.values() for one in group for form in forms_of(one.kind)]
    stream("order", world.seed, world.language).shuffle(plan)
    for entity, form in plan:
        yield write_document(world, entity, form)
