"""The data folder of a laptop: one writer at a time, and a format version that is migrated or refused."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from xinstruct.spine.errors import Conflict, Invalid, Unavailable

FORMAT_VERSION = 1
_FORMAT_FILE = "FORMAT"
_LOCK_FILE = "lock"


class Home:
    """The folder at `path`, locked for this process until close(). Not covered: network file systems without locks."""

    def __init__(self, path: Path) -> None:
        """Create or open. Conflict when another process holds it, Invalid when a newer xinstruct wrote it."""
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path / _LOCK_FILE)
            _check_format(path / _FORMAT_FILE)
        except OSError as error:
            raise Unavailable(f"cannot use {path} as the data folder: {error.strerror}") from error

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.close()


def _locked(path: Path) -> IO[str]:
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise Conflict(
            f"{path.parent} is in use by process {holder}: stop it, or talk to it (commands do so by themselves when "
            "it serves on the configured address)", pid=holder,
        ) from error
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _check_format(path: Path) -> None:
    if not path.exists():
        path.write_text(f"{FORMAT_VERSION}\n", encoding="utf-8")
        return
    found = path.read_text(encoding="utf-8").strip()
    if not found.isdigit() or int(found) > FORMAT_VERSION:
        raise Invalid(
            f"{path.parent} has format {found!r}, this version knows up to {FORMAT_VERSION}: use a newer xinstruct, or "
            "another home folder"
        )
