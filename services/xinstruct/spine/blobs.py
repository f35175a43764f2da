"""Content-addressed blobs on any fsspec file system: a directory, s3, gs.

A blob is visible whole or not at all: it is written beside its place and moved there. Not covered: a power loss before
the operating system wrote its cache out.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import fsspec

from xinstruct.spine.errors import Invalid, NotFound, Unavailable

_PREFIX = "sha256:"
_STORE_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError"), ("aiohttp", "ClientError"),
    ("gcsfs.retry", "HttpError"), ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"), ("httpx", "HTTPError"), ("httpx2", "HTTPError"),
)  # fmt: skip


def digest_of(content: bytes) -> str:
    """ "sha256:" + 64 hex digits."""
    return _PREFIX + hashlib.sha256(content).hexdigest()


def store_errors() -> tuple[type[Exception], ...]:
    """What clients of object stores raise that is no OSError, which fsspec lets through; of those that are loaded."""
    # A module that another thread is still loading has no such class yet, and has raised nothing either.
    found = (getattr(sys.modules.get(module), name, None) for module, name in _STORE_ERRORS)
    return tuple(error for error in found if error is not None)


class Blobs:
    """Blobs under `root` (a path or fsspec URL). Every method: Unavailable when the store does not answer."""

    def __init__(self, root: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(root)

    def put(self, content: bytes) -> str:
        """Store `content` and return its digest; storing it again is free. Unavailable when the disk is full."""
        digest = digest_of(content)
        path = self._path(digest)
        if self._ask(self._fs.exists, path):
            return digest
        # A random temporary name: two writers of one content must not share a half-written file.
        temporary = f"{path}.{uuid.uuid4().hex}.part"
        try:
            self._ask(self._fs.makedirs, os.path.dirname(path), exist_ok=True)
            self._ask(self._fs.pipe_file, temporary, content)
            self._ask(self._fs.mv, temporary, path)
        except NotFound as error:  # the folder or bucket itself is gone
            raise Unavailable(f"cannot store a blob of {len(content)} bytes: {error.message}") from error
        return digest

    def get(self, digest: str) -> bytes:
        """The content of `digest`; NotFound when it is not (or no longer) there, Invalid when it does not match."""
        content: bytes = self._ask(self._fs.cat_file, self._path(digest))
        if digest_of(content) != digest:
            raise Invalid(f"blob {digest} is damaged: its content does not match its digest")
        return content

    def has(self, digest: str) -> bool:
        """Whether `digest` is stored."""
        return bool(self._ask(self._fs.exists, self._path(digest)))

    def delete(self, digest: str) -> bool:
        """Erase; False when it was not there."""
        try:
            self._ask(self._fs.rm_file, self._path(digest))
        except NotFound:
            return False
        return True

    def facts(self, digest: str) -> tuple[int, int]:
        """(size in bytes, Unix milliseconds of the last change); NotFound when it is not there."""
        path = self._path(digest)
        size, changed = self._ask(self._fs.size, path), self._ask(self._fs.modified, path)
        return int(size), int(changed.timestamp() * 1000)

    def digests(self) -> Iterator[str]:
        """Every stored digest, in no order."""
        for path in self._ask(self._fs.glob, f"{self._root}/??/*"):
            name = os.path.basename(path)
            if len(name) == 64:
                yield _PREFIX + name

    def _ask(self, call: Callable[..., Any], path: str, *arguments: Any, **options: Any) -> Any:
        failures: tuple[type[Exception], ...] = (OSError, *store_errors())
        try:
            return call(path, *arguments, **options)
        except FileNotFoundError as error:
            raise NotFound(f"no blob at {path}") from error
        except failures as error:
            raise Unavailable(f"{self._root} cannot be read or written now: {type(error).__name__}: {error}") from error

    def _path(self, digest: str) -> str:
        name = digest.removeprefix(_PREFIX)
        if not digest.startswith(_PREFIX) or len(name) != 64 or any(c not in "0123456789abcdef" for c in name):
            raise Invalid(f"not a blob digest: {digest[:80]!r}")
        return f"{self._root}/{name[:2]}/{name}"
