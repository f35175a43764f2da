"""Texts of servers without halves of surrogate pairs, which JSON can spell, and neither SQL nor a message can hold."""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_SPELLED = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that is one, alone or in a pair: many servers escape all that is not ASCII, and nearly none has these."""


def whole(text: str) -> str:
    """`text` with U+FFFD in the place of each half of a surrogate pair."""
    return _HALF.sub("\ufffd", text)


def parsed(body: bytes) -> Any:
    """What the JSON in `body` says, all of its texts whole; ValueError when it is none. Bytes that are no UTF-8 are
    U+FFFD, too.
    """
    text = body.decode("utf-8-sig", "replace")
    try:
        value = json.loads(text)
        return json.loads(whole(json.dumps(value, ensure_ascii=False))) if _SPELLED.search(text) else value
    except RecursionError as error:
        raise ValueError("brackets nested by the thousand") from error
