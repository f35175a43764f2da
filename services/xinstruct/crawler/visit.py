"""One visit: robots.txt and opt-outs before the request, the request, what the answer's markup says, the body's blob.

A straight line run by one thread of the frontier's pool. A body is stored only when nothing refuses its use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xinstruct.crawler.domain import FetchFailure, refused
from xinstruct.crawler.extract_worker import WorkerPool
from xinstruct.crawler.fetch import Answer, Fetcher, Request
from xinstruct.crawler.optouts import header_signals, meta_signals
from xinstruct.crawler.robots import ROBOTS_BYTES_MAX, HostRules, Speaker, denial, host_signals
from xinstruct.crawler.settle import Page, Visit, canonical_target
from xinstruct.spine.app import Clock
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid
from xinstruct.urls import canonical_url, origin_of

ROBOTS_REDIRECTS_MAX = 5
_TEXT_TYPES = ("text/html", "application/xhtml+xml", "text/plain", "")
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Tools:
    """What a visit works with. stands_for_itself(target, url): see circles.py."""

    fetcher: Fetcher
    pool: WorkerPool
    blobs: Blobs
    clock: Clock
    speaker: Speaker
    stands_for_itself: Callable[[str, str], bool]


def visit(page: Page, rules: HostRules, tools: Tools) -> Visit:
    """What the page, which `refusal` lets through, answers; never raises for what a site does.

    Unavailable: the blob store does not take the body.
    """
    # With a body that is known, only a change is of interest.
    request = Request(page.url, page.etag, page.last_modified) if page.body_digest else Request(page.url)
    answer = tools.fetcher.get(request)
    seen = _seen(page, rules, answer, tools)
    if answer.failure or answer.status != 200 or refused(seen.opt_outs):
        return seen
    return _read_page(page, answer, seen, tools) if page.kind == "page" else _read_listing(page, answer, seen, tools)


def refusal(page: Page, rules: HostRules, speaker: Speaker, *, now_ms: int) -> Visit | None:
    """The visit that ends before any request: robots.txt forbids it, or the host has opted out as a whole."""
    if not rules.reachable:
        return Visit(failure=FetchFailure.ROBOTS_UNREACHABLE, end_time_ms=now_ms)
    said = denial(rules, page.url, speaker)
    if said is not None:
        return Visit(failure=FetchFailure.DENIED_BY_ROBOTS, opt_outs=(said,), end_time_ms=now_ms)
    signals = host_signals(rules, page.url, speaker) if page.kind == "page" else ()
    return Visit(failure=FetchFailure.OPTED_OUT, opt_outs=signals, end_time_ms=now_ms) if refused(signals) else None


def read_rules(origin: str, tools: Tools) -> HostRules:
    """robots.txt and tdmrep.json of `origin` ("https://host"), with their redirects followed."""
    answer = _well_known(origin, "/robots.txt", tools)
    if answer.failure == FetchFailure.PRIVATE_ADDRESS and origin_of(answer.url) == origin:
        # Our own refusal, by the configuration: no word of the host, and not to be kept as one.
        return HostRules(0, "", failure=answer.failure)
    # Too large is no failure here: RFC 9309 reads the beginning.
    if answer.failure not in ("", FetchFailure.TOO_LARGE):
        return HostRules(0, "")
    found = 200 <= answer.status < 300
    rules = HostRules(404 if answer.status in _REDIRECTS else answer.status, _text(answer) if found else "")
    if not rules.reachable:
        return replace(rules, retry_after_s=answer.retry_after_s(tools.clock()) or 0.0)
    tdmrep = _well_known(origin, "/.well-known/tdmrep.json", tools)
    silent = tdmrep.failure in (FetchFailure.TIMEOUT, FetchFailure.CONNECTION_FAILED)
    if silent or tdmrep.status >= 500 or tdmrep.status == 429:
        # A reservation that cannot be read now is none that was not made: as for robots.txt.
        return HostRules(0, "", retry_after_s=tdmrep.retry_after_s(tools.clock()) or 0.0)
    return replace(rules, tdmrep_text=_text(tdmrep) if tdmrep.status == 200 and not tdmrep.failure else "")


def _well_known(origin: str, path: str, tools: Tools) -> Answer:
    """The answer to a file of the host, after its redirects."""
    url = origin + path
    answer = tools.fetcher.get(Request(url))
    for _ in range(ROBOTS_REDIRECTS_MAX):
        if answer.status not in _REDIRECTS or not answer.header("location"):
            break
        try:
            url = canonical_url(answer.header("location"), url)
        except Invalid:  # leads nowhere on the web: there is no such file
            break
        answer = tools.fetcher.get(Request(url))
    return answer


def _text(answer: Answer) -> str:
    return answer.body[:ROBOTS_BYTES_MAX].decode("utf-8", "replace").removeprefix("\ufeff")


def _seen(page: Page, rules: HostRules, answer: Answer, tools: Tools) -> Visit:
    now_ms = tools.clock()
    # A sitemap is often served with "noindex", which means the sitemap itself: only robots.txt speaks about lists.
    signals = () if page.kind != "page" else (
        *host_signals(rules, page.url, tools.speaker), *header_signals(answer.headers, tools.speaker)
    )
    return Visit(
        status=answer.status, failure=str(answer.failure), content_type=answer.header("content-type"),
        content_language=answer.header("content-language"), etag=answer.header("etag"),
        last_modified=answer.header("last-modified"), location=answer.header("location"),
        retry_after_s=answer.retry_after_s(now_ms), end_time_ms=now_ms,
        opt_outs=signals,
    )


def _read_page(page: Page, answer: Answer, seen: Visit, tools: Tools) -> Visit:
    kind = seen.content_type.partition(";")[0].strip().lower()
    if kind not in _TEXT_TYPES:
        return replace(seen, failure=FetchFailure.NOT_TEXT)
    facts = tools.pool.submit("facts", {"content_type": seen.content_type}, answer.body).result()
    if "failure" in facts:
        return replace(seen, failure=FetchFailure.PARSER_DIED)
    seen = _with_facts(page, seen, facts, tools)
    if refused(seen.opt_outs) or (canonical_target(page, seen) and not seen.loops):
        return seen
    return replace(seen, body_digest=tools.blobs.put(answer.body), body_bytes=len(answer.body))


def _with_facts(page: Page, seen: Visit, facts: Mapping[str, Any], tools: Tools) -> Visit:
    metas = [(str(name), str(content)) for name, content in facts["metas"]]
    said = meta_signals(metas, tools.speaker)
    seen = replace(
        seen, opt_outs=(*seen.opt_outs, *said), canonical=facts["canonical"], base=facts["base"],
        links=tuple(facts["links"]),
        content_language=facts["language"] or seen.content_language,
        nofollow=any(item.directive in ("nofollow", "none") for item in (*seen.opt_outs, *said)),
    )
    target = canonical_target(page, seen)
    return replace(seen, loops=tools.stands_for_itself(target, page.url)) if target else seen


def _read_listing(page: Page, answer: Answer, seen: Visit, tools: Tools) -> Visit:
    found = tools.pool.submit(page.kind, {}, answer.body).result()
    if "failure" in found or "invalid" in found:
        return replace(seen, failure=FetchFailure.MALFORMED_LISTING)
    return replace(seen, links=tuple(found["pages"]), listings=tuple(found["listings"]))
