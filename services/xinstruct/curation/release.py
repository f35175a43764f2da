"""Publishes what the catalog keeps as an immutable dataset, and writes a published one again, byte for byte.

    catch up ─▶ snapshot ─▶ select ─▶ duplicates ─▶ diversify ─▶ files ─▶ SQL ─▶ log
    (projection)  (one SQL      (pure)                (encoder)      (rename)
                  transaction)
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from threading import Lock
from typing import Any

import numpy as np

from xinstruct.curation import catalog, folder, leftovers, manifest, parquet, review
from xinstruct.curation.catalog import Snapshot
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.diversify import diversify
from xinstruct.curation.domain import Candidate, Decision, ReleaseOutcome, select
from xinstruct.curation.duplicates import clusters
from xinstruct.curation.projection import CatalogProjection
from xinstruct.curation.tables import RELEASE_REQUESTS, RELEASE_ROWS, RELEASES, payload_of, row_of
from xinstruct.inference.ngram import NgramInference
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import digest_of
from xinstruct.spine.errors import Conflict, Invalid, NotFound, Unavailable, require
from xinstruct.spine.inference import Answer, Embed, Embedded
from xinstruct.spine.messages import ReleasePublished
from xinstruct.spine.sql import chunks, transaction, upsert
from xinstruct.spine.topics import RELEASE_PUBLISHED

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
REQUEST_ID_CHARS_MAX = 100
EMBEDDINGS_IN_FLIGHT_MAX = 256
EMBEDDING_WAIT_S_MAX = 120.0
LOST_ROWS_NAMED_MAX = 5
NOTHING_KEPT = (
    "nothing to publish: the promoted evaluator keeps no pair; `xinstruct status` shows how many it has labelled and"
    " what waits, `xinstruct dlq list` what it could not label"
)
ROWS_GONE = "rows were superseded or taken down while the release was made; try again"

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Releases:
    """Releases of one catalog."""

    deps: Deps
    settings: CurationSettings
    projection: CatalogProjection
    unreadable: set[str] = field(default_factory=set)
    """Releases whose files were looked for in vain by this process."""
    writing: Lock = field(default_factory=Lock)
    """One publication at a time: a caller that gave up and asks again must not write into the first one's folder."""

    def publish(self, request_id: str, name: str = "") -> ReleasePublished:
        """Publish what the catalog keeps now; the same `request_id` again returns the same release.

        `name` empty: the date (UTC) and a counter. Conflict: no evaluator promoted or not through with its pairs, the
        name taken, nothing to publish. Unavailable: the catalog or the encoder lags, the disk is full; nothing is
        published then.
        """
        require(0 < len(request_id) <= REQUEST_ID_CHARS_MAX, f"request_id: 1–{REQUEST_ID_CHARS_MAX} characters")
        with self.writing:
            return self._publish(request_id, name)

    def _publish(self, request_id: str, name: str) -> ReleasePublished:
        require(not name or NAME_PATTERN.fullmatch(name) is not None, f"name {name[:100]!r}: letters, digits and . _ -")
        done = self._by_request(request_id)
        if done is not None:
            return done
        self.projection.catch_up(within_s=self.settings.catch_up_s_max)
        evaluator = self._ready_evaluator()
        snapshot = catalog.read_snapshot(
            self.deps.database, evaluator_digest=evaluator, generators=self._generators()
        )
        encoder_model = self._encoder_model()
        decisions = self._decide(snapshot, encoder_model)
        rows = self._rows(decisions, evaluator)
        name, publish_time_ms = self._reserve(request_id, name)
        location = self.location(name)
        described = self._describe(
            snapshot, decisions, rows, name=name, request_id=request_id, publish_time_ms=publish_time_ms,
            encoder_model=encoder_model,
        )  # fmt: skip
        leftovers.remove_left(location, request_id)
        content = folder.write(location, described, rows)
        published = ReleasePublished(
            name, digest_of(content), location, described["pairs_count"], snapshot.generator_digest, evaluator,
            publish_time_ms, request_id,
        )  # fmt: skip
        if not self._record(published, content, decisions):
            folder.remove(location)
            raise Unavailable(ROWS_GONE, 1.0)
        return published

    def get(self, name: str) -> ReleasePublished:
        """The release of that name; NotFound when there is none."""
        with transaction(self.deps.database) as connection:
            row = connection.execute(RELEASES.select().where(RELEASES.c.name == name)).mappings().first()
        if row is None:
            raise NotFound(f"no release {name!r}; `xinstruct release list` shows what there is")
        return payload_of(ReleasePublished, dict(row))

    def rows_gone(self) -> dict[str, int]:
        """Release → its rows that an edit superseded or a takedown erased since; without those that have none."""
        return catalog.rows_gone(self.deps.database)

    def reasons(self, name: str, pair_ids: Collection[str]) -> dict[str, int]:
        """What the release decided about the pairs → how many; "absent": nothing."""
        found: Counter[str] = Counter()
        with transaction(self.deps.database) as connection:
            for part in chunks(pair_ids):
                where = (RELEASE_ROWS.c.name == name, RELEASE_ROWS.c.pair_id.in_(part))
                found.update(row.outcome for row in connection.execute(RELEASE_ROWS.select().where(*where)))
        absent = len(pair_ids) - found.total()
        return dict(found) | ({"absent": absent} if absent else {})

    def newest_first(self) -> list[ReleasePublished]:
        """Every release."""
        order = (RELEASES.c.publish_time_ms.desc(), RELEASES.c.name.desc())
        with transaction(self.deps.database) as connection:
            rows = connection.execute(RELEASES.select().order_by(*order)).mappings().all()
        return [payload_of(ReleasePublished, dict(row)) for row in rows]

    def rebuild(self, name: str, location: str = "") -> ReleasePublished:
        """Write the release's files again, to `location` or to its own place, from catalog and manifest.

        Every file has the digest that was published, or nothing is written: Conflict when rows are gone (superseded or
        taken down), when other versions of the libraries write other bytes, or when something is in the place.
        """
        published = self.get(name)
        described = manifest.loads(self.deps.blobs.get(published.manifest_digest), name=name)
        members = self._members(name)
        found = catalog.rows_by_pair(self.deps.database, members, evaluator_digest=published.evaluator_digest)
        lost = sorted(members.keys() - found.keys())
        if lost or not members:
            examples = ", ".join(lost[:LOST_ROWS_NAMED_MAX])
            raise Conflict(f"the catalog no longer holds {len(lost)} of {len(members)} rows of {name}: {examples}")
        rows = _dataset_rows(found, members, published.evaluator_digest)
        files = described.pop("files")

        def check(content: bytes) -> None:
            if digest_of(content) != published.manifest_digest:
                written = json.loads(content)["files"]
                other = sorted(path for path in written | files if written.get(path) != files.get(path))
                raise Conflict(f"{', '.join(other)} would differ: it was made with {described['code']}")

        folder.write(location or published.location, described, rows, check=check)
        return published if not location else ReleasePublished(**{**vars(published), "location": location})

    def announce(self) -> bool:
        """Append to the log the releases that are not in it yet; True when there were any.

        For the loop, when the projection has read all that the log holds: what SQL alone knows was never appended.
        """
        new = [release.record(RELEASE_PUBLISHED.name) for release in self._unannounced()]
        if new:
            self.deps.log.append(new)
        return bool(new)

    def pending(self) -> bool:
        """Whether a release is not in the log yet, or its rows not in SQL."""
        return bool(self._unannounced() or self._bare())

    def index(self) -> bool:
        """Read the rows of one release that SQL knows only from the log (a catalog that was read anew); True if so."""
        for release in self._bare():
            if self._index(release.name, release.location):
                return True
            self.unreadable.add(release.name)
        return False

    def location(self, name: str) -> str:
        """Where the release of that name stands: absolute, or a URL."""
        return leftovers.release_location(self.deps, self.settings, name)

    def remove_leftovers(self) -> None:
        """Delete files of releases that never were. Waits for a publication of this process."""
        with self.writing:
            leftovers.remove_leftovers(self.deps, self.settings)

    # ── steps of a publication ──────────────────────────────────────────────────────────────────────────────────────

    def _by_request(self, request_id: str) -> ReleasePublished | None:
        with transaction(self.deps.database) as connection:
            row = connection.execute(RELEASES.select().where(RELEASES.c.request_id == request_id)).mappings().first()
        return payload_of(ReleasePublished, dict(row)) if row else None

    def _ready_evaluator(self) -> str:
        """Digest of the promoted evaluator. Conflict while pairs are missing that its slot had to label."""
        model = registry.promoted(self.deps.database, "evaluator")
        if model is None:
            raise Conflict("no evaluator is promoted: nothing can be kept; `xinstruct models list` shows what there is")
        for digest, target in registry.slots(self.deps.database).values():
            if digest != model.model_digest:
                continue
            offsets = {int(partition): int(offset) for partition, offset in json.loads(target).items()}
            missing = catalog.unscored_count(self.deps.database, evaluator_digest=digest, target_offsets=offsets)
            if missing:
                raise Conflict(f"the promoted evaluator has not caught up: {missing} pairs wait for their labels")
        return model.model_digest

    def _generators(self) -> list[str]:
        """Digests of the generators, the promoted one first, then the newest."""
        promoted = registry.promoted(self.deps.database, "generator")
        models = registry.models(self.deps.database, "generator")
        return [model.model_digest for model in ([promoted] if promoted else []) + models]

    def _encoder_model(self) -> str:
        encoder = self.deps.inference["encoder"]
        if isinstance(encoder, NgramInference):  # it embeds, whichever model a request names
            return encoder.probe().model
        if self.settings.encoder_model:
            return self.settings.encoder_model
        model = registry.promoted(self.deps.database, "encoder")
        return model.model_digest if model else encoder.probe().model

    def _decide(self, snapshot: Snapshot, encoder_model: str) -> list[Decision]:
        """What becomes of every labelled pair, in the order of the ids."""
        duplicates = clusters(
            snapshot.document_ids, snapshot.signatures, snapshot.text_digests, equal_ratio=self.settings.duplicate_ratio
        )
        thresholds = {row.language: self.settings.threshold(row.language) for row in snapshot.candidates}
        labels = snapshot.labels if self.settings.reviewed_worst == "drop" else {}
        kept, decisions = select(snapshot.candidates, duplicates, thresholds=thresholds, labels=labels)
        for _, group in groupby(sorted(kept, key=lambda row: (row.language, row.pair_id)), lambda row: row.language):
            rows = list(group)
            vectors = self._embed(rows, encoder_model)
            decisions += diversify(rows, vectors, self.settings.diversify)
        return sorted(decisions, key=lambda decision: decision.pair_id)

    def _embed(self, rows: Sequence[Candidate], model: str) -> Any:
        """A unit vector of each row's instruction, in their order."""
        encoder = self.deps.inference["encoder"]
        vectors: list[tuple[float, ...]] = []
        for start in range(0, len(rows), EMBEDDINGS_IN_FLIGHT_MAX):
            part = rows[start : start + EMBEDDINGS_IN_FLIGHT_MAX]
            asked = [encoder.submit(Embed("encoder", model, row.instruction, subject=row.document_id)) for row in part]
            vectors += [_vector(future) for future in asked]
        return np.array(vectors, dtype=np.float64)

    def _rows(self, decisions: Sequence[Decision], evaluator_digest: str) -> Rows:
        """Language → rows to publish. Conflict when there are none; Unavailable when one went meanwhile."""
        members = {d.pair_id: d.cluster for d in decisions if d.outcome is ReleaseOutcome.PUBLISHED}
        if not members:
            raise Conflict(NOTHING_KEPT)
        found = catalog.rows_by_pair(self.deps.database, members, evaluator_digest=evaluator_digest)
        if len(found) < len(members):
            raise Unavailable(ROWS_GONE, 1.0)
        return _dataset_rows(found, members, evaluator_digest)

    def _reserve(self, request_id: str, name: str) -> tuple[str, int]:
        """Name and time of the request, the same whenever it is repeated."""
        table = RELEASE_REQUESTS
        now_ms = self.deps.clock()
        with transaction(self.deps.database) as connection:
            known = connection.execute(table.select().where(table.c.request_id == request_id)).first()
            if known is not None:
                return str(known.name), int(known.publish_time_ms)
            taken = {row.name for row in connection.execute(table.select())}
            taken |= {row.name for row in connection.execute(RELEASES.select())}
            if name in taken:
                raise Conflict(f"there is a release {name!r} already")
            name = name or _next_name(now_ms, taken)
            connection.execute(table.insert().values(request_id=request_id, name=name, publish_time_ms=now_ms))
        return name, now_ms

    def _describe(
        self, snapshot: Snapshot, decisions: Sequence[Decision], rows: Rows, *, name: str, request_id: str,
        publish_time_ms: int, encoder_model: str,
    ) -> dict[str, Any]:  # fmt: skip
        # What reviewers had left out counts as well: readers would seem to agree more than they do.
        told = (ReleaseOutcome.PUBLISHED, ReleaseOutcome.REVIEWED_WORST)
        language_of = {d.pair_id: d.language for d in decisions if d.outcome in told}
        reviews = review.summary(catalog.reviews_of(self.deps.database, language_of), language_of)
        wanted = {"evaluator": snapshot.evaluator_digest, "generator": snapshot.generator_digest}
        models = [m for m in registry.models(self.deps.database) if wanted.get(m.role) == m.model_digest]
        return manifest.describe(
            snapshot, decisions, rows, name=name, request_id=request_id, publish_time_ms=publish_time_ms,
            settings=self.settings, encoder_model=encoder_model, reviews=reviews,
            models=sorted(models, key=lambda m: (m.role, m.model_digest)),
        )  # fmt: skip

    def _record(self, published: ReleasePublished, content: bytes, decisions: Sequence[Decision]) -> bool:
        """Make the release known: its manifest as a blob (for rebuild), then its rows and itself in SQL.

        False when a row is gone from the catalog meanwhile: nothing is recorded then. A takedown that comes later
        finds the release by its rows; one that came before was too early to find it.
        """
        self.deps.blobs.put(content)
        unread = row_of(published, published.record(RELEASE_PUBLISHED.name))
        rows = [
            {"name": published.name, "pair_id": d.pair_id, "document_id": d.document_id, "language": d.language,
             "outcome": d.outcome.value, "cluster": d.cluster, "detail": d.detail} for d in decisions
        ]  # fmt: skip
        members = [d.pair_id for d in decisions if d.outcome is ReleaseOutcome.PUBLISHED]
        with transaction(self.deps.database) as connection:
            if catalog.hold_pairs(connection, members) < len(members):
                return False
            upsert(connection, RELEASES, [unread], key=("name",), only_if_newer="log_offset")
            connection.execute(RELEASE_ROWS.delete().where(RELEASE_ROWS.c.name == published.name))
            upsert(connection, RELEASE_ROWS, rows, key=("name", "pair_id"))
        return True

    def _unannounced(self) -> list[ReleasePublished]:
        with transaction(self.deps.database) as connection:
            rows = connection.execute(RELEASES.select().where(RELEASES.c.log_offset < 0)).mappings().all()
        return [payload_of(ReleasePublished, dict(row)) for row in rows]

    def _bare(self) -> list[ReleasePublished]:
        """Releases without rows in SQL whose files were not looked for yet."""
        rows = RELEASE_ROWS.select().where(RELEASE_ROWS.c.name == RELEASES.c.name).exists()
        with transaction(self.deps.database) as connection:
            bare = connection.execute(RELEASES.select().where(~rows).order_by(RELEASES.c.name)).mappings().all()
        return [payload_of(ReleasePublished, dict(row)) for row in bare if row["name"] not in self.unreadable]

    def _index(self, name: str, location: str) -> bool:
        """Note the published rows of the release at `location`; False when its files cannot be read."""
        try:
            found = list(folder.read_all(location))
        except (NotFound, Invalid, Unavailable):
            return False
        outcome = ReleaseOutcome.PUBLISHED.value
        rows = [
            {"name": name, "pair_id": row["id"], "document_id": row["document_id"], "language": row["language"],
             "outcome": outcome, "cluster": row["cluster"], "detail": ""} for row in found
        ]  # fmt: skip
        with transaction(self.deps.database) as connection:
            upsert(connection, RELEASE_ROWS, rows, key=("name", "pair_id"))
        return bool(rows)

    def _members(self, name: str) -> dict[str, int]:
        """Pair id → cluster of what the release published."""
        where = (RELEASE_ROWS.c.name == name, RELEASE_ROWS.c.outcome == ReleaseOutcome.PUBLISHED.value)
        with transaction(self.deps.database) as connection:
            return {row.pair_id: row.cluster for row in connection.execute(RELEASE_ROWS.select().where(*where))}


def _dataset_rows(found: Mapping[str, Mapping[str, Any]], members: Mapping[str, int], evaluator_digest: str) -> Rows:
    rows: dict[str, list[dict[str, Any]]] = {}
    for pair_id in sorted(members):
        row = parquet.dataset_row(found[pair_id], cluster=members[pair_id], evaluator_digest=evaluator_digest)
        rows.setdefault(row["language"], []).append(row)
    return rows


def _vector(future: Future[Answer]) -> tuple[float, ...]:
    try:
        answer = future.result(EMBEDDING_WAIT_S_MAX)
    except TimeoutError as error:
        raise Unavailable(f"the encoder gave no answer within {EMBEDDING_WAIT_S_MAX:g} s") from error
    if not isinstance(answer, Embedded):
        raise Invalid(f"the encoder refuses an instruction: {answer}")
    return answer.vector


def _next_name(now_ms: int, taken: Collection[str]) -> str:
    """The date and the first free counter: "2026-11-20.1"."""
    day = datetime.fromtimestamp(now_ms / 1000, UTC).date().isoformat()
    counter = 1
    while f"{day}.{counter}" in taken:
        counter += 1
    return f"{day}.{counter}"
