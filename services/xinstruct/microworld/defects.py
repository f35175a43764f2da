"""What is wrong with planted pages: functions from a sound page to a spoilt one. pages_plan says how many of each.

Each function takes the page and a Workshop and returns the page that is served instead. A defect that a good crawler
copes with (compression, a missing charset, a slow or once unavailable server, permissions that look like opt-outs)
leaves the page admissible.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xinstruct.microworld.damage import broken_marks, edited, mistaken_charset
from xinstruct.microworld.documents import Block, BlockKind, Document
from xinstruct.microworld.languages import LanguagePack, neighbour_sentences
from xinstruct.microworld.page import Delivery, Page, Reason, Section, collection, single
from xinstruct.microworld.personal import fill_contact
from xinstruct.microworld.templates import render
from xinstruct.microworld.world import Entity, World, fact_reader

LONG_CHARS_MIN = 4_500
COLLECTION_CHARS_MIN = 2_600
DUPLICATE_CHARS_MIN = 450
_NEIGHBOUR_SENTENCES = 5
_NEIGHBOUR_STOPS = {"ne": "।", "mr": ".", "as": "।", "lo": ""}
# Charsets in which a language was written before UTF-8; languages without one here are served in UTF-16.
_OLD_CHARSETS = {"th": "windows-874", "tr": "iso-8859-9", "fi": "iso-8859-1", "sw": "iso-8859-1", "id": "iso-8859-1"}
_INDIC = frozenset(("bn", "hi", "ta", "th"))


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a defect may use."""

    pack: LanguagePack
    world: World
    rng: random.Random
    more_documents: Callable[[], Document]
    """The next document that no other page has."""
    sound: Sequence[Page]
    """The pages without a defect, to be copied and linked."""


Spoil = Callable[[Page, Workshop], Page]


def near_duplicate(page: Page, workshop: Workshop) -> Page:
    """The same text with a few words changed."""
    original = workshop.rng.choice([one for one in workshop.sound if len(one.main_text) >= DUPLICATE_CHARS_MIN])
    document = edited(original.documents[0], workshop.rng)
    return replace(single(page.path, page.site, document), near_duplicate_of=original.path)


def mirror(page: Page, workshop: Workshop) -> Page:
    """The same text word for word at another address, mostly in another skin."""
    original = workshop.rng.choice(workshop.sound)
    return replace(original, path=page.path, site=page.site, near_duplicate_of=original.path)


def wrong_language(page: Page, workshop: Workshop) -> Page:
    """Text in a confusable language."""
    language, paragraphs = _neighbour_paragraphs(page, workshop)
    heading = paragraphs[0].text.split(" ", 3)[:3]
    return _without_documents(page, Reason.WRONG_LANGUAGE, " ".join(heading), paragraphs, language=language)


def mixed_language(page: Page, workshop: Workshop) -> Page:
    """Half of the text is in a confusable language, paragraph by paragraph."""
    _, foreign = _neighbour_paragraphs(page, workshop)
    own = [block for section in page.sections for block in section.blocks if block.kind is BlockKind.PARAGRAPH]
    mixed = [block for pair in zip(own, foreign, strict=False) for block in pair]
    return _without_documents(page, Reason.MIXED_LANGUAGE, page.heading, mixed)


def mojibake(page: Page, workshop: Workshop) -> Page:
    """UTF-8 once read as Latin-1 and stored so; in ASCII text, replacement characters that went the same way."""
    return _damaged(page, Reason.MOJIBAKE, lambda text: mistaken_charset(text, workshop.rng))


def broken_text(page: Page, workshop: Workshop) -> Page:
    """Orphan and shuffled vowel signs, as an old font conversion leaves them; mojibake where the script has none."""
    if workshop.pack.code not in _INDIC:
        return mojibake(page, workshop)
    return _damaged(page, Reason.BROKEN_TEXT, lambda text: broken_marks(text, workshop.rng))


def boilerplate_only(page: Page, workshop: Workshop) -> Page:
    """Nothing but the site's own phrases."""
    phrases = workshop.pack.boilerplate
    keys = ("cookie", "footer", "subscribe", "advert", "menu", "share", "missing")
    lines = [phrase for key in keys for phrase in phrases[key]]
    workshop.rng.shuffle(lines)
    blocks = [Block(BlockKind.PARAGRAPH, " ".join(lines[start : start + 5])) for start in range(0, len(lines), 5)]
    return _without_documents(page, Reason.BOILERPLATE, workshop.rng.choice(phrases["site"]), blocks)


def keyword_spam(page: Page, workshop: Workshop) -> Page:
    """Search words over and over."""
    words = workshop.pack.boilerplate["spam"]
    lines = [", ".join(workshop.rng.choices(words, k=24)) + workshop.pack.stop for _ in range(4)]
    blocks = [Block(BlockKind.PARAGRAPH, line) for line in lines]
    return _without_documents(page, Reason.KEYWORD_SPAM, workshop.rng.choice(words), blocks)


