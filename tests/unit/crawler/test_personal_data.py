"""Personal data is found by form and check digit, in every script's digits."""

from __future__ import annotations

import pytest

from xinstruct.crawler.personal_data import mask


def check(text, expected):
    assert mask(text).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Kirjoita: matti.meikalainen@posti.example!", "Kirjoita: ⟨email⟩!"),
        ("info (at) kylä.example", "⟨email⟩"),
        ("ติดต่อ somchai@mail.example ได้", "ติดต่อ ⟨email⟩ ได้"),
        ("Soita +358 40 123 4567 heti", "Soita ⟨phone⟩ heti"),
        ("Puh. 09-1234567.", "Puh. ⟨phone⟩."),
        ("โทร 086-666-1694", "โทร ⟨phone⟩"),
        ("โทร ๐๘๖-๖๖๖-๑๖๙๔", "โทร ⟨phone⟩"),
        ("फ़ोन ९८७६५ ४३२१०", "फ़ोन ⟨phone⟩"),
        ("ফোন: ০১৭১২-৩৪৫৬৭৮", "ফোন: ⟨phone⟩"),
        ("فون ۰۳۰۰-۱۲۳۴۵۶۷", "فون ⟨phone⟩"),
        ("(021) 555 12 34", "⟨phone⟩"),
        ("simu 0712 345 678", "simu ⟨phone⟩"),
        ("Tili FI21 1234 5600 0007 85 on auki", "Tili ⟨iban⟩ on auki"),
        ("Hetu 131052-308T on vanha", "Hetu ⟨id⟩ on vanha"),
        ("kortti 4242 4242 4242 4242", "kortti ⟨card⟩"),
        ("TC 10000000146", "TC ⟨id⟩"),
        ("आधार २३४१ २३४१ २३४६", "आधार ⟨id⟩"),
        ("CNIC 35202-1234567-1", "CNIC ⟨id⟩"),
        ("NIK 3201011203850001", "NIK ⟨id⟩"),
        ("palvelin 8.8.8.8 vastaa", "palvelin ⟨ip⟩ vastaa"),
    ],
)
def test_personal_data_is_masked(text, expected):
    check(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        "Vuonna 1917 kylässä asui 12 345 ihmistä ja 2 000 000 lammasta.",
        "Jembatan itu menelan biaya 72.000.000.000 rupiah pada 12.05.2021.",
        "Sota kesti 1939–1945 ja 1914-1918.",
        "Reseptissä on 3 munaa, 2,5 dl maitoa ja 1/2 sipulia.",
        "Tili FI21 1234 5600 0007 86 ei kelpaa",  # wrong check digits
        "Hetu 131052-308U ei kelpaa",
        "ปี ๒๕๖๗ มีคน ๑๒,๓๔๕ คน",
        "Versio 1.2.3.4.5 julkaistiin 2024-01-31.",
        "palvelin 10.0.0.1 on sisäverkossa",
        "@mention ja a@b",
    ],
)
def test_ordinary_numbers_are_left_alone(text):
    check(text, text)


def test_what_was_masked_is_counted_by_kind():
    assert mask("a@b.example, c@d.example, +358 40 123 4567").counts == {"email": 2, "phone": 1}


def test_a_text_without_personal_data_is_the_same_text():
    found = mask("Ei mitään.")
    assert (found.text, found.counts) == ("Ei mitään.", {})
