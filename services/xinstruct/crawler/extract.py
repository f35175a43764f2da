"""The main text of a page as blocks: two engines vote on every block of the DOM, the DOM keeps order and headings.

trafilatura and resiliparse each find the main text; a block that both have is main text, and where they differ the
block's place decides: what it stands in, how much of it is links, what its neighbours are. Headings come from the DOM,
for trafilatura drops most of them. Not covered: text that a script would write, text in images.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import trafilatura
from resiliparse.extract.html2text import extract_plain_text

DEPTH_MAX = 200
BLOCKS_MAX = 20_000
LINK_RATIO_MAX = 0.5
DATELINE_CHARS_MAX = 60
DATELINE_WORDS_MAX = 4
SHORT_CHARS = 25
"""A block below this length is found in an engine's text only as a whole line."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BLOCKS = frozenset(_HEADINGS) | _words("""
    address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form
    header hr html li main nav ol p pre section summary table tbody td tfoot th thead tr ul
""")
_SKIPPED = _words("""
    head script style noscript template svg math iframe object embed canvas audio video button select option textarea
    input label datalist dialog map menu area
""")
_ASIDE_TAGS = frozenset(("nav", "footer", "aside", "form", "address"))
_ASIDE_ROLES = _words("""
    navigation banner contentinfo complementary search dialog alertdialog alert menu menubar
""")
_ASIDE_WORDS = _words("""
    nav navbar navigation menu footer sidebar breadcrumb breadcrumbs comment comments respond disqus cookie cookies
    consent gdpr related recommended recommendations share sharing social newsletter subscribe subscription popup modal
    overlay banner advert advertisement ads ad sponsored promo pagination pager widget toolbar login signup search tags
    tagcloud byline author dateline timestamp postmeta skip copyright masthead topbar offcanvas toc
""")
_ITEM_TAGS = frozenset(("li", "td", "th", "dt", "dd"))
_LEAF_TAGS = frozenset(("p", "li", *_HEADINGS))
_WHOLE_TAGS = frozenset(("html", "body", "main", "article"))
_WORD_BREAK = re.compile(r"[^a-z0-9]+|(?<=[a-z])(?=[A-Z])")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069\x00-\x08\x0b\x0c\x0e-\x1f]")
_DATE = re.compile(
    r"\b(?:\d{1,2}[./\-]\d{1,2}[./\-]\d{2,4}|\d{4}[./\-]\d{1,2}[./\-]\d{1,2})(?:[ T,]+\d{1,2}[:.]\d{2})?"
)
_BLANKS = re.compile(r"\s+")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_LIST_MARK = re.compile(r"\s+|^[-•*|]+")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of text in document order. level: 1–6 of a heading, 0 of anything else. item: part of a list or table.

    place: number of the element it stands in. link_ratio: share of characters in links. aside: the markup says that it
    is not what the page is about. votes: engines that have it in their main text, 0–2.
    """

    text: str
    level: int = 0
    item: bool = False
    place: int = 0
    link_ratio: float = 0.0
    aside: bool = False
    votes: int = 0


@dataclass(frozen=True, slots=True)
class Extraction:
    """blocks: the main text. agreement_ratio: overlap of the engines' words, 0–1; 1 when one of them found nothing.

    visible_chars: characters of all blocks, main or not.
    """

    blocks: tuple[Block, ...]
    agreement_ratio: float
    visible_chars: int


def extract(text: str, tree: Any | None) -> Extraction:
    """The main text of an HTML page, however malformed; `tree` is its DOM (markup.parsed)."""
    if tree is None:
        return Extraction((), 1.0, 0)
    found = blocks_of(tree)
    voices = (_by_trafilatura(tree), _by_resiliparse(text))
    blocks = _voted(found, voices)
    main = _main_blocks(blocks)
    return Extraction(tuple(main), _agreement(*voices), sum(len(block.text) for block in blocks))


def plain_blocks(text: str) -> tuple[Block, ...]:
    """The paragraphs of plain text, which empty lines separate; single line breaks are kept."""
    parts = _PARAGRAPH_BREAK.split(text.replace("\r\n", "\n"))
    cleaned = ("\n".join(_clean(line) for line in part.splitlines()).strip() for part in parts)
    return tuple(Block(part) for part in cleaned if part)


