"""Blobs on a directory and on another fsspec file system: whole or absent, addressed by what is in them."""

from __future__ import annotations

import resource
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from failing_store import fail_with
from xinstruct.spine.blobs import Blobs, digest_of
from xinstruct.spine.errors import Invalid, NotFound, Unavailable

CONTENT = bytes(range(256)) * 40


@pytest.fixture(params=["directory", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "blobs") if request.param == "directory" else f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def blobs(root: str) -> Blobs:
    return Blobs(root)


def test_content_comes_back_under_its_digest_and_an_empty_one_too(blobs: Blobs) -> None:
    for content in (CONTENT, b""):
        digest = blobs.put(content)
        assert digest == digest_of(content)
        assert blobs.get(digest) == content
        assert blobs.has(digest)


def test_storing_the_same_content_again_keeps_one_blob(blobs: Blobs) -> None:
    assert blobs.put(CONTENT) == blobs.put(CONTENT)
    assert list(blobs.digests()) == [digest_of(CONTENT)]


def test_another_client_of_the_same_place_sees_it(blobs: Blobs, root: str) -> None:
    digest = blobs.put(CONTENT)
    assert Blobs(root).get(digest) == CONTENT


def test_a_blob_that_was_never_stored_or_is_erased_is_not_found(blobs: Blobs) -> None:
    digest = digest_of(CONTENT)
    with pytest.raises(NotFound):
        blobs.get(digest)
    assert not blobs.has(digest)
    assert not blobs.delete(digest)
    blobs.put(CONTENT)
    assert blobs.delete(digest)
    with pytest.raises(NotFound):
        blobs.get(digest)
    assert list(blobs.digests()) == []


@pytest.mark.parametrize(
    "digest", ["", "sha256:", "sha256:" + "g" * 64, "md5:" + "a" * 64, "sha256:../../../etc/passwd"]
)
def test_what_is_no_digest_is_refused_before_any_path_is_made_of_it(blobs: Blobs, digest: str) -> None:
    for use in (blobs.get, blobs.has, blobs.delete):
        with pytest.raises(Invalid):
            use(digest)


def test_writers_of_one_content_at_once_leave_one_whole_blob(blobs: Blobs) -> None:
    threads = [threading.Thread(target=blobs.put, args=(CONTENT,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(blobs.digests()) == [digest_of(CONTENT)]
    assert blobs.get(digest_of(CONTENT)) == CONTENT


def test_a_damaged_blob_is_told_and_never_returned(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    digest = blobs.put(CONTENT)
    (stored,) = (path for path in tmp_path.rglob("*") if path.is_file())
    stored.write_bytes(CONTENT[:-1])
    with pytest.raises(Invalid):
        blobs.get(digest)


@pytest.fixture
def files_of_10_kb_at_most() -> Iterator[None]:
    """As on a full disk, no file grows beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("files_of_10_kb_at_most")
def test_a_blob_that_does_not_fit_on_the_disk_is_unavailable_and_not_half_there(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    with pytest.raises(Unavailable):
        blobs.put(CONTENT * 10)
    assert list(blobs.digests()) == []
    assert blobs.get(blobs.put(b"small")) == b"small"


USES: dict[str, Callable[[Blobs], object]] = {
    "put": lambda blobs: blobs.put(CONTENT),
    "get": lambda blobs: blobs.get(digest_of(CONTENT)),
    "has": lambda blobs: blobs.has(digest_of(CONTENT)),
    "delete": lambda blobs: blobs.delete(digest_of(CONTENT)),
    "facts": lambda blobs: blobs.facts(digest_of(CONTENT)),
    "digests": lambda blobs: list(blobs.digests()),
}


def failing(error: Exception, monkeypatch: pytest.MonkeyPatch, **answers: object) -> Blobs:
    fail_with(error, monkeypatch, **answers)
    return Blobs("s3://bucket/blobs")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("error", [
    EndpointConnectionError(endpoint_url="http://store.example"), ClientError({"Error": {"Code": "SlowDown"}}, "Get"),
    aiohttp.ClientPayloadError("cut short"), TimeoutError("no answer"), PermissionError("denied"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_a_store_that_does_not_answer_is_unavailable(
    use: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = failing(error, monkeypatch)
    with pytest.raises(Unavailable, match=type(error).__name__):
        USES[use](blobs)


def test_a_place_that_is_gone_while_something_is_stored_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="cannot store"):
        failing(FileNotFoundError("no bucket"), monkeypatch, exists=lambda *_: False).put(CONTENT)


@pytest.mark.parametrize("use", USES)
def test_a_bug_is_no_store_that_does_not_answer(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = failing(RuntimeError("a bug"), monkeypatch)
    with pytest.raises(RuntimeError, match="a bug"):
        USES[use](blobs)


def test_a_client_that_another_thread_is_still_loading_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "httpx2", ModuleType("httpx2"))  # as Python holds it until its code has run
    assert Blobs(str(tmp_path)).put(b"text").startswith("sha256:")