def too_short(page: Page, workshop: Workshop) -> Page:
    """One clipped sentence."""
    clipped = page.sections[0].blocks[0].text[: workshop.rng.randint(50, 100)].rsplit(" ", 1)[0]
    return _without_documents(page, Reason.TOO_SHORT, page.heading, [Block(BlockKind.PARAGRAPH, clipped + "…")])


def too_long(page: Page, workshop: Workshop) -> Page:
    """One endless paragraph about many things, without a heading to cut it at."""
    texts = [_running_text(page.documents[0])]
    while sum(map(len, texts)) < LONG_CHARS_MIN:
        texts.append(_running_text(workshop.more_documents()))
    return _without_documents(page, Reason.TOO_LONG, page.heading, [Block(BlockKind.PARAGRAPH, " ".join(texts))])


def several_documents(page: Page, workshop: Workshop) -> Page:
    """No defect: a long page of self-contained sections, each a document."""
    documents = list(page.documents)
    while sum(len(document.text) for document in documents) < COLLECTION_CHARS_MIN:
        documents.append(workshop.more_documents())
    phrases = workshop.pack.boilerplate
    heading, intro = workshop.rng.choice(phrases["overview"]), workshop.rng.choice(phrases["intro"])
    return collection(page.path, page.site, tuple(documents), heading, intro)


def personal_data(page: Page, workshop: Workshop) -> Page:
    """An otherwise good document that gives somebody's address, number or account."""
    document = page.documents[0]
    contact, found = fill_contact(workshop.pack, workshop.world, workshop.rng)
    spoilt = replace(document, blocks=(*document.blocks, Block(BlockKind.PARAGRAPH, contact)))
    return replace(single(page.path, page.site, spoilt), pii=found)


def robots_disallowed(page: Page, workshop: Workshop) -> Page:
    """A path that robots.txt closes."""
    return replace(page, path=_in_section(page, "x"), reason=Reason.ROBOTS_DISALLOWED)


def opt_out_robots_meta(page: Page, workshop: Workshop) -> Page:
    """<meta name=robots>."""
    said = workshop.rng.choice(("noindex", "noai", "noarchive", "noai, noimageai", "noindex, nofollow"))
    return _refusing(page, Reason.OPT_OUT_ROBOTS_META, metas=(("robots", said),))


def opt_out_x_robots_tag(page: Page, workshop: Workshop) -> Page:
    """The X-Robots-Tag header."""
    said = workshop.rng.choice(("noai", "noindex", "noarchive, nosnippet", "nofollow, noai"))
    return _refusing(page, Reason.OPT_OUT_X_ROBOTS_TAG, headers=(("X-Robots-Tag", said),))


def opt_out_tdm(page: Page, workshop: Workshop) -> Page:
    """TDMRep, by header, by meta element or by the host's tdmrep.json."""
    way = workshop.rng.randrange(3)
    if way == 0:
        return _refusing(page, Reason.OPT_OUT_TDM, headers=(("tdm-reservation", "1"),))
    if way == 1:
        return _refusing(page, Reason.OPT_OUT_TDM, metas=(("tdm-reservation", "1"),))
    return replace(page, path=_in_section(page, "t"), reason=Reason.OPT_OUT_TDM)


def opt_out_content_signal(page: Page, workshop: Workshop) -> Page:
    """Content-Signal, by header or in robots.txt."""
    if workshop.rng.random() < 0.5:
        return replace(page, path=_in_section(page, "s"), reason=Reason.OPT_OUT_CONTENT_SIGNAL)
    return _refusing(page, Reason.OPT_OUT_CONTENT_SIGNAL, headers=(("Content-Signal", "search=yes, ai-train=no"),))


def opt_out_content_usage(page: Page, workshop: Workshop) -> Page:
    """Content-Usage, by header or in robots.txt."""
    if workshop.rng.random() < 0.5:
        return replace(page, path=_in_section(page, "u"), reason=Reason.OPT_OUT_CONTENT_USAGE)
    return _refusing(page, Reason.OPT_OUT_CONTENT_USAGE, headers=(("Content-Usage", "train-ai=n"),))


def permission(page: Page, workshop: Workshop) -> Page:
    """No defect: a signal that permits, or refuses something else, or somebody else."""
    headers = (
        ("X-Robots-Tag", "max-snippet: 160"), ("X-Robots-Tag", "anotherbot: noindex"), ("tdm-reservation", "0"),
        ("Content-Signal", "search=yes, ai-train=yes"), ("Content-Usage", "train-ai=y"),
    )  # fmt: skip
    return replace(
        page, delivery=Delivery(headers=(workshop.rng.choice(headers),), metas=(("robots", "index, follow"),))
    )


def redirect(page: Page, workshop: Workshop) -> Page:
    """Leads to a sound page."""
    target = workshop.rng.choice(workshop.sound).path
    status = workshop.rng.choice((301, 302, 307, 308))
    return _bodiless(page, Reason.REDIRECT, Delivery(status=status, location=target))


def redirect_loop(page: Page, workshop: Workshop) -> Page:
    """Leads to itself."""
    return _bodiless(page, Reason.REDIRECT_LOOP, Delivery(status=302, location=page.path))