def _clean(text: str) -> str:
    """NFC, one blank between words, nothing invisible but the joiners that scripts need."""
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", _INVISIBLE.sub("", text))).strip()


# ── the DOM ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Inside:
    """What a block inherits from the elements around it."""

    block: Block = Block("")
    link: bool = False  # within an anchor


class _Walk:
    """Collects blocks from a DOM, in document order."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._pieces: list[str] = []
        self._link_chars = 0
        self._places = 0

    def visit(self, element: Any, inside: _Inside, depth: int) -> None:
        """Collect from the content of `element`."""
        if depth > DEPTH_MAX or len(self.blocks) >= BLOCKS_MAX:
            return
        self._take(element.text, inside)
        for child in element:
            # Comments and processing instructions have no tag name; the text after them is ours.
            if isinstance(child.tag, str):
                self._element(child, inside, depth)
            self._take(child.tail, inside)

    def flush(self, inside: _Inside) -> None:
        """End the open block."""
        raw, link_chars = "".join(self._pieces), self._link_chars
        self._pieces, self._link_chars = [], 0
        if not raw or raw.isspace():
            return
        chars = max(len(_clean(raw)), 1)
        for part in _PARAGRAPH_BREAK.split(raw):
            text = "\n".join(line for line in (_clean(line) for line in part.split("\n")) if line)
            if text:
                self.blocks.append(replace(inside.block, text=text, link_ratio=min(link_chars / chars, 1.0)))

    def _take(self, text: str | None, inside: _Inside) -> None:
        if not text:
            return
        # The only line breaks of a block are those of <br>: a line break in the source is a blank.
        self._pieces.append(_BLANKS.sub(" ", text))
        if inside.link:
            self._link_chars += len(text.strip())

    def _element(self, element: Any, inside: _Inside, depth: int) -> None:
        tag = element.tag
        if tag in _SKIPPED or _hidden(element):
            return
        if tag == "br":
            self._pieces.append("\n")
        elif tag not in _BLOCKS:
            self.visit(element, _Inside(inside.block, True) if tag == "a" else inside, depth + 1)
        else:
            self.flush(inside)
            within = self._within(element, inside)
            self.visit(element, within, depth + 1)
            self.flush(within)

    def _within(self, element: Any, inside: _Inside) -> _Inside:
        self._places += 1
        tag, around = element.tag, inside.block
        within = Block(
            "", level=_HEADINGS.get(tag, around.level),
            # Paragraphs in a cell or item are paragraphs: tables are used for layout.
            item=tag in _ITEM_TAGS or (around.item and tag not in ("p", "div", *_HEADINGS)),
            place=around.place if tag in _LEAF_TAGS else self._places,
            aside=around.aside or (tag not in _WHOLE_TAGS and _aside(element, tag)),
        )
        return _Inside(within, inside.link)


def blocks_of(tree: Any) -> list[Block]:
    """Every visible block of a parsed HTML page, in document order."""
    walk = _Walk()
    walk.visit(tree, _Inside(), 0)
    walk.flush(_Inside())
    return walk.blocks


def _hidden(element: Any) -> bool:
    names = element.attrib
    if not names:
        return False
    if "hidden" in names or names.get("aria-hidden") == "true":
        return True
    style = names.get("style", "").replace(" ", "").lower()
    return "display:none" in style or "visibility:hidden" in style


def _aside(element: Any, tag: str) -> bool:
    """Whether the element's tag, role, class or id says that it is not what the page is about."""
    names = element.attrib
    if tag in _ASIDE_TAGS or names.get("role", "").lower() in _ASIDE_ROLES:
        return True
    said = f"{names.get('class', '')} {names.get('id', '')} {names.get('itemprop', '')}"
    return not _ASIDE_WORDS.isdisjoint(_WORD_BREAK.split(said.lower()))


# ── the vote ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _by_trafilatura(tree: Any) -> str:
    found = trafilatura.extract(
        tree, include_comments=False, include_tables=True, include_images=False, include_links=False, favor_recall=True,
        deduplicate=False, output_format="txt", with_metadata=False, fast=True,
    )
    return found or ""


