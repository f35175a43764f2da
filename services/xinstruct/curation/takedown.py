"""The part of a takedown that lies outside the catalog's rows: log, blobs, journal, releases, snapshots, reports.

The rows went, and the tombstones were queued, in the transaction that read the request (erasure.py). This goes on when
the log holds those tombstones. Every step can be repeated: a kill anywhere starts it again. Not covered: Kafka erases
by its own compaction, within max.compaction.lag.ms; backups; what was downloaded before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xinstruct.curation import folder
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.domain import ReleaseOutcome
from xinstruct.curation.erasure import bury
from xinstruct.curation.leftovers import remove_naming
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    PAGES,
    PROJECTION_OFFSETS,
    RELEASE_ROWS,
    RELEASES,
    TAKEDOWN_SUBJECTS,
    TAKEDOWNS,
    TRAINED_MODELS,
    Connection,
    canonical_json,
    training_snapshots,
)
from xinstruct.spine import journal, topics
from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import NotFound
from xinstruct.spine.sql import chunks, scrub, transaction

TOPICS = (
    topics.DOCUMENT_ADMITTED, topics.PAIR_DRAFTED, topics.PAIR_SCORED, topics.PAIR_REVIEWED, topics.RECORD_DROPPED,
    topics.RELEASE_PUBLISHED, topics.PAGE_FETCHED, *topics.DEAD_LETTERS.values(),
)  # fmt: skip
"""Whatever may hold a tombstoned value; topics that age out lose it at the end of their retention."""

_TOKEN = re.compile(rb"https?://[^\s\"<>\\]{1,2100}|[A-Za-z0-9_-]{8,100}")
"""An id, or a URL: of urls.URL_CHARS_MAX characters and the number of a row at most."""
_ENTITIES = ((b"&#39;", b"'"), (b"&#x27;", b"'"), (b"&amp;", b"&"))


@dataclass(frozen=True)
class Affected:
    """What a takedown's text is still in, by name."""

    releases: tuple[str, ...]
    snapshots: tuple[str, ...]
    reports: tuple[str, ...]


