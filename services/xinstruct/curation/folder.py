"""Release folders: written beside their place and moved there whole, read back, compared.

A local folder appears by one rename, so nothing half-published is ever seen. On an object store there is no rename:
the files go first and manifest.json last; a folder without a manifest is no release. Not covered: a power loss before
the operating system wrote its cache out.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec
from pyarrow.lib import ArrowInvalid

from xinstruct.curation import card, manifest, parquet
from xinstruct.spine.blobs import digest_of, store_errors
from xinstruct.spine.errors import Conflict, Invalid, NotFound, Unavailable

_PART_SUFFIX = ".part"


def write(
    location: str, description: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping[str, Any]]], *,
    check: Callable[[bytes], None] = lambda content: None,
) -> bytes:
    """Write the release that `description` (manifest.describe) and `rows` (language → rows) make; the manifest's bytes.

    `check` sees the manifest before anything is published and may raise. Conflict when `location` is there already,
    Unavailable when the disk is full or cannot be written: nothing is left behind then.
    """
    with _staging(location) as staging:
        for language in sorted(rows):
            path = staging / data_path(language)
            path.parent.mkdir(parents=True)
            parquet.write_rows(path, rows[language])
        (staging / manifest.CARD_NAME).write_text(card.render(description), encoding="utf-8")
        content = manifest.dumps({**description, "files": _files(staging)})
        check(content)
        (staging / manifest.FILE_NAME).write_bytes(content)
        _publish(staging, location)
    return content


def data_path(language: str) -> str:
    """Where the rows of a language stand within a release."""
    return f"data/{language}/train-00000-of-00001.parquet"


def read_manifest(location: str) -> tuple[bytes, dict[str, Any]]:
    """The manifest's bytes and content. NotFound when there is no release, Invalid when it is damaged."""
    try:
        fs, path = fsspec.core.url_to_fs(location)
        content: bytes = fs.cat_file(f"{path}/{manifest.FILE_NAME}")
    except FileNotFoundError as error:
        raise NotFound(f"no release at {location}: manifest.json is not there") from error
    except _failures() as error:
        raise Unavailable(f"cannot read {location}: {error}") from error
    return content, manifest.loads(content, name=location)


def read_rows(location: str, language: str) -> Iterator[dict[str, Any]]:
    """Rows of one language in the order of their ids. NotFound when the release has none of it."""
    with local_copy(location) as folder:
        path = folder / data_path(language)
        if not path.exists():
            raise NotFound(f"{location} has no rows in {language!r}")
        yield from parquet.read_rows(path)


def read_all(location: str) -> Iterator[dict[str, Any]]:
    """Rows of every language. NotFound when there is no release, Invalid when it is damaged."""
    _, described = read_manifest(location)
    for language in described["languages"]:
        yield from read_rows(location, language)


def problems(location: str, manifest_digest: str) -> tuple[list[str], int]:
    """What differs from the release as it was published, a sentence each, and how many files were read."""
    content, described = read_manifest(location)
    found: list[str] = []
    if digest_of(content) != manifest_digest:
        found.append(f"{manifest.FILE_NAME} is not the one that was published ({manifest_digest})")
    with local_copy(location) as folder:
        present = _files(folder, skip=(manifest.FILE_NAME,))
        for name, facts in sorted(described["files"].items()):
            if name not in present:
                found.append(f"{name} is missing")
            elif present[name] != facts:
                found.append(f"{name} has other content than was published")
        strange = sorted(present.keys() - described["files"].keys())
        found += [f"{name} does not belong to the release" for name in strange]
        found += _row_problems(folder, described)
    return found, len(present) + 1


def remove(location: str) -> bool:
    """Delete a release's files; False when there are none."""
    fs, path = fsspec.core.url_to_fs(location)
    try:
        fs.rm(path, recursive=True)
    except FileNotFoundError:
        return False
    except _failures() as error:
        raise Unavailable(f"cannot delete {location}: {error}") from error
    return True


def remove_abandoned(location: str) -> None:
    """Delete what killed writers of `location` left beside it; "*" as its name stands for every one."""
    parent, name = _staging_place(location)
    for path in sorted(parent.glob(f".{name}.[0-9]*{_PART_SUFFIX}")):
        with suppress(OSError), _opened(path) as handle:  # locked: its writer lives; not there: it has just ended
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def local_copy(location: str) -> Iterator[Path]:
    """The release as a local folder: itself, or a copy of a remote one that is gone afterwards."""
    if is_local(location):
        yield Path(location.removeprefix("file://"))
        return
    fs, path = fsspec.core.url_to_fs(location)
    with tempfile.TemporaryDirectory(prefix="xinstruct-release-") as temporary:
        try:
            fs.get(f"{path}/", temporary, recursive=True)
        except FileNotFoundError as error:
            raise NotFound(f"no release at {location}") from error
        except _failures() as error:
            raise Unavailable(f"cannot read {location}: {error}") from error
        yield Path(temporary)


def is_local(location: str) -> bool:
    """Whether `location` is a path and no URL of another file system."""
    return "://" not in location or location.startswith("file://")


def _failures() -> tuple[type[Exception], ...]:
    return (OSError, *store_errors())


@contextmanager
def _staging(location: str) -> Iterator[Path]:
    """An empty folder to write to, beside a local location; gone at the end, whatever happens. Locked till then."""
    parent, name = _staging_place(location)
    staging = parent / f".{name}.{os.getpid()}{_PART_SUFFIX}"
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        with _opened(staging) as handle:
            with suppress(OSError):  # a network file system without locks
                fcntl.flock(handle, fcntl.LOCK_SH)
            yield staging
    except _failures() as error:
        reason = getattr(error, "strerror", None) or error
        raise Unavailable(f"cannot write the release at {location}: {reason}; nothing was published") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging_place(location: str) -> tuple[Path, str]:
    """The folder to write in, and what names start with there."""
    if is_local(location):
        target = Path(location.removeprefix("file://"))
        return target.parent, target.name
    return Path(tempfile.gettempdir()), "release"


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _publish(staging: Path, location: str) -> None:
    if is_local(location):
        target = Path(location.removeprefix("file://"))
        if target.exists():
            raise Conflict(f"{target} is there already")
        staging.rename(target)
        return
    fs, path = fsspec.core.url_to_fs(location)
    if fs.exists(f"{path}/{manifest.FILE_NAME}"):
        raise Conflict(f"{location} is there already")
    for file in sorted(item for item in staging.rglob("*") if item.is_file() and item.name != manifest.FILE_NAME):
        fs.put_file(str(file), f"{path}/{file.relative_to(staging).as_posix()}")
    fs.put_file(str(staging / manifest.FILE_NAME), f"{path}/{manifest.FILE_NAME}")


def _files(folder: Path, skip: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Path within `folder` → digest and size of every file."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in skip:
            content = path.read_bytes()
            found[name] = {"digest": digest_of(content), "bytes": len(content)}
    return found


def _row_problems(folder: Path, described: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for language, facts in sorted(described["languages"].items()):
        path = folder / data_path(language)
        if not path.exists():
            continue
        try:
            ids = [row["id"] for row in parquet.read_rows(path)]
        except (ArrowInvalid, OSError, Invalid) as error:
            found.append(f"{data_path(language)} cannot be read: {error}")
            continue
        if len(ids) != facts["rows"] or ids != sorted(set(ids)):
            found.append(f"{data_path(language)} holds {len(ids)} rows, not {facts['rows']} sorted by their ids")
    return found