def _by_resiliparse(text: str) -> str:
    return str(extract_plain_text(
        text, preserve_formatting=True, main_content=True, list_bullets=False, alt_texts=False, links=False,
        form_fields=False, noscript=False, comments=False,
    ))


def _voted(blocks: Sequence[Block], voices: Sequence[str]) -> list[Block]:
    heard = [({_squeezed(line) for line in voice.splitlines()}, _squeezed(voice)) for voice in voices]
    return [replace(block, votes=sum(_has(lines, whole, block.text) for lines, whole in heard)) for block in blocks]


def _has(lines: set[str], whole: str, text: str) -> bool:
    squeezed = _squeezed(text)
    return squeezed in lines or (len(squeezed) >= SHORT_CHARS and squeezed in whole)


def _squeezed(text: str) -> str:
    """Text without blanks and list marks: engines break and mark lines differently."""
    return _LIST_MARK.sub("", _clean(text))


def _main_blocks(blocks: Sequence[Block]) -> list[Block]:
    blocks = _without_false_asides(blocks)
    blocks = [replace(block, aside=block.aside or _dateline(block.text)) for block in blocks]
    share = _voted_share(blocks)
    chosen = [_is_main(block, share) for block in blocks]
    _join_headings(blocks, chosen)
    return [block for block, main in zip(blocks, chosen, strict=True) if main]


def _dateline(text: str) -> bool:
    """Whether a block only says when something was written: a date, with a word or two, and no sentence."""
    if len(text) > DATELINE_CHARS_MAX or not _DATE.search(text):
        return False
    rest = _DATE.sub(" ", text)
    return len(rest.split()) <= DATELINE_WORDS_MAX and not text.rstrip().endswith((".", "!", "?", "।", "۔"))


def _without_false_asides(blocks: Sequence[Block]) -> Sequence[Block]:
    """Class names lie: when nearly all that both engines want stands aside, nothing does."""
    wanted = sum(len(block.text) for block in blocks if block.votes == 2)
    kept = sum(len(block.text) for block in blocks if block.votes == 2 and not block.aside)
    if wanted and kept < 0.3 * wanted:
        return [replace(block, aside=block.aside and block.votes < 2) for block in blocks]
    return blocks


def _voted_share(blocks: Sequence[Block]) -> dict[int, float]:
    """Element → share of its characters that an engine wants."""
    total: dict[int, int] = defaultdict(int)
    wanted: dict[int, int] = defaultdict(int)
    for block in blocks:
        total[block.place] += len(block.text)
        wanted[block.place] += len(block.text) if block.votes and not block.aside else 0
    return {place: wanted[place] / count for place, count in total.items() if count}


def _is_main(block: Block, share: dict[int, float]) -> bool:
    """The vote; where it is split or silent, the block's place: an element of which most is main text is so whole."""
    if block.aside or (block.link_ratio > LINK_RATIO_MAX and not block.level):
        return False
    if block.votes == 2:
        return True
    return share.get(block.place, 0.0) >= 0.5


def _join_headings(blocks: Sequence[Block], chosen: list[bool]) -> None:
    """A heading is main text when what follows it is, and not when that is not."""
    for index in range(len(blocks) - 1, -1, -1):
        block = blocks[index]
        if not block.level or block.aside:
            continue
        after = next((at for at in range(index + 1, len(blocks)) if not blocks[at].aside), None)
        if after is None:
            chosen[index] = False
        elif chosen[after] and (not blocks[after].level or blocks[after].level > block.level):
            chosen[index] = True
        elif not chosen[after] and not _leads_to_main(blocks, chosen, index):
            chosen[index] = False


def _leads_to_main(blocks: Sequence[Block], chosen: Sequence[bool], index: int) -> bool:
    """Whether main text follows before the next heading of the same or a higher level."""
    for at in range(index + 1, len(blocks)):
        if blocks[at].level and blocks[at].level <= blocks[index].level:
            return False
        if chosen[at]:
            return True
    return False


def _agreement(one: str, other: str) -> float:
    """Share of the shorter text's words that the longer has too: an engine that stops early contradicts nobody."""
    words = [Counter(_clean(text).lower().split()) for text in (one, other)]
    shorter = min(words[0].total(), words[1].total())
    return (words[0] & words[1]).total() / shorter if shorter else 1.0
