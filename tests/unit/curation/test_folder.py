"""Releases on an object store that does not answer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from failing_store import fail_with
from xinstruct.curation import folder
from xinstruct.spine.errors import NotFound, Unavailable

PLACE = "s3://bucket/releases/one"
USES: dict[str, Callable[[], object]] = {
    "read_manifest": lambda: folder.read_manifest(PLACE),
    "read_rows": lambda: list(folder.read_rows(PLACE, "fi")),
    "remove": lambda: folder.remove(PLACE),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("error", [
    EndpointConnectionError(endpoint_url="http://store.example"), ClientError({"Error": {"Code": "SlowDown"}}, "Get"),
    TimeoutError("no answer"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_a_store_that_does_not_answer_is_unavailable(
    use: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(error, monkeypatch)
    with pytest.raises(Unavailable, match=f"cannot (read|delete) {PLACE}"):
        USES[use]()


def test_rows_of_a_release_that_is_gone_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(FileNotFoundError("no such key"), monkeypatch)
    with pytest.raises(NotFound, match="no release at"):
        USES["read_rows"]()
