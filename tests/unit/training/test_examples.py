"""Examples: which rows are held out, and which tokens are learned."""

from __future__ import annotations

from xinstruct.training.data import Example, generator_examples, sample_of, split
from xinstruct.training.domain import PairRow
from xinstruct.training.job import IGNORED, encode


class Letters:
    """A tokenizer whose tokens are code points; 0 ends a text."""

    chat_template = None
    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def rows(count: int, source: str = "seed") -> list[PairRow]:
    return [
        PairRow(f"{source}-{n}", f"Describe Kito {n}.", f"Kito {n}\n\nNi mlima.", "sw", source) for n in range(count)
    ]


def ids(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def test_a_row_is_learned_or_held_out_and_never_both() -> None:
    learned, held_out = split(rows(400), 0.1)
    assert sorted(row.id for row in learned + held_out) == sorted(row.id for row in rows(400))
    assert 15 < len(held_out) < 70


def test_kept_pairs_are_never_held_out() -> None:
    assert split(rows(200, "kept"), 0.5)[1] == []


def test_more_rows_leave_a_row_on_its_side() -> None:
    few, many = split(rows(50), 0.2)[1], split(rows(400), 0.2)[1]
    assert few == [row for row in many if row in few]


def test_a_sample_is_bounded_and_in_order() -> None:
    sample = sample_of(rows(100), 7)
    assert len(sample) == 7
    assert sample == [row for row in rows(100) if row in sample]


def test_the_generator_learns_the_instruction_after_the_outline() -> None:
    assert generator_examples(rows(1), "tiny") == [
        Example("seed-0", " Kito 0\n Ni mlima.\n=>", " Describe Kito 0.", ends=True)
    ]


def test_only_the_answer_and_its_end_are_learned() -> None:
    encoded = encode(Letters(), Example("x", "ab", "cd", ends=True), 64)
    assert encoded == {"input_ids": [*ids("abcd"), 0], "labels": [IGNORED, IGNORED, *ids("cd"), 0]}


def test_a_label_is_one_token_without_an_end() -> None:
    encoded = encode(Letters(), Example("x", "ab", " best", ends=False), 64)
    assert encoded == {"input_ids": ids("ab "), "labels": [IGNORED, IGNORED, *ids(" ")]}


def test_a_prompt_that_is_too_long_keeps_its_start_and_its_question() -> None:
    encoded = encode(Letters(), Example("x", "a" * 50 + "b" * 50, "c", ends=True), 12)
    assert encoded["input_ids"] == [*ids("aaaaabbbbbc"), 0]
