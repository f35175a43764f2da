"""An object store whose client fails, under s3://, for whoever reads or writes one."""

from __future__ import annotations

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as STORES


class Store(MemoryFileSystem):
    """Its client raises `error` for whatever it is asked."""

    protocol = "s3"
    cachable = False
    error: Exception

    def fail(self, *arguments: object, **options: object) -> None:
        raise self.error

    exists = cat_file = rm_file = size = modified = glob = makedirs = pipe_file = mv = fail
    _open = get = rm = put_file = fail


def fail_with(error: Exception, monkeypatch: pytest.MonkeyPatch, **answers: object) -> None:
    """Every store under s3:// raises `error`, but for the methods in `answers`."""
    monkeypatch.setitem(STORES, "s3", type("Failing", (Store,), {"error": error, **answers}))
