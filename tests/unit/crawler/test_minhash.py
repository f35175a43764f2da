"""The signature's format and what it says."""

from __future__ import annotations

import hashlib

from xinstruct.crawler.minhash import agreement_ratio, bands, signature, text_digest

TEXT = " ".join(f"sana{number} seuraa sanaa{number % 7} tekstissä" for number in range(60))


def near(one, other, *, word_separated=True):
    return agreement_ratio(
        signature(one, word_separated=word_separated), signature(other, word_separated=word_separated)
    )


def test_a_signature_is_112_integers_of_64_bits():
    assert len(signature(TEXT, word_separated=True)) == 112 * 8
    assert len(signature("", word_separated=True)) == 112 * 8


def test_the_signature_never_changes_between_versions():
    assert hashlib.sha256(signature(TEXT, word_separated=True)).hexdigest()[:16] == "34d21022392a9de6"


def test_case_punctuation_and_blanks_do_not_matter():
    assert near(TEXT, TEXT.upper().replace(" ", "  ,")) == 1.0


def test_a_small_edit_keeps_texts_near_and_another_text_is_far():
    assert near(TEXT, TEXT.replace("sana3 ", "muu3 ")) >= 0.7
    assert near(TEXT, TEXT.replace("sana", "verbi")) < 0.2


def test_unspaced_text_is_compared_by_characters():
    thai = "บ้านหลังเก่าที่สุดในหมู่บ้านสร้างด้วยไม้เด็กมักเล่นกันใต้ต้นไม้ใหญ่ในวันหยุดและผู้ใหญ่นั่งคุยกันจนเย็น" * 2
    assert near(thai, thai.replace("วันหยุด", "วันหยุดยาว", 1), word_separated=False) >= 0.7
    assert near(thai, thai[::-1], word_separated=False) < 0.2


def test_there_are_14_bands_of_8_values():
    found = bands(signature(TEXT, word_separated=True))
    assert (len(found), {len(band) for band in found}) == (14, {64})


def test_the_text_digest_is_equal_for_exact_duplicates_only():
    assert text_digest("Yksi, kaksi!") == text_digest("yksi kaksi")
    assert text_digest("yksi kaksi") != text_digest("yksi kolme")
    assert text_digest("x").startswith("sha256:")
