"""The predictor's tensors: what one side says is what the other hears."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from xinstruct.inference.v2_tensors import Tensor, answered, answers_of, asked, question, refusal_of
from xinstruct.spine.errors import Invalid, Unavailable
from xinstruct.spine.inference import Answer, Classified, Classify, Embed, Embedded, Refused

LABELS = (" best", " worst")
PAIRS = [Classify("evaluator", "m", text, LABELS) for text in ("Ziwa.", "ทะเลสาบ", "")]
TEXTS = [Embed("encoder", "m", text) for text in ("A lake.", "A hill.")]
LONG = Refused("too_long", "300 prompt tokens, 256 fit")


@pytest.mark.parametrize("requests", [PAIRS, TEXTS])
def test_a_question_arrives_as_it_was_asked(requests: Sequence[Classify | Embed]) -> None:
    assert asked(requests[0].role, "m", question(requests)) == requests


def test_strings_may_arrive_as_bytes() -> None:
    as_bytes = [replace(tensor, data=[text.encode() for text in tensor.data]) for tensor in question(PAIRS)]
    assert asked("evaluator", "m", as_bytes) == PAIRS


@pytest.mark.parametrize(
    ("requests", "answers"),
    [
        (PAIRS, [Classified((0.1, 0.9)), LONG, Classified((1 / 3, 2 / 3))]),
        (TEXTS, [Embedded((0.6, -0.8, 0.0)), LONG]),
        (TEXTS, [LONG, LONG]),
    ],
)
def test_answers_and_refusals_arrive_in_their_rows(
    requests: Sequence[Classify | Embed], answers: Sequence[Answer]
) -> None:
    assert answers_of(requests, answered(requests[0].role, answers)) == answers


PROMPTS, GIVEN_LABELS = question(PAIRS)


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [PROMPTS],
        [PROMPTS, GIVEN_LABELS, GIVEN_LABELS],
        [PROMPTS, replace(GIVEN_LABELS, name="label")],
        [replace(PROMPTS, datatype="FP32"), GIVEN_LABELS],
        [replace(PROMPTS, shape=(2,)), GIVEN_LABELS],
        [replace(PROMPTS, shape=(1, 3)), GIVEN_LABELS],
        [replace(PROMPTS, shape=(0,), data=[]), GIVEN_LABELS],
        [replace(PROMPTS, shape=(300,), data=["a"] * 300), GIVEN_LABELS],
        [replace(PROMPTS, data=[1, 2, 3]), GIVEN_LABELS],
        [replace(PROMPTS, data=[b"\xff", b"", b""]), GIVEN_LABELS],
        [replace(PROMPTS, data=["\udc80", "", ""]), GIVEN_LABELS],
        [PROMPTS, Tensor("labels", "BYTES", (1,), [""])],
    ],
)
def test_what_is_no_question_is_invalid(tensors: Sequence[Tensor]) -> None:
    with pytest.raises(Invalid):
        asked("evaluator", "m", tensors)


NUMBERS, REFUSALS = answered("evaluator", [Classified((0.5, 0.5))] * 3)


@pytest.mark.parametrize(
    "tensors",
    [
        [NUMBERS],
        [REFUSALS],
        [replace(NUMBERS, shape=(6,)), REFUSALS],
        [replace(NUMBERS, shape=(3, 3)), REFUSALS],
        [replace(NUMBERS, shape=(2, 2), data=[0.5] * 4), REFUSALS],
        [replace(NUMBERS, shape=(3, 0), data=[]), REFUSALS],
        [NUMBERS, replace(REFUSALS, data=["", ""])],
    ],
)
def test_what_is_no_answer_is_unavailable(tensors: Sequence[Tensor]) -> None:
    with pytest.raises(Unavailable):
        answers_of(PAIRS, tensors)


def test_labels_that_are_alike_are_the_callers_fault_and_anything_else_is_refused() -> None:
    with pytest.raises(Invalid, match="share a first token"):
        refusal_of("labels_alike: labels share a first token")
    assert refusal_of("malformed: no such input") == Refused("malformed", "malformed: no such input")
