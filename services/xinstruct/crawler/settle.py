"""What one visit to a page means: the record, the takedown, the links to follow, and when to come back. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.domain import (
    CLOSED,
    POLICY_VERSION,
    RETRIED,
    FetchFailure,
    fetch_id_of,
    page_id_of,
    private_advice,
    refused,
)
from xinstruct.crawler.tables import NEVER_MS
from xinstruct.spine.errors import Invalid
from xinstruct.spine.messages import FetchedPage, OptOut, TakedownKind, TakedownRequested
from xinstruct.spine.record import slot_id
from xinstruct.urls import canonical_url, host_of

RETRIED_STATUSES = (429, 503)
DISPUTED = "disputed"
"""In place of a page's licence: sources assert different ones."""
_LATE = (FetchFailure.REDIRECTED, FetchFailure.REDIRECT_LOOP, FetchFailure.TOO_MANY_REDIRECTS, FetchFailure.GONE,
         FetchFailure.HOST_NOT_LISTED, FetchFailure.CANONICAL_ELSEWHERE, FetchFailure.OPTED_OUT,
         FetchFailure.DENIED_BY_ROBOTS, FetchFailure.NOT_TEXT)
"""Failures after which the body of the fetch before no longer stands. After others it stays: the site may be ill."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the frontier needs it."""

    source_id: str
    hosts: tuple[str, ...]
    depth_max: int = 0
    poll_interval_s: int = 0
    declared_language: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A row of the pages table: a URL of any kind and what is known of it."""

    url: str
    host: str
    source_id: str
    kind: str = "page"
    depth: int = 0
    hops: int = 0
    due_time_ms: int = 0
    attempts: int = 0
    fetch_number: int = 0
    etag: str = ""
    last_modified: str = ""
    body_digest: str = ""
    body_bytes: int = 0
    moved_to: str = ""
    outcome: str = ""
    fetch_time_ms: int = 0
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """Everything that one visit saw. status: 0 without an answer. location: of a redirect. canonical: as the page says.

    links: as written, in document order; listings: further sitemaps. nofollow: the page asks not to follow its links.
    loops: it leads back to a URL that led here, or names a broken one as canonical: such a page is the one to keep.
    """

    status: int = 0
    failure: str = ""
    content_type: str = ""
    content_language: str = ""
    etag: str = ""
    last_modified: str = ""
    location: str = ""
    retry_after_s: float | None = None
    body_digest: str = ""
    body_bytes: int = 0
    opt_outs: tuple[OptOut, ...] = ()
    canonical: str = ""
    base: str = ""
    links: tuple[str, ...] = ()
    listings: tuple[str, ...] = ()
    nofollow: bool = False
    loops: bool = False
    end_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """A URL to visit too."""

    url: str
    kind: str
    depth: int
    hops: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """page: its new row. counted: "fetched", "failed", "denied", or "" when the visit has not ended (a retry).

    host_until_ms: the host as a whole asked to be left alone until then, 0 when it did not.
    """

    page: Page
    counted: str
    record: FetchedPage | None = None
    takedown: TakedownRequested | None = None
    found: tuple[Found, ...] = ()
    error: str = ""
    host_until_ms: int = 0


def settle(page: Page, source: Source, visit: Visit, settings: FetchSettings) -> Settlement:
    """What `visit` to `page` means. The same arguments give the same settlement."""
    # The last try's too: the page is given up, its host is not.
    return replace(_settled(page, source, visit, settings), host_until_ms=_host_until_ms(visit, settings))


def _settled(page: Page, source: Source, visit: Visit, settings: FetchSettings) -> Settlement:
    if _passing(visit) and page.attempts + 1 < settings.attempts_max:
        return Settlement(_postponed(page, visit, settings), "")
    if visit.loops and not visit.body_digest and canonical_target(page, visit):
        # The page that it names led here or broke meanwhile: look again, now for the body itself.
        return Settlement(replace(page, due_time_ms=visit.end_time_ms), "")
    visit = _judged(page, source, visit, settings)
    if visit.status == 304 and not visit.failure:
        return Settlement(_seen(page, source, visit, settings), "fetched")
    outcome = _outcome_of(visit, page.licence)
    seen = replace(_seen(page, source, visit, settings), outcome=outcome)
    counted = _counted(visit)
    found = tuple(_found(page, source, visit))
    if outcome == page.outcome or (page.kind != "page" and not visit.failure):
        return Settlement(_with_body(seen, page, visit), counted, found=found, error=_error(page, visit))
    record = _record(page, source, visit)
    return Settlement(
        page=_with_body(seen, page, visit), counted=counted, record=record, takedown=_takedown(page, visit),
        found=found, error=_error(page, visit),
    )


def in_scope(url: str, source: Source) -> bool:
    """Whether the source may lead to `url` (canonical): its host and port is listed, exactly."""
    return host_of(url) in source.hosts


def redirect_target(page: Page, visit: Visit) -> str:
    """Canonical URL that a redirect leads to, "" when there is none or it is no web address."""
    if visit.failure or visit.status not in (301, 302, 303, 307, 308) or not visit.location:
        return ""
    try:
        return canonical_url(visit.location, page.url)
    except Invalid:
        return ""


def canonical_target(page: Page, visit: Visit) -> str:
    """URL that the page names as its own, where that is another one on the same host; else ""."""
    if not visit.canonical or visit.failure:
        return ""
    target = _resolved(visit.canonical, page, visit)
    return target if target != page.url and host_of(target) == page.host else ""


def _passing(visit: Visit) -> bool:
    return visit.failure in RETRIED or (not visit.failure and visit.status in RETRIED_STATUSES)


def _postponed(page: Page, visit: Visit, settings: FetchSettings) -> Page:
    own_ms = visit.end_time_ms + settings.retry_delay_ms * 2**page.attempts
    return replace(page, attempts=page.attempts + 1, due_time_ms=max(own_ms, _host_until_ms(visit, settings)))


def _host_until_ms(visit: Visit, settings: FetchSettings) -> int:
    """Until when a Retry-After asks for patience, within the bound; 0 when none does."""
    if visit.retry_after_s is None or visit.status not in RETRIED_STATUSES:
        return 0
    return visit.end_time_ms + int(min(visit.retry_after_s, settings.retry_after_s_max) * 1000)


def _judged(page: Page, source: Source, visit: Visit, settings: FetchSettings) -> Visit:
    """`visit` with the failure that its answer amounts to, if it amounts to one."""
    if visit.failure:
        return visit
    if refused(visit.opt_outs):
        return replace(visit, failure=FetchFailure.OPTED_OUT)
    if visit.status == 304 and page.body_digest:
        return visit
    if visit.status >= 300:
        return replace(visit, failure=_failure_of_status(page, source, visit, settings))
    if page.kind == "page" and canonical_target(page, visit) and not visit.loops:
        return replace(visit, failure=FetchFailure.CANONICAL_ELSEWHERE)
    return visit


def _failure_of_status(page: Page, source: Source, visit: Visit, settings: FetchSettings) -> str:
    target = redirect_target(page, visit)
    if not target:
        return FetchFailure.GONE if visit.status == 410 else FetchFailure.HTTP_ERROR
    if visit.loops:
        return FetchFailure.REDIRECT_LOOP
    if page.hops >= settings.redirects_max:
        return FetchFailure.TOO_MANY_REDIRECTS
    return FetchFailure.REDIRECTED if in_scope(target, source) else FetchFailure.HOST_NOT_LISTED


def _found(page: Page, source: Source, visit: Visit) -> Iterable[Found]:
    if visit.failure == FetchFailure.REDIRECTED:
        yield Found(_moved_to(page, visit), page.kind, page.depth, page.hops + 1)
    elif visit.failure == FetchFailure.CANONICAL_ELSEWHERE:
        yield Found(_moved_to(page, visit), "page", page.depth, page.hops + 1)
    elif page.kind == "page":
        if page.depth < source.depth_max and not visit.nofollow:
            yield from _followed(page, source, visit, links=visit.links, kind="page", depth=page.depth + 1)
    else:
        yield from _followed(page, source, visit, links=visit.links, kind="page", depth=0)
        if page.hops < 5:
            for item in _followed(page, source, visit, links=visit.listings, kind="sitemap", depth=0):
                yield replace(item, hops=page.hops + 1)


def _followed(
    page: Page, source: Source, visit: Visit, *, links: Sequence[str], kind: str, depth: int
) -> Iterable[Found]:
    for url in dict.fromkeys(_resolved(link, page, visit) for link in links):
        if url and in_scope(url, source):
            yield Found(url, kind, depth, 0)


def _resolved(link: str, page: Page, visit: Visit) -> str:
    """Canonical URL of a link in the page, "" when it is none."""
    try:
        return canonical_url(link, canonical_url(visit.base, page.url) if visit.base else page.url)
    except Invalid:
        return ""


def _seen(page: Page, source: Source, visit: Visit, settings: FetchSettings) -> Page:
    next_s = source.poll_interval_s
    if visit.failure in CLOSED:
        # Not asked for now, and said so; but neither a server error nor our own configuration is a word of the site's.
        next_s = next_s or settings.robots_retry_s
    return replace(
        page, attempts=0, fetch_number=page.fetch_number + 1, fetch_time_ms=visit.end_time_ms,
        due_time_ms=visit.end_time_ms + next_s * 1000 if next_s else NEVER_MS,
        moved_to=_moved_to(page, visit),
    )


def _moved_to(page: Page, visit: Visit) -> str:
    """URL that stands for this one now, "" when it stands for itself."""
    answered = replace(visit, failure="")
    if visit.failure == FetchFailure.CANONICAL_ELSEWHERE:
        return canonical_target(page, answered)
    moved = (FetchFailure.REDIRECTED, FetchFailure.REDIRECT_LOOP, FetchFailure.TOO_MANY_REDIRECTS)
    return redirect_target(page, answered) if visit.failure in moved else ""


def _with_body(seen: Page, page: Page, visit: Visit) -> Page:
    if not visit.failure:
        return replace(seen, etag=visit.etag, last_modified=visit.last_modified, body_digest=visit.body_digest,
                       body_bytes=visit.body_bytes)
    kept = page.body_digest if not _superseded(page, visit) else ""
    return replace(seen, etag="", last_modified="", body_digest=kept)


def _superseded(page: Page, visit: Visit) -> str:
    """Digest of the body that no longer stands after this visit, "" when none was there or it still does."""
    if not page.body_digest or visit.body_digest == page.body_digest:
        return ""
    late = not visit.failure or visit.failure in _LATE or visit.status == 404
    return page.body_digest if late else ""


def _record(page: Page, source: Source, visit: Visit) -> FetchedPage:
    number = page.fetch_number + 1
    return FetchedPage(
        fetch_id=fetch_id_of(page.url, number), page_id=page_id_of(page.url), url=page.url, host=page.host,
        source_id=page.source_id, fetch_number=number, status=visit.status, failure=str(visit.failure),
        content_type=visit.content_type.lower()[:200],
        body_digest="" if visit.failure else visit.body_digest, body_bytes=0 if visit.failure else visit.body_bytes,
        fetch_time_ms=visit.end_time_ms, opt_outs=visit.opt_outs, policy_version=POLICY_VERSION,
        superseded_body_digest=_superseded(page, visit),
        declared_language=(visit.content_language or source.declared_language)[:40],
        licence="" if page.licence == DISPUTED else page.licence,
    )


def _takedown(page: Page, visit: Visit) -> TakedownRequested | None:
    """A page that was used and now refuses is taken down, whoever wrote the refusal."""
    if not page.body_digest or visit.failure not in (FetchFailure.OPTED_OUT, FetchFailure.DENIED_BY_ROBOTS):
        return None
    request_id = slot_id("opt-out", "1", page.url, page.fetch_number + 1)
    return TakedownRequested(request_id, TakedownKind.URL, page.url, "opt_out", visit.end_time_ms)


def _error(page: Page, visit: Visit) -> str:
    """The failure for people: URL, reason, HTTP status where it is no good one; "" when there is none."""
    if visit.failure == FetchFailure.PRIVATE_ADDRESS:
        return f"{page.url}: {visit.failure}; {private_advice(page.url)}"
    status = f" (HTTP {visit.status})" if visit.status >= 300 else ""
    return f"{page.url}: {visit.failure}{status}" if visit.failure else ""


def _counted(visit: Visit) -> str:
    if visit.failure in (FetchFailure.OPTED_OUT, FetchFailure.DENIED_BY_ROBOTS, *CLOSED):
        return "denied"
    return "failed" if visit.failure else "fetched"


def _outcome_of(visit: Visit, licence: str) -> str:
    """Equal for two visits that say the same: only a change makes a record. Begins with the failure."""
    signals = sorted(f"{item.signal} {item.directive} {item.evidence}" for item in visit.opt_outs)
    said = [str(visit.status), visit.failure, visit.body_digest, licence, *signals]
    digest = hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]
    return f"{visit.failure}:{digest}"
