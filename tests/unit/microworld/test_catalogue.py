"""What the tiny base is pre-trained on: texts, their records, and what a proof-reader says of a record."""

from __future__ import annotations

import pytest

from xinstruct.microworld.catalogue import catalogued_texts, proofread_texts
from xinstruct.microworld.forms import FORMS

PROOFS = list(proofread_texts(5, ["fi", "ta"], 400))


def test_a_record_names_what_the_text_is_about_and_asks_for_nothing() -> None:
    intents = [form.intent.text.partition(" @")[0] for form in FORMS.values()]
    for text in catalogued_texts(3, ["sw", "th", "ur"], 30):
        name, _, sections = text["record"].split("; ")
        assert name in text["text"]
        assert sections
        assert not any(intent in text["record"] for intent in intents)


def test_half_of_the_records_are_correct_and_every_part_is_wrong_at_times() -> None:
    verdicts = [text["verdict"] for text in PROOFS]
    assert 0.4 < verdicts.count("correct") / len(verdicts) < 0.6
    assert set(verdicts) == {"correct", "name", "class", "sections"}


def test_a_draft_is_called_correct_exactly_when_it_is() -> None:
    assert all((text["draft"] == text["record"]) is (text["verdict"] == "correct") for text in PROOFS)


@pytest.mark.parametrize(("verdict", "part"), [("name", 0), ("class", 1), ("sections", 2)])
def test_a_wrong_draft_is_wrong_in_the_part_that_the_verdict_names(verdict: str, part: int) -> None:
    for text in PROOFS:
        if text["verdict"] == verdict:
            right, wrong = text["record"].split("; "), text["draft"].split("; ")
            assert [number for number in range(3) if right[number] != wrong[number]] == [part], text["draft"]
