"""Page tokens: what is given comes back, whatever else a caller sends is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from xinstruct.spine.errors import Invalid
from xinstruct.spine.rpc import page_token, page_values


def token(value: Any) -> str:
    """A token as a caller could forge it."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize("values", [(0,), ("",), (2**63 - 1, "kohde ÿ?>"), (-1, 17), ("పేజీ",)])
def test_what_was_given_comes_back(values: tuple[int | str, ...]) -> None:
    assert tuple(page_values(page_token(*values), *values)) == values


def test_an_empty_token_stands_for_the_first_page() -> None:
    assert tuple(page_values("", -1, "a")) == (-1, "a")


@pytest.mark.parametrize("sent", [
    "²", "7", "x", "%%%", "WzFd ", "=", "W" * 5000, "9" * 5000,
    token("7"), token({"a": 1}), token(None), token([]), token([1, 2]), token(["7"]), token([7.0]), token([True]),
    token([None]), token([2**63]), token([-(2**63)]), token([[7]]), base64.b64encode(b"[" * 100_000).decode(),
    base64.b64encode(b"[\xff]").decode(),
])  # fmt: skip
def test_a_token_of_something_else_is_refused(sent: str) -> None:
    with pytest.raises(Invalid, match=r"^page_token: "):
        page_values(sent, 0)


def test_half_a_character_is_refused() -> None:
    with pytest.raises(Invalid, match=r"^page_token: "):
        page_values(base64.b64encode(rb'["\ud83d"]').decode(), "")
