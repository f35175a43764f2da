"""What reaches a terminal or a program."""

from __future__ import annotations

import json
import math

import pytest

from builders import document, score
from xinstruct.cli.output import cell_text, clean, enum_word, line, print_json, short_digest, to_plain
from xinstruct.v1 import messages_pb2


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\rb\x07c\x9bd", "abcd"),
        ("one\ntwo\tthree", "one\ntwo three"),
        ("\u202egnp.exe", "gnp.exe"),
        ("ہے\u200cنہیں", "ہے\u200cنہیں"),
        ("क्\u200dष", "क्\u200dष"),
        ("lone \ud800", "lone ?"),
        ("", ""),
    ],
)
def test_nothing_printed_can_steer_a_terminal(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_json_holds_all_of_a_text_and_shows_nothing_that_steers_a_terminal_or_breaks_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "\x1b[31mہے\u200cنہیں\u202e \x9b2J\x7f\x85 a\u2028b สวัสดี"
    print_json({"text": text})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"text": text} and "ہے\u200cنہیں" in shown and "สวัสดี" in shown
    assert len(shown.splitlines()) == 1 and clean(shown) == shown


def test_a_line_is_one_line_of_at_most_its_width() -> None:
    assert line("one\ntwo  three four", 11) == "one two th…"
    assert line("short", 11) == "short"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345, "12,345"), (0.12345, "0.123"), (math.nan, ""), (True, "yes"), (False, ""), ("a\nb", "a b")],
)
def test_a_cell_reads_as_a_person_expects(value: object, shown: str) -> None:
    assert cell_text(value) == shown


def test_a_digest_is_shown_short_enough_to_type() -> None:
    assert short_digest("sha256:" + "ab" * 32) == "abababababab"
    assert short_digest("endpoint:qwen") == "endpoint:qwen"
    assert short_digest("") == ""


def test_json_holds_every_field_with_numbers_as_numbers() -> None:
    message = messages_pb2.ScoredPair.FromString(score(p_best=math.nan).encode())
    plain = to_plain(message)
    assert plain["p_best"] is None
    assert plain["p_reasonable"] == 0.1875
    assert plain["reading"] == "log_probability"
    assert plain["votes_count"] == 0
    admitted = to_plain(messages_pb2.AdmittedDocument.FromString(document(signature=b"\x01\xff").encode()))
    assert admitted["signature"] == "01ff"
    assert admitted["fetch_time_ms"] == document().fetch_time_ms


def test_an_enum_member_is_a_word() -> None:
    assert enum_word("SOURCE_KIND_URL", "SOURCE_KIND_UNSPECIFIED") == "url"
