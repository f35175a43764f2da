"""Bytes become text without mojibake."""

from __future__ import annotations

import pytest

from xinstruct.crawler.charset import decode

THAI = "ปฏิญญาสากลว่าด้วยสิทธิมนุษยชน การยอมรับศักดิ์ศรีแต่กำเนิด และสิทธิที่เท่าเทียมกัน " * 4
TURKISH = "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler. " * 4
URDU = "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔ " * 4


def check(body, text, content_type=""):
    assert decode(body, content_type).text == text


def test_utf8_without_any_declaration_is_utf8():
    check(URDU.encode(), URDU)


def test_utf8_is_believed_against_a_wrong_header():
    check(URDU.encode(), URDU, "text/html; charset=iso-8859-1")


def test_utf8_is_believed_against_a_wrong_meta():
    body = f'<meta charset="windows-1252">{THAI}'
    check(body.encode(), body)


def test_a_declared_legacy_encoding_is_read():
    check(TURKISH.encode("cp1254"), TURKISH, "text/html; charset=windows-1254")
    check(TURKISH.encode("cp1254"), TURKISH, "text/html; charset=iso-8859-9")
    body = f'<meta http-equiv="content-type" content="text/html; charset=tis-620">{THAI}'
    check(body.encode("cp874"), body)


def test_a_legacy_encoding_that_nobody_declares_is_detected():
    body = f"<html><body><p>{THAI}</p></body></html>"
    check(body.encode("cp874"), body)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_decides(encoding):
    check(URDU.encode(encoding), URDU, "text/html; charset=iso-8859-1")


def test_an_unknown_charset_name_is_ignored():
    check(URDU.encode(), URDU, "text/html; charset=klingon")


def test_a_few_broken_bytes_do_not_turn_utf8_into_something_else():
    found = decode(URDU.encode()[:-1] + b"\xff" + URDU.encode())
    assert found.encoding == "utf-8"
    assert found.text.count("\ufffd") <= 3


def test_random_bytes_never_fail():
    assert isinstance(decode(bytes(range(256)) * 20).text, str)
    assert decode(b"").text == ""


@pytest.mark.parametrize("name", ["rot13", "hex", "zlib", "utf-7", "idna", "unicode_escape", "undefined", "base64"])
def test_an_encoding_that_is_none_of_the_webs_is_ignored(name):
    check(TURKISH.encode("cp1254"), decode(TURKISH.encode("cp1254")).text, f"text/html; charset={name}")