def not_found(page: Page, workshop: Workshop) -> Page:
    """404."""
    return _bodiless(page, Reason.NOT_FOUND, Delivery(status=404))


def gone(page: Page, workshop: Workshop) -> Page:
    """410."""
    return _bodiless(page, Reason.GONE, Delivery(status=410))


def server_error(page: Page, workshop: Workshop) -> Page:
    """500 whenever it is asked for."""
    return _bodiless(page, Reason.SERVER_ERROR, Delivery(status=500))


def unavailable_once(page: Page, workshop: Workshop) -> Page:
    """No defect: 503 with Retry-After at the first request, fine afterwards."""
    return replace(page, delivery=Delivery(status_first=503, headers=(("Retry-After", "1"),)))


def slow(page: Page, workshop: Workshop) -> Page:
    """No defect: the answer takes the site's slow_s seconds."""
    return replace(page, delivery=Delivery(slow=True))


def too_big(page: Page, workshop: Workshop) -> Page:
    """The text, and then more than anybody wants."""
    return replace(page, reason=Reason.TOO_BIG, delivery=Delivery(padded=True))


def charset_undeclared(page: Page, workshop: Workshop) -> Page:
    """No defect: UTF-8, and nobody says so."""
    return replace(page, delivery=Delivery(charset_header="", charset_meta=""))


def charset_misdeclared(page: Page, workshop: Workshop) -> Page:
    """No defect to a careful reader: the bytes are plainly UTF-8, whatever the header says."""
    return replace(
        page, delivery=Delivery(charset_header="iso-8859-1", charset_meta=workshop.rng.choice(("", "utf-8")))
    )


def charset_old(page: Page, workshop: Workshop) -> Page:
    """No defect: a charset from before UTF-8, correctly declared."""
    charset = _OLD_CHARSETS.get(workshop.pack.code, "utf-16")
    return replace(page, delivery=Delivery(charset=charset, charset_header=charset, charset_meta=""))


# Per hundred pages: 0 < share. A quarter of all pages at least is not what it should be (a test counts).
PLAN: tuple[tuple[Spoil, float], ...] = (
    (several_documents, 4.5), (near_duplicate, 2.5), (mirror, 1.5), (wrong_language, 2.5), (mixed_language, 1.2),
    (mojibake, 1.2), (broken_text, 1.2), (boilerplate_only, 0.9), (keyword_spam, 0.9), (too_short, 1.5),
    (too_long, 0.9), (personal_data, 3.0), (robots_disallowed, 1.8), (opt_out_robots_meta, 1.5),
    (opt_out_x_robots_tag, 0.9), (opt_out_tdm, 1.5), (opt_out_content_signal, 0.9), (opt_out_content_usage, 0.9),
    (permission, 1.5), (redirect, 0.9), (redirect_loop, 0.3), (not_found, 0.6), (gone, 0.3), (server_error, 0.3),
    (unavailable_once, 0.6), (slow, 0.6), (too_big, 0.3), (charset_undeclared, 0.9), (charset_misdeclared, 0.6),
    (charset_old, 0.6),
)  # fmt: skip


def _refusing(
    page: Page,
    reason: Reason,
    *,
    headers: tuple[tuple[str, str], ...] = (),
    metas: tuple[tuple[str, str], ...] = (),
) -> Page:
    return replace(page, reason=reason, delivery=Delivery(headers=headers, metas=metas))


def _in_section(page: Page, section: str) -> str:
    """Return the page's path within one of the sections that the host's files speak about."""
    return re.sub(r"^(/[^/]+/)[^/]+/", rf"\g<1>{section}/", page.path)


def _bodiless(page: Page, reason: Reason, delivery: Delivery) -> Page:
    return Page(page.path, page.site, page.language, "", reason=reason, delivery=delivery)


def _without_documents(
    page: Page, reason: Reason, heading: str, blocks: Sequence[Block], *, language: str | None = None
) -> Page:
    return Page(page.path, page.site, language or page.language, heading, (Section("", tuple(blocks)),), reason=reason)


def _damaged(page: Page, reason: Reason, damage: Callable[[str], str]) -> Page:
    blocks = [Block(block.kind, damage(block.text)) for section in page.sections for block in section.blocks]
    return _without_documents(page, reason, damage(page.heading), blocks)


def _neighbour_paragraphs(page: Page, workshop: Workshop) -> tuple[str, list[Block]]:
    language = workshop.rng.choice(workshop.pack.neighbours)
    fact = fact_reader(workshop.world, _subject(page, workshop))
    stop = _NEIGHBOUR_STOPS.get(language, ".")
    chosen = workshop.rng.sample(neighbour_sentences(language), _NEIGHBOUR_SENTENCES)
    sentences = [render(one, workshop.rng, fact, woman=False) + stop for one in chosen]
    cuts = (sentences[:2], sentences[2:4], sentences[4:])
    return language, [Block(BlockKind.PARAGRAPH, " ".join(cut)) for cut in cuts]


def _subject(page: Page, workshop: Workshop) -> Entity:
    return page.documents[0].entity


def _running_text(document: Document) -> str:
    return " ".join(block.text for block in document.blocks if block.kind is BlockKind.PARAGRAPH)
