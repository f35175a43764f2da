"""What the tiny base is pre-trained on: texts, their records, and what a proof-reader says of a record."""

from __future__ import annotations

import pytest

from xinstruct.microworld.catalogue import catalogued_texts, proofread_texts
from xinstruct.microworld.forms import FORMS

PROOFS = [(text, draft) for text in proofread_texts(5, ["fi", "ta"], 200, 2) for draft in text["drafts"]]


def test_a_record_names_what_the_text_is_about_and_asks_for_nothing() -> None:
    intents = [form.intent.text.partition(" @")[0] for form in FORMS.values()]
    for text in catalogued_texts(3, ["sw", "th", "ur"], 30):
        name, _, sections = text["record"].split("; ")
        assert name in text["text"]
        assert sections
        assert not any(intent in text["record"] for intent in intents)


def test_half_of_the_drafts_are_correct_and_every_part_is_wrong_at_times() -> None:
    verdicts = [draft["verdict"] for _, draft in PROOFS]
    assert 0.4 < verdicts.count("correct") / len(verdicts) < 0.6
    assert set(verdicts) == {"correct", "name", "class", "sections", "everything"}


def test_a_draft_has_the_parts_of_a_record_in_any_order() -> None:
    correct = [(text["record"], draft["draft"]) for text, draft in PROOFS if draft["verdict"] == "correct"]
    assert all(sorted(record.split("; ")) == sorted(draft.split("; ")) for record, draft in correct)
    assert 0.3 < sum(record != draft for record, draft in correct) / len(correct) < 0.7


@pytest.mark.parametrize(("verdict", "wrong"), [("name", {0}), ("class", {1}), ("sections", {2})])
def test_a_wrong_draft_is_wrong_in_the_part_that_the_verdict_names(verdict: str, wrong: set[int]) -> None:
    drafts = [(text["record"].split("; "), draft["draft"].split("; ")) for text, draft in PROOFS
              if draft["verdict"] == verdict]
    assert drafts
    for record, draft in drafts:
        assert {number for number in range(3) if record[number] not in draft} == wrong, draft


def test_a_draft_that_is_wrong_in_everything_is_the_record_of_another_text() -> None:
    records = {frozenset(text["record"].split("; ")) for text, _ in PROOFS}
    for text, draft in PROOFS:
        if draft["verdict"] == "everything":
            assert frozenset(draft["draft"].split("; ")) in records - {frozenset(text["record"].split("; "))}
