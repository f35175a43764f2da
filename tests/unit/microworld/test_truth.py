"""The rule by which an instruction is right, at its edges."""

from __future__ import annotations

import itertools

import pytest

from xinstruct.microworld.forms import FORMS, instruction_of
from xinstruct.microworld.truth import TextSlot, f1, instruction_right


def check(instruction: str, *accepts: str, right: bool) -> None:
    assert instruction_right(instruction, [TextSlot("entity", accepts)]) is right


def test_a_form_counts_in_any_case_but_only_as_whole_words() -> None:
    check("Tell me about MAMBORO.", "Mamboro", right=True)
    check("Tell me about Mamboroni.", "Mamboro", right=False)
    check("Tell me about Mamboro2.", "Mamboro", right=False)
    check("Mamboroni or Mamboro?", "Mamboro", right=True)


def test_a_mark_after_the_form_makes_another_word() -> None:
    check("Describe राम now", "राम", right=True)
    check("Describe रामी now", "राम", right=False)
    check("Describe โคน้ำ now", "โคน", right=False)
    check("Describe โคน now", "โคน", right=True)


def test_composed_and_decomposed_letters_are_the_same() -> None:
    check("Describe Ha\u0300 No\u0323\u0302i.", "Hà Nội", right=True)
    check("Describe İzmir.", "i\u0307zmir", right=True)


def test_every_slot_must_be_named() -> None:
    slots = [TextSlot("intent", ("recipe",)), TextSlot("entity", ("Ugalo",))]
    assert instruction_right("A recipe for Ugalo", slots)
    assert not instruction_right("A recipe for something", slots)
    assert not instruction_right("Describe Ugalo", slots)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_gold_names_its_aspects_and_no_other(form: object) -> None:
    form = FORMS[form.name]  # type: ignore[attr-defined]
    for pair in itertools.permutations(form.aspects, 2):
        gold = instruction_of(form, "Mamboro", pair)
        for aspect, phrase in form.aspects.items():
            assert instruction_right(gold, [TextSlot(aspect, phrase.accepts)]) is (aspect in pair), (gold, aspect)


def test_forms_of_one_kind_have_intents_that_exclude_each_other() -> None:
    for one, other in itertools.permutations(FORMS.values(), 2):
        if one.kind == other.kind:
            gold = instruction_of(one, "Mamboro", tuple(one.aspects)[:2])
            assert not instruction_right(gold, [TextSlot("intent", other.intent.accepts)]), (gold, other.name)


def test_f1_counts_words_with_their_marks_and_thai_characters() -> None:
    assert f1("हिन्दी भाषा।", "भाषा हिन्दी", "hi") == 1.0
    assert f1("a b c", "a b d", "sw") == pytest.approx(2 / 3)
    assert f1("กข คง", "กขคจ", "th") == pytest.approx(0.75)
    assert f1("", "", "sw") == 1.0
