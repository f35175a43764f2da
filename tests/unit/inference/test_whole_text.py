"""What a server may say, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from xinstruct.inference.whole_text import parsed


@pytest.mark.parametrize(("body", "value"), [
    (b'{"a": [1.5, null, "plain"]}', {"a": [1.5, None, "plain"]}),
    (rb'["\ud83d\ude00", "\ud83d", "\ude00\ud83d.", "\\ud83d"]', ["\U0001f600", "\ufffd", "\ufffd\ufffd.", r"\ud83d"]),
    (rb'{"\ud83d": {"\udc00": 0.1}}', {"\ufffd": {"\ufffd": 0.1}}),
    (b'"\xed\xa0\xbd \xff"', "\ufffd\ufffd\ufffd \ufffd"),
    (b'\xef\xbb\xbf"marked"', "marked"),
])
def test_halves_of_surrogate_pairs_are_replaced_and_all_else_is_as_it_was(body: bytes, value: Any) -> None:
    assert parsed(body) == value
    json.dumps(parsed(body), ensure_ascii=False).encode()


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": ', b"[" * 100_000])
def test_what_is_no_json_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|nested"):
        parsed(body)