@dataclass(frozen=True)
class Takedowns:
    """Takedowns of one catalog."""

    deps: Deps
    settings: CurationSettings

    def step(self) -> bool:
        """Finish the oldest takedown at work; False when there is none.

        Call it only when the projection has appended its tombstones.
        """
        takedown = self._next()
        if takedown is None:
            return False
        subjects = self._subjects(takedown["request_id"])
        for topic in TOPICS:
            self.deps.log.compact(topic, self.deps.clock())
        blobs_erased = self._erase_blobs(subjects.get("blob", set()), subjects.get("owner", set()))
        ids = subjects.get("document", set()) | subjects.get("pair", set())
        with transaction(self.deps.database) as connection:
            journal.erase(connection, sorted(ids))
        remove_naming(self.deps, self.settings, ids)
        affected = self._affected(subjects)
        if takedown["purge"]:
            self._purge(affected)
        if self._note(takedown, affected, blobs_erased):
            scrub(self.deps.database)
            self._close(takedown)
        return True

    def pending(self) -> bool:
        """Whether a takedown is at work."""
        return self._next() is not None

    def _next(self) -> dict[str, Any] | None:
        order = (TAKEDOWNS.c.request_time_ms, TAKEDOWNS.c.request_id)
        query = TAKEDOWNS.select().where(TAKEDOWNS.c.state == "suppressed").order_by(*order).limit(1)
        with transaction(self.deps.database) as connection:
            row = connection.execute(query).mappings().first()
        return dict(row) if row else None

    def _subjects(self, request_id: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        with transaction(self.deps.database) as connection:
            where = TAKEDOWN_SUBJECTS.c.request_id == request_id
            for row in connection.execute(TAKEDOWN_SUBJECTS.select().where(where)):
                found.setdefault(row.kind, set()).add(row.subject)
        return found

    def _erase_blobs(self, digests: Collection[str], owners: Collection[str]) -> int:
        """Delete the blobs that no page but `owners`, no document and no dead letter refers to; how many."""
        with transaction(self.deps.database) as connection:
            shared = _other_references(connection, digests, owners)
        return sum(self.deps.blobs.delete(digest) for digest in sorted(set(digests) - shared))

    def _affected(self, subjects: dict[str, set[str]]) -> Affected:
        ids = subjects.get("document", set()) | subjects.get("pair", set())
        with transaction(self.deps.database) as connection:
            releases = _releases_with(connection, ids)
            trained = connection.execute(TRAINED_MODELS.select().order_by(TRAINED_MODELS.c.job_name)).all()
            at_work = set(training_snapshots(connection).values())
        digests = sorted(({row.snapshot_digest for row in trained} | at_work) - {""})
        snapshots = [digest for digest in digests if _blob_names(self.deps.blobs, digest, ids)]
        named = ids | subjects.get("page", set()) | subjects.get("url", set())
        reports = _files_that_name(self._reports_folder(), named)
        return Affected(tuple(releases), tuple(snapshots), tuple(reports))

    def _purge(self, affected: Affected) -> None:
        for name in affected.releases:
            with transaction(self.deps.database) as connection:
                row = connection.execute(RELEASES.select().where(RELEASES.c.name == name)).first()
            if row is not None:
                folder.remove(row.location)
                self.deps.blobs.delete(row.manifest_digest)
        with transaction(self.deps.database) as connection:
            where = TRAINED_MODELS.c.snapshot_digest.in_(affected.snapshots)
            jobs = {row.job_name for row in connection.execute(TRAINED_MODELS.select().where(where))}
            jobs |= {job for job, digest in training_snapshots(connection).items() if digest in affected.snapshots}
        for digest in affected.snapshots:
            self.deps.blobs.delete(digest)
        for job_name in sorted(jobs):  # the job's own copy of its snapshot
            (self.deps.home / "jobs" / job_name / "snapshot.jsonl").unlink(missing_ok=True)
        for name in affected.reports:
            (self._reports_folder() / name).unlink(missing_ok=True)
        with transaction(self.deps.database) as connection:
            bury(connection, topics.RELEASE_PUBLISHED, affected.releases)
            for part in chunks(affected.releases):
                connection.execute(RELEASES.delete().where(RELEASES.c.name.in_(part)))
                connection.execute(RELEASE_ROWS.delete().where(RELEASE_ROWS.c.name.in_(part)))

    def _note(self, takedown: dict[str, Any], affected: Affected, blobs_erased: int) -> bool:
        """Keep what was found and forget what is erased; False when something of it arrived meanwhile: it goes on."""
        found = {
            "releases_affected": affected.releases, "snapshots_affected": affected.snapshots,
            "reports_affected": affected.reports,
        }  # fmt: skip
        merged = {name: _merged(takedown[name], names) for name, names in found.items()}
        with transaction(self.deps.database) as connection:
            models = _trained_on(connection, json.loads(merged["snapshots_affected"]))
            merged["models_affected"] = _merged(takedown["models_affected"], models)
            if not _changed(
                connection, takedown, takedown["change_number"], blobs_erased=TAKEDOWNS.c.blobs_erased + blobs_erased,
                change_time_ms=self.deps.clock(), **merged,
            ):
                return False
            where = TAKEDOWN_SUBJECTS.c.request_id == takedown["request_id"]
            connection.execute(TAKEDOWN_SUBJECTS.delete().where(where))
        return True

    def _close(self, takedown: dict[str, Any]) -> None:
        """Say that it is erased: only after the database was rewritten, which a kill in between would do again."""
        with transaction(self.deps.database) as connection:
            number = takedown["change_number"] + 1
            _changed(connection, takedown, number, state="erased", change_time_ms=self.deps.clock())

    def _reports_folder(self) -> Path:
        return Path(self.settings.reports_location or self.deps.home / "reports")


def _changed(connection: Connection, takedown: dict[str, Any], number: int, **values: Any) -> bool:
    """Change the takedown's row if its change number still is `number`; returns whether it was."""
    where = (TAKEDOWNS.c.request_id == takedown["request_id"], TAKEDOWNS.c.change_number == number)
    query = TAKEDOWNS.update().where(*where).values(change_number=number + 1, **values)
    return bool(connection.execute(query).rowcount)


def _merged(before: str, names: Iterable[str]) -> str:
    """Earlier names stay: a takedown that works again for a late row must not forget what it had found."""
    return canonical_json(sorted({*json.loads(before), *names}))


def _other_references(connection: Connection, digests: Collection[str], owners: Collection[str]) -> set[str]:
    found: set[str] = set()
    for part in chunks(digests):
        pages = connection.execute(PAGES.select().where(PAGES.c.body_digest.in_(part))).all()
        found |= {row.body_digest for row in pages if row.page_id not in owners}
        documents = connection.execute(DOCUMENTS.select().where(DOCUMENTS.c.body_digest.in_(part))).all()
        found |= {row.body_digest for row in documents if row.page_id not in owners}
        letters = connection.execute(DEAD_LETTERS.select().where(DEAD_LETTERS.c.input_digest.in_(part))).all()
        found |= {row.input_digest for row in letters}
    return found


def _releases_with(connection: Connection, ids: Collection[str]) -> list[str]:
    """Releases that published one of the documents or pairs."""
    found: set[str] = set()
    for part in chunks(ids):
        for column in (RELEASE_ROWS.c.pair_id, RELEASE_ROWS.c.document_id):
            where = (column.in_(part), RELEASE_ROWS.c.outcome == ReleaseOutcome.PUBLISHED.value)
            found |= {row.name for row in connection.execute(RELEASE_ROWS.select().where(*where))}
    return sorted(found)


def _trained_on(connection: Connection, snapshots: Collection[str]) -> set[str]:
    """Digests of the models that learned from the snapshots; those of jobs at work are named when they are projected.

    The lock keeps the projection from adding one that is missed here while it misses what is noted here.
    """
    offsets = PROJECTION_OFFSETS.select().where(PROJECTION_OFFSETS.c.topic == topics.MODEL_TRAINED.name)
    connection.execute(offsets.with_for_update()).all()
    found: set[str] = set()
    for part in chunks(snapshots):
        where = TRAINED_MODELS.c.snapshot_digest.in_(part)
        found |= {row.model_digest for row in connection.execute(TRAINED_MODELS.select().where(where))}
    return found - {""}


def _blob_names(blobs: Blobs, digest: str, subjects: Collection[str]) -> bool:
    try:
        return names_any(blobs.get(digest), subjects)
    except NotFound:
        return False


def _files_that_name(root: Path, subjects: Collection[str]) -> list[str]:
    """Paths of the reports under `root`, relative to it, that name one of `subjects`."""
    if not root.is_dir():
        return []
    files: Sequence[Path] = sorted(path for path in root.rglob("report.*") if path.is_file())
    return [path.relative_to(root).as_posix() for path in files if names_any(path.read_bytes(), subjects)]


def names_any(content: bytes, subjects: Collection[str]) -> bool:
    """Whether an id or URL among `subjects` stands in `content` as a word of its own."""
    wanted = {subject.encode() for subject in subjects}
    for written, meant in _ENTITIES:
        content = content.replace(written, meant)
    return any(not wanted.isdisjoint(_readings(token.group())) for token in _TOKEN.finditer(content))


def _readings(token: bytes) -> Iterator[bytes]:
    """What the word may be: an apostrophe stands inside a URL, or behind it as the quote that began before it."""
    yield token
    while b"'" in token:
        token = token.rpartition(b"'")[0]
        yield token
