"""Garbage: bodies past their retention, and blobs that nothing refers to any more.

Planning is pure; the caller says what is referred to and how old each blob is. A blob younger than the grace time is
never an orphan: what refers to it may be on its way through the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from xinstruct.curation.config import CurationSettings
from xinstruct.curation.tables import (
    DEAD_LETTERS,
    DOCUMENTS,
    PAGES,
    RELEASES,
    TRAINED_MODELS,
    Connection,
    training_snapshots,
)
from xinstruct.spine.app import Deps
from xinstruct.spine.sql import transaction

HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class Blob:
    """A stored blob. `change_time_ms`: when it was written."""

    digest: str
    size_bytes: int
    change_time_ms: int


@dataclass(frozen=True)
class Plan:
    """What to erase. A body that is both expired and an orphan counts as expired."""

    bodies_expired: tuple[str, ...]
    blobs_orphaned: tuple[str, ...]
    bytes_erased: int


def plan(
    blobs: Iterable[Blob], *, body_fetch_time_ms: Mapping[str, int], kept: frozenset[str], now_ms: int,
    body_retention_ms: int, orphan_grace_ms: int,
) -> Plan:  # fmt: skip
    """Which of `blobs` go. `body_fetch_time_ms`: digest of a page's body → its newest fetch; `kept`: never touched.

    A body goes when its newest fetch is `body_retention_ms` old (0: never for that); a blob that is neither a body nor
    kept goes when it is `orphan_grace_ms` old.
    """
    expired, orphaned, size = [], [], 0
    for blob in sorted(blobs, key=lambda blob: blob.digest):
        fetched_ms = body_fetch_time_ms.get(blob.digest)
        if blob.digest in kept:
            continue
        if fetched_ms is not None:
            if not body_retention_ms or now_ms - fetched_ms < body_retention_ms:
                continue
            expired.append(blob.digest)
        elif now_ms - blob.change_time_ms >= orphan_grace_ms:
            orphaned.append(blob.digest)
        else:
            continue
        size += blob.size_bytes
    return Plan(tuple(expired), tuple(orphaned), size)


def plan_now(deps: Deps, settings: CurationSettings) -> Plan:
    """The plan for the blob store as it is."""
    blobs = [Blob(digest, *deps.blobs.facts(digest)) for digest in deps.blobs.digests()]
    with transaction(deps.database) as connection:
        fetched = _body_fetch_times(connection)
        kept = _kept(connection)
    return plan(
        blobs, body_fetch_time_ms=fetched, kept=kept, now_ms=deps.clock(),
        body_retention_ms=settings.body_retention_days * DAY_MS,
        orphan_grace_ms=settings.orphan_grace_hours * HOUR_MS,
    )  # fmt: skip


def execute(deps: Deps, planned: Plan) -> None:
    """Erase what was planned; what is gone already is no mistake."""
    for digest in (*planned.bodies_expired, *planned.blobs_orphaned):
        deps.blobs.delete(digest)


def _body_fetch_times(connection: Connection) -> dict[str, int]:
    """Digest of a body → when it was fetched last."""
    found: dict[str, int] = {}
    for table in (PAGES, DOCUMENTS):
        query = sa.select(table.c.body_digest, sa.func.max(table.c.fetch_time_ms)).group_by(table.c.body_digest)
        for digest, time_ms in connection.execute(query.where(table.c.body_digest != "")):
            found[digest] = max(found.get(digest, 0), int(time_ms))
    return found


def _kept(connection: Connection) -> frozenset[str]:
    """Digests that are referred to for as long as the row that names them is there."""
    columns = (DEAD_LETTERS.c.input_digest, RELEASES.c.manifest_digest, TRAINED_MODELS.c.snapshot_digest)
    found = {digest for column in columns for digest in connection.execute(sa.select(column)).scalars()}
    return frozenset(found | set(training_snapshots(connection).values())) - {""}
