"""Counts what reaches the models in process of a whole run; for the measurement of `count.py`, no test imports it.

    MODEL_CALLS=calls.txt PYTHONPATH=tests/e2e/model_calls xinstruct demo --kafka --workers 2 --kills 5 …
    python tests/e2e/model_calls/count.py calls.txt

Python runs a module of this name at the start of every process. A line is written, past every buffer, when a request
is handed to the model (`submit`) and when its answer is in the journal (`stored`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from typing import Any

LOCAL, JOURNAL = "xinstruct.inference.local", "xinstruct.spine.journal"


class Finder(MetaPathFinder):
    """Loads the two modules as they are, then wraps one method of each."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._left = {LOCAL, JOURNAL}

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """The module's own specification, with a loader that wraps."""
        if fullname not in self._left:
            return None
        self._left.discard(fullname)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            (self._wrap_submit if fullname == LOCAL else self._wrap_store)(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap_submit(self, module: Any) -> None:
        from xinstruct.spine.inference import request_digest

        submit = module.LocalInference.submit

        def counted(inference: Any, request: Any) -> Any:
            self._write("submit", type(request).__name__, request_digest(request))
            return submit(inference, request)

        module.LocalInference.submit = counted

    def _wrap_store(self, module: Any) -> None:
        store = module.Journaled._store

        def counted(journal: Any, answered: Any) -> None:
            store(journal, answered)
            for one in answered:
                self._write("stored", type(one.asked.request).__name__, one.asked.digest)

        module.Journaled._store = counted

    def _write(self, what: str, kind: str, digest: str) -> None:
        os.write(self._file, f"{os.getpid()} {what} {kind} {digest}\n".encode())


if (path := os.environ.get("MODEL_CALLS")) and "xinstruct.training.local_jobs" not in sys.orig_argv:
    sys.meta_path.insert(0, Finder(path))
