"""The language registry: ten targets, their neighbours, and what a wrong data file says."""

from __future__ import annotations

import unicodedata

import pytest

from xinstruct.spine.errors import Invalid, NotFound
from xinstruct.spine.languages import (
    check_registry,
    known_language,
    language,
    languages,
    neighbours,
    parse_language,
)

EXAMPLE = """
code: xx
iso639_3: xxx
english_name: Example
autonym: example
script: Latn
direction: ltr
target: true
word_separated: true
sentence_terminators: ".!?"
native_digits: ""
identification_threshold_ratio: 0.7
confusables: []
function_words: a b c
"""


def test_the_ten_targets_are_known():
    assert [item.code for item in languages()] == ["bn", "fi", "hi", "id", "sw", "ta", "th", "tr", "ur", "vi"]


def test_a_target_tells_its_script_form_direction_and_word_separation():
    assert language("fi").language_script == "fin_Latn"
    assert language("ur").direction == "rtl"
    assert not language("th").word_separated
    assert language("th").sentence_terminators == ""


def test_native_digits_have_the_values_zero_to_nine():
    for item in (*languages(), *neighbours()):
        assert [unicodedata.digit(digit) for digit in item.native_digits] in ([], list(range(10))), item.code


def test_an_unknown_language_is_answered_with_the_known_ones_and_how_to_add_one():
    with pytest.raises(NotFound, match=r"unknown language 'xx'; known are bn \(Bengali\).*languages_data/xx.yaml"):
        language("xx")


def test_a_neighbour_is_known_but_no_target():
    found = known_language("ms")
    assert found is not None and not found.target
    with pytest.raises(NotFound):
        language("ms")


def test_an_empty_tag_is_invalid():
    with pytest.raises(Invalid):
        language("")


def test_every_target_differs_from_its_confusables_of_the_same_script_by_at_least_five_words():
    for item in languages():
        for code in item.confusables:
            other = known_language(code)
            assert other is not None
            if other.script == item.script:
                assert len(set(item.function_words) - set(other.function_words)) >= 5, (item.code, code)


def test_words_are_nfc_and_lower_case():
    for item in (*languages(), *neighbours()):
        for word in item.function_words:
            assert word == unicodedata.normalize("NFC", word).lower(), (item.code, word)


def test_a_new_language_is_one_data_file():
    assert parse_language(EXAMPLE, "xx.yaml").function_words == ("a", "b", "c")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("iso639_3: xxx\n", "", "missing 1 required positional argument: 'iso639_3'"),
        ("script: Latn", "skript: Latn", "unexpected keyword argument 'skript'"),
        ("code: xx", "code: yy", "is called yy.yaml"),
        ("direction: ltr", "direction: up", "direction is ltr or rtl"),
        ('native_digits: ""', 'native_digits: "123"', "ten characters"),
        ("ratio: 0.7", "ratio: 7", "between 0 and 1"),
    ],
)
def test_a_wrong_data_file_is_refused_by_name(old, new, message):
    with pytest.raises(Invalid, match=message):
        parse_language(EXAMPLE.replace(old, new), "xx.yaml")


def test_a_confusable_without_a_data_file_is_refused():
    wrong = parse_language(EXAMPLE.replace("confusables: []", 'confusables: ["qq"]'), "xx.yaml")
    with pytest.raises(Invalid, match="qq"):
        check_registry({"xx": wrong})
