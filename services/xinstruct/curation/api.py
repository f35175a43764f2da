"""CurationService: decode, call, encode. Watching polls SQL: whoever changes a row may be another process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from xinstruct.curation import erasure, export, folder, gc, review, rows
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.funnel import read_funnel
from xinstruct.curation.projection import CatalogProjection
from xinstruct.curation.release import Releases
from xinstruct.curation.rows import Row
from xinstruct.curation.story import read_story
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Conflict, Invalid, NotFound, require
from xinstruct.spine.messages import ReleasePublished, ReviewedPair, TakedownKind, TakedownRequested
from xinstruct.spine.record import FOR_GROUP_HEADER, Record
from xinstruct.spine.rpc import page_token, page_values
from xinstruct.spine.sql import transaction
from xinstruct.spine.topics import DEAD_LETTERS, PAIR_REVIEWED, TAKEDOWN_REQUESTED
from xinstruct.v1 import curation_service_pb2 as pb
from xinstruct.v1 import curation_service_pb2_grpc

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
REVIEWS_MAX = 1000
REVIEW_ROWS_DEFAULT = 100
REPLAY_MAX = 10_000
TARGET_CHARS_MAX = 2_000
REASON_CHARS_MAX = 500
REQUEST_ID_CHARS_MAX = 100
WATCH_REST_S = 0.2
AFTER_ALL_MS = 2**63 - 1
"""Later than every time: where a list that begins with the newest begins."""


class CurationServicer(curation_service_pb2_grpc.CurationServiceServicer):
    """See curation_service.proto for every method."""

    def __init__(
        self, settings: CurationSettings, deps: Deps, *, projection: CatalogProjection, releases: Releases
    ) -> None:
        self._settings = settings
        self._deps = deps
        self._projection = projection
        self._releases = releases

    # ── rows, stories, counts ───────────────────────────────────────────────────────────────────────────────────────

    def GetRow(self, request: pb.GetRowRequest, context: Any) -> pb.Row:
        """One row."""
        return _row(rows.read_row(self._deps.database, self._settings, request.pair_id))

    def ListRows(self, request: pb.ListRowsRequest, context: Any) -> pb.ListRowsResponse:
        """A page of rows."""
        size = _page_size(request.page_size)
        (after,) = page_values(request.page_token, "")
        found = rows.list_rows(
            self._deps.database, self._settings, language=request.language, kept_only=request.kept_only,
            after=after, rows_max=size,
        )  # fmt: skip
        more = page_token(found[-1].pair.pair_id) if len(found) == size else ""
        return pb.ListRowsResponse(rows=map(_row, found), next_page_token=more)

    def ListDocuments(self, request: pb.ListDocumentsRequest, context: Any) -> pb.ListDocumentsResponse:
        """A page of documents."""
        size = _page_size(request.page_size)
        (after,) = page_values(request.page_token, "")
        found = rows.list_documents(self._deps.database, language=request.language, after=after, rows_max=size)
        response = pb.ListDocumentsResponse(next_page_token=page_token(found[-1].id) if len(found) == size else "")
        for document in found:
            response.documents.add().ParseFromString(document.encode())
        return response

    def GetStory(self, request: pb.GetStoryRequest, context: Any) -> pb.Story:
        """Everything that happened to a subject."""
        require(bool(request.subject), "subject: a URL, page, document or pair id")
        events = read_story(self._deps.database, self._settings, request.subject)
        return pb.Story(subject=request.subject, events=[
            pb.StoryEvent(stage=e.stage, subject_id=e.subject_id, happened=e.happened, facts=e.facts, time_ms=e.time_ms)
            for e in events
        ])  # fmt: skip

    def GetFunnel(self, request: pb.GetFunnelRequest, context: Any) -> pb.Funnel:
        """Counts."""
        found = read_funnel(self._deps.database, self._settings)
        languages = [pb.LanguageFunnel(**vars(counts)) for counts in found.languages]
        return pb.Funnel(languages=languages, dropped=found.dropped, dead_letters=found.dead_letters)

    # ── releases ────────────────────────────────────────────────────────────────────────────────────────────────────

    def PublishRelease(self, request: pb.PublishReleaseRequest, context: Any) -> pb.Release:
        """Publish what is kept now."""
        return self._told(self._releases.publish(request.request_id, request.name))

    def GetRelease(self, request: pb.GetReleaseRequest, context: Any) -> pb.Release:
        """One release."""
        return self._told(self._releases.get(request.name))

    def ListReleases(self, request: pb.ListReleasesRequest, context: Any) -> pb.ListReleasesResponse:
        """A page of releases."""
        size = _page_size(request.page_size)
        before = tuple(page_values(request.page_token, AFTER_ALL_MS, ""))
        found = [item for item in self._releases.newest_first() if (item.publish_time_ms, item.name) < before]
        page = found[:size]
        more = page_token(page[-1].publish_time_ms, page[-1].name) if len(found) > size else ""
        gone = self._releases.rows_gone()
        return pb.ListReleasesResponse(
            releases=[_release(item, gone.get(item.name, 0)) for item in page], next_page_token=more
        )

    def VerifyRelease(self, request: pb.VerifyReleaseRequest, context: Any) -> pb.VerifyReleaseResponse:
        """Recompute digests."""
        release = self._releases.get(request.name)
        found, files_count = folder.problems(release.location, release.manifest_digest)
        return pb.VerifyReleaseResponse(problems=found, files_count=files_count)

    def DiffReleases(self, request: pb.DiffReleasesRequest, context: Any) -> pb.DiffReleasesResponse:
        """Compare two releases."""
        newer, older = self._releases.get(request.name), self._releases.get(request.other_name)
        found = export.compare(newer.location, older.location)
        return pb.DiffReleasesResponse(languages=[
            pb.LanguageDiff(**vars(item), removed_reasons=self._releases.reasons(newer.name, item.removed_ids))
            for item in found
        ])  # fmt: skip

    def ExportRelease(self, request: pb.ExportReleaseRequest, context: Any) -> Iterator[pb.Chunk]:
        """A release in another format."""
        release = self._releases.get(request.name)
        for content in export.export_rows(release.location, request.format, language=request.language):
            yield pb.Chunk(content=content)

    def RebuildRelease(self, request: pb.RebuildReleaseRequest, context: Any) -> pb.Release:
        """Write a release's files again."""
        return self._told(self._releases.rebuild(request.name, request.location))

    def _told(self, release: ReleasePublished) -> pb.Release:
        return _release(release, self._releases.rows_gone().get(release.name, 0))

    # ── reviews ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def ExportReviews(self, request: pb.ExportReviewsRequest, context: Any) -> Iterator[pb.Chunk]:
        """A file for reviewers."""
        if request.release:
            self._releases.get(request.release)
        found = rows.rows_to_review(
            self._deps.database, self._settings, language=request.language, release=request.release,
            rows_max=request.rows_max or REVIEW_ROWS_DEFAULT,
        )  # fmt: skip
        content = review.render_file(found, request.format)
        if not found:
            among = f"release {request.release!r}" if request.release else "what selection keeps now"
            language = f" of language {request.language!r}" if request.language else ""
            raise NotFound(f"nothing to review: no row{language} in {among}; `xinstruct status` shows what there is")
        for start in range(0, len(content), export.CHUNK_BYTES_MAX):
            yield pb.Chunk(content=content[start : start + export.CHUNK_BYTES_MAX])

    def ImportReviews(self, request: pb.ImportReviewsRequest, context: Any) -> pb.SubmitReviewsResponse:
        """Store a reviewer's file."""
        return self._store_reviews(review.parse_file(
            request.content, request.format, reviewer=request.reviewer, review_time_ms=self._deps.clock(),
            known=lambda ids: rows.known_pairs(self._deps.database, ids),
        ))  # fmt: skip

    def SubmitReviews(self, request: pb.SubmitReviewsRequest, context: Any) -> pb.SubmitReviewsResponse:
        """Store labels."""
        require(0 < len(request.reviews) <= REVIEWS_MAX, f"1–{REVIEWS_MAX} reviews at a time")
        known = rows.known_pairs(self._deps.database, [item.pair_id for item in request.reviews])
        mistakes = [f"review {n}: {text}" for n, item in enumerate(request.reviews) for text in _mistakes(item, known)]
        if mistakes:
            raise Invalid("\n".join(mistakes))
        now_ms = self._deps.clock()
        return self._store_reviews([
            review.review_of(_review_row(item), reviewer=item.reviewer, review_time_ms=now_ms)
            for item in request.reviews
        ])  # fmt: skip

    def _store_reviews(self, reviews: Sequence[ReviewedPair]) -> pb.SubmitReviewsResponse:
        self._deps.log.append([item.record(PAIR_REVIEWED.name) for item in reviews])
        return pb.SubmitReviewsResponse(reviews_count=len(reviews))

    # ── takedowns and garbage ───────────────────────────────────────────────────────────────────────────────────────

    def SubmitTakedown(self, request: pb.SubmitTakedownRequest, context: Any) -> pb.Takedown:
        """Suppress at once, erase soon."""
        asked = self._takedown_of(request)
        self._deps.log.append([asked.record(TAKEDOWN_REQUESTED.name)])
        with transaction(self._deps.database) as connection:
            erasure.suppress(connection, asked, now_ms=self._deps.clock())
        known = rows.read_takedown(self._deps.database, asked.request_id)
        if (known["kind"], known["target"]) != (asked.kind, asked.target):
            raise Conflict(f"request {asked.request_id!r} asked to take down {known['target']!r}")
        return _takedown(known)

    def GetTakedown(self, request: pb.GetTakedownRequest, context: Any) -> pb.Takedown:
        """One takedown."""
        return _takedown(rows.read_takedown(self._deps.database, request.request_id))

    def ListTakedowns(self, request: pb.ListTakedownsRequest, context: Any) -> pb.ListTakedownsResponse:
        """A page of takedowns."""
        size = _page_size(request.page_size)
        time_ms, request_id = page_values(request.page_token, AFTER_ALL_MS, "")
        found = rows.list_takedowns(self._deps.database, before=(time_ms, request_id), rows_max=size)
        more = page_token(found[-1]["request_time_ms"], found[-1]["request_id"]) if len(found) == size else ""
        return pb.ListTakedownsResponse(takedowns=map(_takedown, found), next_page_token=more)

    def WatchTakedown(self, request: pb.WatchTakedownRequest, context: Any) -> Iterator[pb.TakedownEvent]:
        """One takedown until it is done."""
        (seen,) = page_values(request.page_token, -1)
        rest = threading.Event()
        while context.is_active():
            row = rows.read_takedown(self._deps.database, request.request_id)
            if row["change_number"] > seen:
                seen = row["change_number"]
                yield pb.TakedownEvent(takedown=_takedown(row), page_token=page_token(seen))
            if row["state"] == "erased":
                return
            rest.wait(WATCH_REST_S)

    def CollectGarbage(self, request: pb.CollectGarbageRequest, context: Any) -> pb.CollectGarbageResponse:
        """Erase what nothing refers to."""
        self._projection.catch_up(within_s=self._settings.catch_up_s_max)
        planned = gc.plan_now(self._deps, self._settings)
        if not request.dry_run:
            gc.execute(self._deps, planned)
            self._releases.remove_leftovers()
        return pb.CollectGarbageResponse(
            bodies_expired=len(planned.bodies_expired), blobs_orphaned=len(planned.blobs_orphaned),
            bytes_erased=planned.bytes_erased,
        )  # fmt: skip

    def _takedown_of(self, request: pb.SubmitTakedownRequest) -> TakedownRequested:
        require(0 < len(request.request_id) <= REQUEST_ID_CHARS_MAX, f"request_id: 1–{REQUEST_ID_CHARS_MAX} characters")
        require(int(request.kind) in (1, 2, 3), "kind: url, host or document")
        target = request.target.strip()
        require(0 < len(target) <= TARGET_CHARS_MAX, f"target: 1–{TARGET_CHARS_MAX} characters")
        require(len(request.reason) <= REASON_CHARS_MAX, f"reason: at most {REASON_CHARS_MAX} characters")
        kind = TakedownKind(request.kind)
        require(kind is not TakedownKind.URL or "://" in target, f"target {target[:80]!r}: an absolute URL")
        now_ms = self._deps.clock()
        return TakedownRequested(request.request_id, kind, target, request.reason, now_ms, request.purge)

    # ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────────

    def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Any) -> pb.ListDeadLettersResponse:
        """A page of dead letters."""
        _require_stage(request.stage)
        size = _page_size(request.page_size)
        offset, partition = page_values(request.page_token, -1, -1)
        after = (offset, partition)
        found = rows.list_dead_letters(self._deps.database, request.stage, after=after, rows_max=size)
        more = page_token(*found[-1][1]) if len(found) == size else ""
        response = pb.ListDeadLettersResponse(next_page_token=more)
        for letter, _ in found:
            response.dead_letters.add().ParseFromString(letter.encode())
        return response

    def ReplayDeadLetters(self, request: pb.ReplayDeadLettersRequest, context: Any) -> pb.ReplayDeadLettersResponse:
        """Append originals again. A replayed letter leaves the list; it comes back when its record fails again."""
        _require_stage(request.stage)
        ids = list(request.dead_letter_ids)
        found = rows.list_dead_letters(self._deps.database, request.stage, rows_max=REPLAY_MAX, ids=ids)
        missing = sorted(set(ids) - {letter.dead_letter_id for letter, _ in found})
        require(not missing, f"no dead letter {', '.join(missing[:5])} of {request.stage}")
        again: list[Record] = []
        headers = {FOR_GROUP_HEADER: request.stage}
        for letter, _ in found:
            value = self._deps.blobs.get(letter.input_digest)
            again.append(Record(letter.input_topic, letter.input_key, letter.input_id, value, headers))
            again.append(Record(DEAD_LETTERS[request.stage].name, letter.key, letter.id, None))
        self._deps.log.append(again)
        return pb.ReplayDeadLettersResponse(replayed_count=len(found))


