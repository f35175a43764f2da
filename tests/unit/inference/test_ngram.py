"""The offline encoder."""

from __future__ import annotations

import math

import pytest

from xinstruct.inference.ngram import DIMENSIONS, NgramInference, embedding
from xinstruct.spine.inference import Decoding, Embed, Generate, Refused


def cosine(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(embedding(one), embedding(other), strict=True))


@pytest.mark.parametrize("text", ["Describe the lake Kito.", "झील का वर्णन", "", "?!", "a"])
def test_every_text_has_a_unit_vector_of_the_same_length(text: str) -> None:
    vector = embedding(text)
    assert len(vector) == DIMENSIONS
    assert math.hypot(*vector) == pytest.approx(1.0)


def test_near_texts_are_nearer_than_far_ones() -> None:
    text = "Describe the lake Kito."
    near, far = cosine(text, "Describe the lake Kita."), cosine(text, "A recipe.")
    assert near > far + 0.3


def test_case_and_signs_do_not_count() -> None:
    assert cosine("DESCRIBE the lake!", "describe, the Lake") == pytest.approx(1.0)


def test_it_refuses_to_generate() -> None:
    answer = NgramInference().submit(Generate("generator", "m", "Say.", Decoding(3))).result()
    assert isinstance(answer, Refused)


def test_it_answers_through_the_port_what_it_computes() -> None:
    assert NgramInference().submit(Embed("encoder", "m", "Kito")).result().vector == embedding("Kito")  # type: ignore[union-attr]
