"""The pages of the whole site: a pure function of its configuration.

One server and one port carry every language, because loopback has one name: what elsewhere would be hosts are path
prefixes here ("/kupora/…"), each with a skin and a name of its own. What a host says about itself (robots.txt,
tdmrep.json) is therefore said by path pattern. A language may be served on a port of its own by a second server.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from xinstruct.microworld.defects import PLAN, Workshop
from xinstruct.microworld.documents import Document, forms_of, write_document
from xinstruct.microworld.languages import load_pack
from xinstruct.microworld.page import Delivery, Page, single
from xinstruct.microworld.randomness import draw, stream
from xinstruct.microworld.skins import SKINS_IN_USE
from xinstruct.microworld.world import World, site_world

PAGES_PER_LANGUAGE = 330
SITES_PER_LANGUAGE = 3
# Sections of the ordinary pages; those that the hosts' files speak about are x, t, s and u (defects.py, site_files.py).
_SECTIONS = ("a", "n", "p", "r")
_COMPRESSED_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class SiteConfig:
    """What the site is made of."""

    seed: int
    languages: tuple[str, ...]
    pages_per_language: int = PAGES_PER_LANGUAGE
    slow_s: float = 0.2
    """Delay of slow pages."""
    padding_bytes: int = 64_000_000
    """What a page that is too big sends after its text."""
    skin: str = ""
    """The skin of every host, "" for one that the seed draws for each from those in use."""


@dataclass(frozen=True, slots=True)
class Host:
    """A path prefix that looks like a web site."""

    prefix: str
    language: str
    name: str
    skin: str


def hosts_of(config: SiteConfig, language: str) -> tuple[Host, ...]:
    """Return the language's path prefixes, their prefixes different over all languages of the config's seed."""
    pack = load_pack(language)
    rng = stream("hosts", config.seed, language)
    names = rng.sample(pack.boilerplate["site"], SITES_PER_LANGUAGE)
    skins = rng.sample(SKINS_IN_USE, SITES_PER_LANGUAGE)
    return tuple(
        Host(_prefix(config.seed, language, name), language, name, config.skin or skin)
        for name, skin in zip(names, skins, strict=True)
    )


def language_pages(config: SiteConfig, language: str) -> list[Page]:
    """Return the language's pages in an order that says nothing; independent of the other languages."""
    world = site_world(config.seed, language, config.pages_per_language)
    rng = stream("site", config.seed, language)
    documents = unused_documents(world)
    hosts = hosts_of(config, language)
    paths = _paths(config.seed, hosts, language)

    def next_page() -> Page:
        path, prefix = next(paths)
        return single(path, prefix, next(documents))

    plan = [spoil for spoil, share in PLAN for _ in range(max(1, round(share * config.pages_per_language / 100)))]
    sound = [_compressed(next_page(), rng.random()) for _ in range(config.pages_per_language - len(plan))]
    workshop = Workshop(load_pack(language), world, rng, lambda: next(documents), tuple(sound))
    spoilt = [spoil(next_page(), workshop) for spoil in plan]
    pages = [*sound, *spoilt]
    rng.shuffle(pages)
    return pages


def site_pages(config: SiteConfig) -> list[Page]:
    """Return the pages of all languages, language by language."""
    return [page for language in config.languages for page in language_pages(config, language)]


def unused_documents(world: World) -> Iterator[Document]:
    """Yield every document that the world has, each (entity, form) once, in a drawn order."""
    plan = [(one, form) for group in world.entities.values() for one in group for form in forms_of(one.kind)]
    stream("documents", world.seed, world.language).shuffle(plan)
    for edition in itertools.count():
        for entity, form in plan:
            yield write_document(world, entity, form, edition=edition)


def _paths(seed: int, hosts: Sequence[Host], language: str) -> Iterator[tuple[str, str]]:
    """Yield endless different paths, the hosts in a drawn order; numbers that tell neither order nor content."""
    rng = stream("paths", seed, language)
    numbers = rng.sample(range(10_000, 99_999), 80_000)
    for number in numbers:
        host = rng.choice(hosts)
        yield f"{host.prefix}{rng.choice(_SECTIONS)}/{number}", host.prefix


def _prefix(seed: int, language: str, name: str) -> str:
    bits = draw("prefix", seed, language, name)
    letters = []
    for _ in range(4):
        bits, consonant = divmod(bits, 16)
        bits, vowel = divmod(bits, 5)
        letters.append("bdfghjklmnprstvz"[consonant] + "aeiou"[vowel])
    return f"/{''.join(letters)}/"


def _compressed(page: Page, drawn: float) -> Page:
    if drawn >= _COMPRESSED_SHARE:
        return page
    return replace(page, delivery=Delivery(compression="gzip" if drawn < _COMPRESSED_SHARE / 2 else "br"))
