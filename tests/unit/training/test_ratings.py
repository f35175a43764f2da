"""Rating data: what is called best, reasonable and worst."""

from __future__ import annotations

import random

import pytest

from xinstruct.spine.prompts import LABELS, evaluator_prompt
from xinstruct.training.domain import PairRow
from xinstruct.training.ratings import evaluator_examples, name_in

KINDS = ("lake", "town", "bridge", "market")


def rows(count: int = 24) -> list[PairRow]:
    return [row(number) for number in range(count)]


def row(number: int) -> PairRow:
    name, kind = f"Kito{chr(97 + number)}ra", KINDS[number % 4]
    lead = f"{name} iko kaskazini, karibu na mlima {number}."
    response = f"{name}\n\n{lead}\n\nWatu {number} huishi hapa.\n\nMwisho wa habari."
    instruction = f"Describe the {kind} {name}, covering its size."
    return PairRow(f"id-{number:02}", instruction, response, ("sw", "fi")[number % 2], "seed")


def answers(pairs: list[PairRow], drafts: dict[str, list[str]] | None = None, seed: int = 0) -> list[tuple[str, str]]:
    return [(one.prompt, one.answer) for one in evaluator_examples(pairs, drafts or {}, "tiny", seed)]


def test_half_of_the_examples_are_the_gold_pairs_and_best() -> None:
    found = answers(rows())
    gold = [(evaluator_prompt(one.instruction, one.response, "x", "tiny"), LABELS[0]) for one in rows()]
    assert len(found) == 2 * len(gold)
    assert [example for example in found if example[1] == LABELS[0]] == gold


def test_the_best_example_of_a_pair_weighs_as_much_as_its_different_wrong_ones() -> None:
    found = evaluator_examples(rows(), {}, "tiny", seed=0, wrong_each=3)
    by_row = {one.id: [item for item in found if item.id.startswith(f"{one.id} ")] for one in rows()}
    for best, *wrong in by_row.values():
        assert (best.answer, best.weight) == (LABELS[0], len(wrong))
        assert [one.weight for one in wrong] == [1.0] * len(wrong)
    assert sum(map(len, by_row.values())) == len(found) > 3 * len(rows())


def test_no_wrong_example_is_a_gold_pair() -> None:
    found = [answers(rows(), seed=seed) for seed in range(20)]
    gold = {evaluator_prompt(one.instruction, one.response, "x", "tiny") for one in rows()}
    wrong = [prompt for examples in found for prompt, label in examples if label != LABELS[0]]
    # The outline does not show every damage: what it cuts off may be all that differs.
    assert sum(prompt in gold for prompt in wrong) < len(wrong) / 10


def test_all_three_labels_occur() -> None:
    assert {label for _, label in answers(rows())} == set(LABELS)


def test_some_wrong_instructions_ask_for_less_and_some_for_more_of_an_enumeration() -> None:
    gold = PairRow("id", "Describe Kitora, covering its size, its lakes, its age.", row(1).response, "sw", "seed")
    more = PairRow("other", "Describe Kitora, covering its roads.", row(1).response, "sw", "seed")
    prompts = [prompt for seed in range(200) for prompt, _ in answers([gold, more], seed=seed)]
    asked = {prompt.split("\n=> ")[1].split("\n")[0] for prompt in prompts}
    assert "Describe Kitora, covering its size, its age." in asked
    assert "Describe Kitora, covering its lakes, its age." in asked
    assert any("its roads" in one and "its lakes" in one for one in asked)


def test_the_same_seed_gives_the_same_examples_and_another_seed_others() -> None:
    assert answers(rows(), seed=1) == answers(rows(), seed=1)
    assert answers(rows(), seed=1) != answers(rows(), seed=2)


def test_examples_of_a_row_do_not_depend_on_the_order_of_drafts_of_others() -> None:
    drafts = {"id-00": ["Describe the lake Kita."], "id-01": ["Describe the town Kiti."]}
    assert answers(rows(), drafts) == answers(rows(), dict(reversed(drafts.items())))


def test_a_draft_that_differs_is_reasonable_and_one_that_equals_gold_is_not_shown_as_wrong() -> None:
    pairs = rows()
    found = answers(pairs, {"id-00": ["Describe the lake Wrong."], "id-01": [pairs[1].instruction + " "]})
    assert found[1] == (evaluator_prompt("Describe the lake Wrong.", pairs[0].response, "x", "tiny"), LABELS[1])
    assert found[3][0] != found[2][0]


@pytest.mark.parametrize(("instruction", "response", "name"), [
    ("Describe the lake Kito, covering its size.", "Kito ni ziwa.", "Kito"),
    ("Tell the life story of Amina Nderile.", "Amina Nderile alizaliwa.", "Amina Nderile"),
    ("झील इनटाघाट का वर्णन", "इनटाघाट झील", "इनटाघाट"),
    ("Write a poem.", "Shairi.", ""),
    ("", "", ""),
])
def test_the_name_is_the_longest_run_of_words_that_both_sides_share(instruction: str, response: str, name: str) -> None:
    assert name_in(instruction, response) == name


def test_a_single_row_can_be_rated() -> None:
    assert len(answers([row(0)])) == 2


def test_rating_draws_nothing_from_the_shared_generator() -> None:
    random.seed(5)
    before = random.getstate()
    answers(rows())
    assert random.getstate() == before
