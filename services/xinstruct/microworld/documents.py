"""A document: a text about one entity, written from its facts in one form, and the instruction it answers."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from xinstruct.microworld.forms import FORMS, Form, instruction_of
from xinstruct.microworld.languages import FormText, LanguagePack, load_pack
from xinstruct.microworld.randomness import stream
from xinstruct.microworld.templates import Template, render
from xinstruct.microworld.truth import TextSlot
from xinstruct.microworld.world import Entity, World, capital, fact_reader

TEXT_CHARS_MIN = 200
TEXT_CHARS_MAX = 2_000
# How many aspects a document has: none, one, two, three.
ASPECT_COUNT_WEIGHTS = (8, 24, 46, 22)
HEADINGS_SHARE = 0.35
_SENTENCE_ENDS = tuple('.?!:।۔؟…»”“"')


class BlockKind(StrEnum):
    """What a block is in the page: a section's heading or a paragraph."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"


@dataclass(frozen=True, slots=True)
class Block:
    """A heading or a paragraph, plain text."""

    kind: BlockKind
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A title and blocks; NFC; 200 to 2,000 characters as text."""

    language: str
    form: Form
    entity: Entity
    title: str
    blocks: tuple[Block, ...]
    aspects: tuple[str, ...]
    """The sections it has, in the order of the text."""

    @property
    def text(self) -> str:
        """Title and blocks, an empty line between them."""
        return "\n\n".join((self.title, *(block.text for block in self.blocks)))

    @property
    def instruction(self) -> str:
        """The gold instruction, in English."""
        return instruction_of(self.form, self.entity.name, self.aspects)

    @property
    def slots(self) -> tuple[TextSlot, ...]:
        """What an instruction must name to be right for this document."""
        entity = tuple(dict.fromkeys((self.entity.name, self.entity.roman)))
        aspects = (phrase.accepts for aspect, phrase in self.form.aspects.items() if aspect in self.aspects)
        return (
            TextSlot("intent", self.form.intent.accepts),
            TextSlot("entity", entity),
            *(TextSlot(f"aspect_{number}", accepts) for number, accepts in enumerate(aspects, start=1)),
        )


def write_document(world: World, entity: Entity, form: Form, *, edition: int = 0) -> Document:
    """Return the document of that form about the entity; another edition tells the same facts in other words."""
    pack = load_pack(world.language)
    text = pack.forms[form.name]
    rng = stream("document", world.seed, world.language, form.name, entity.name, edition)
    write = _Writer(pack, rng, fact_reader(world, entity), entity.woman)
    count = rng.choices(range(len(ASPECT_COUNT_WEIGHTS)), ASPECT_COUNT_WEIGHTS)[0]
    aspects = tuple(rng.sample(tuple(form.aspects), count))
    title = write.sentence(rng.choice(text.title), stop="")
    blocks = list(_blocks(write, form, text, aspects, with_headings=count > 1 and rng.random() < HEADINGS_SHARE))
    if rng.random() < pack.digits_share:
        native = str.maketrans("0123456789", pack.digits)
        title = title.translate(native)
        blocks = [Block(block.kind, block.text.translate(native)) for block in blocks]
    return Document(world.language, form, entity, title, tuple(blocks), aspects)


def forms_of(kind: str) -> tuple[Form, ...]:
    """Return the forms in which documents about this kind of entity are written."""
    return tuple(form for form in FORMS.values() if form.kind == kind)


@dataclass(frozen=True, slots=True)
class _Writer:
    pack: LanguagePack
    rng: random.Random
    fact: Callable[[str], str]
    woman: bool

    def sentence(self, template: Template, stop: str | None = None) -> str:
        """Return the rendered sentence with a capital and, unless it has an end of its own, the stop."""
        text = unicodedata.normalize("NFC", render(template, self.rng, self.fact, woman=self.woman)).strip()
        text = capital(" ".join(text.split(" ")) if "  " not in text else " ".join(text.split()), self.pack.code)
        ended = text.endswith(_SENTENCE_ENDS)
        return text + ("" if ended else self.pack.stop if stop is None else stop)

    def paragraph(self, templates: list[Template]) -> Block:
        return Block(BlockKind.PARAGRAPH, " ".join(self.sentence(template) for template in templates))

    def some(self, templates: tuple[Template, ...], at_least: int, *, in_order: bool) -> list[Template]:
        """Return at least that many of the templates, shuffled unless they are to stay in order."""
        count = self.rng.randint(min(at_least, len(templates)), len(templates))
        chosen = self.rng.sample(range(len(templates)), count)
        return [templates[position] for position in (sorted(chosen) if in_order else chosen)]


def _blocks(
    write: _Writer, form: Form, text: FormText, aspects: tuple[str, ...], *, with_headings: bool
) -> Iterator[Block]:
    general = write.some(text.general, 1 if aspects else len(text.general), in_order=False)
    lead = [write.rng.choice(text.lead), *general]
    # A short text is one paragraph; in a longer one the general remarks sometimes stand apart.
    if write.rng.random() < 0.4 and len(general) > 1:
        yield write.paragraph(lead[:2])
        yield write.paragraph(lead[2:])
    else:
        yield write.paragraph(lead)
    for aspect in aspects:
        yield from _section(write, form, text, aspect, with_headings=with_headings)
    if not aspects or write.rng.random() < 0.6:
        yield write.paragraph([write.rng.choice(text.close)])


def _section(write: _Writer, form: Form, text: FormText, aspect: str, *, with_headings: bool) -> Iterator[Block]:
    sentences = text.aspects[aspect]
    if form.questions:
        yield Block(BlockKind.HEADING, write.sentence(sentences[0]))
        yield write.paragraph(write.some(sentences[1:], 2, in_order=False))
        return
    if with_headings:
        headings = write.pack.headings
        yield Block(BlockKind.HEADING, write.rng.choice(headings.get(f"{form.name}.{aspect}") or headings[aspect]))
    in_order = aspect in form.in_order
    yield write.paragraph(write.some(sentences, max(2, len(sentences) - 1), in_order=in_order))