# ── encoding ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(row: Row) -> pb.Row:
    message = pb.Row(kept=row.kept)
    message.pair.ParseFromString(row.pair.encode())
    for score in row.scores:
        message.scores.add().ParseFromString(score.encode())
    for item in row.reviews:
        message.reviews.add().ParseFromString(item.encode())
    return message


def _release(release: ReleasePublished, rows_gone: int) -> pb.Release:
    values = vars(release) | {"rows_gone": rows_gone}
    return pb.Release(**{field.name: values[field.name] for field in pb.Release.DESCRIPTOR.fields})


def _takedown(row: Mapping[str, Any]) -> pb.Takedown:
    values = {field.name: row[field.name] for field in pb.Takedown.DESCRIPTOR.fields}
    return pb.Takedown(**{k: json.loads(v) if k.endswith("_affected") else v for k, v in values.items()})


def _review_row(item: pb.Review) -> dict[str, Any]:
    return {"pair_id": item.pair_id, "label": item.label, "tags": list(item.tags)}


def _mistakes(item: pb.Review, known: set[str]) -> list[str]:
    found = review.mistakes_of(_review_row(item))
    if not review.is_pseudonym(item.reviewer):
        found.append(review.reviewer_rule(item.reviewer))
    if not item.label:
        found.append("no label")
    if item.pair_id not in known:
        found.append(f"no pair {item.pair_id[:100]!r} in the catalog")
    return found


def _require_stage(stage: str) -> None:
    require(stage in DEAD_LETTERS, f"stage {stage[:40]!r}: one of {', '.join(DEAD_LETTERS)}")


def _page_size(asked: int) -> int:
    require(asked <= PAGE_SIZE_MAX, f"page_size {asked}: 1–{PAGE_SIZE_MAX}")
    return asked or PAGE_SIZE_DEFAULT
