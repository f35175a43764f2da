"""What every document of every language is like."""

from __future__ import annotations

import unicodedata
from functools import cache

import pytest

from xinstruct.microworld.documents import TEXT_CHARS_MAX, TEXT_CHARS_MIN, Document, forms_of, write_document
from xinstruct.microworld.forms import FORMS
from xinstruct.microworld.languages import LANGUAGES, load_pack
from xinstruct.microworld.truth import TextSlot, instruction_right
from xinstruct.microworld.world import build_world

NAMES_MIN = 50_000
JACCARD_MAX = 0.5
GRAM = 5


@cache
def documents(language: str) -> tuple[Document, ...]:
    world = build_world(11, language, per_kind=8)
    return tuple(
        write_document(world, entity, form)
        for group in world.entities.values()
        for entity in group
        for form in forms_of(entity.kind)
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_documents_keep_the_bounds_of_length_and_are_composed(language: str) -> None:
    for document in documents(language):
        assert TEXT_CHARS_MIN <= len(document.text) <= TEXT_CHARS_MAX, document.text
        assert unicodedata.is_normalized("NFC", document.text)
        assert 40 <= len(document.instruction) <= 140, document.instruction


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_notation_is_left_in_a_document(language: str) -> None:
    for document in documents(language):
        assert not set(document.text) & set("{}[]<>|"), document.text
        assert "  " not in document.text, document.text
        assert min(len(line) for line in document.text.splitlines() if line) >= 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_gold_is_right_and_without_the_entity_or_an_aspect_it_is_wrong(language: str) -> None:
    for document in documents(language):
        assert instruction_right(document.instruction, document.slots), document.instruction
        other = document.instruction.replace(document.entity.name, "Somebody")
        assert not instruction_right(other, document.slots)
        for aspect in document.aspects[:2]:
            rest = document.instruction.replace(document.form.aspects[aspect].text, "something")
            assert not instruction_right(rest, document.slots), rest


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_name_stands_in_its_base_form_in_title_and_lead(language: str) -> None:
    for document in documents(language):
        slots = [TextSlot("entity", (document.entity.name,))]
        assert instruction_right(document.title, slots), document.title
        assert instruction_right(document.blocks[0].text, slots), document.blocks[0].text


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_documents_look_like_duplicates(language: str) -> None:
    by_form: dict[str, list[set[tuple[str, ...]]]] = {}
    for document in documents(language):
        by_form.setdefault(document.form.name, []).append(_grams(document))
    for grams in by_form.values():
        for position, one in enumerate(grams):
            for other in grams[:position]:
                assert len(one & other) / len(one | other) < JACCARD_MAX


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_pack_is_complete(language: str) -> None:
    pack = load_pack(language)
    names = pack.names
    assert len(names.first) * len(names.middle) * len(names.last) >= NAMES_MIN
    assert set(pack.forms) == set(FORMS)
    for form in FORMS.values():
        assert set(pack.forms[form.name].aspects) == set(form.aspects)
        assert form.questions or set(form.aspects) <= set(pack.headings)
    for key, words in pack.words.items():
        assert len(set(words)) == len(words) >= 4, key
        assert len(words) == len(pack.words[key.partition(".")[0]]), key


def test_a_world_depends_on_its_seed_and_language_alone() -> None:
    assert build_world(5, "sw") == build_world(5, "sw")
    names, others = build_world(5, "sw").names, build_world(6, "sw").names
    assert len(names & others) < 0.05 * len(names)
    world = build_world(5, "sw", per_kind=4)
    entity = world.entities["lake"][0]
    first, again = (write_document(world, entity, FORMS["lake_article"]) for _ in range(2))
    edited = write_document(world, entity, FORMS["lake_article"], edition=1)
    assert first == again != edited


def _grams(document: Document) -> set[tuple[str, ...]]:
    text = document.text
    units = [letter for letter in text if not letter.isspace()] if document.language == "th" else text.split()
    return {tuple(units[start : start + GRAM]) for start in range(len(units) - GRAM + 1)}
