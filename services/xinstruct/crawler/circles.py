"""Where canonical URLs and redirects lead to nothing else to read: in a circle, or to a URL that is broken.

Which page is kept must not depend on what was visited first. Not covered: two processes that settle the two ends of
such a way over two hosts in the same moment; the next visit of either sees it.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from xinstruct.crawler.domain import CLOSED, FetchFailure
from xinstruct.crawler.settle import Page, Visit, canonical_target, redirect_target
from xinstruct.crawler.tables import PAGES

MOVES_MAX = 20
"""Moves that are followed; what leads on and on is taken for a circle with nothing to read."""
_NOT_BROKEN = ("", FetchFailure.CANONICAL_ELSEWHERE, FetchFailure.REDIRECTED, FetchFailure.OPTED_OUT,
               FetchFailure.DENIED_BY_ROBOTS, FetchFailure.SUPPRESSED, *CLOSED)
"""What a URL without a text of its own may say though it is not broken: it leads on, or its text is not to be used."""


def close_circle(connection: sa.Connection, page: Page, visit: Visit, *, now_ms: int) -> Visit:
    """`visit`, with `loops` if it moves in a circle, or to a broken URL, with nothing else to read.

    Of a circle with readable pages the smallest stands for all: when it is another one, it is due again.
    """
    redirect, canonical = redirect_target(page, visit), canonical_target(page, visit)
    if canonical and not redirect and _leads_to_broken(connection, canonical):
        return replace(visit, loops=True)
    others = _circle(connection, redirect or canonical, page.url) if redirect or canonical else None
    if others is None:
        return visit
    first = min(others if redirect else {*others, page.url}, default=page.url)
    if first == page.url:
        return replace(visit, loops=True)
    # Without its move there is no circle any more: whoever comes next follows the others to this page.
    connection.execute(PAGES.update().where(PAGES.c.url == first).values(due_time_ms=now_ms, moved_to=""))
    return visit


def free_namers(connection: sa.Connection, page: Page, *, now_ms: int) -> None:
    """Pages that name `page` as canonical, or a URL that redirects to it, are due again if it has proved broken."""
    if not _broken(page.outcome, page.body_digest):
        return
    targets, seen = [page.url], {page.url}
    for _ in range(MOVES_MAX):
        found = []
        for target in targets:
            namers = sa.select(PAGES.c.url, PAGES.c.outcome).where(PAGES.c.moved_to == target)
            found += [row for row in connection.execute(namers) if row.url not in seen]
        seen.update(row.url for row in found)
        for row in found:
            if _failure(row.outcome) == FetchFailure.CANONICAL_ELSEWHERE:
                connection.execute(PAGES.update().where(PAGES.c.url == row.url).values(due_time_ms=now_ms))
        targets = [row.url for row in found if _failure(row.outcome) == FetchFailure.REDIRECTED]
        if not targets:
            return


def stands_for_itself(connection: sa.Connection, target: str, url: str) -> bool:
    """Whether `url`, which names `target` as canonical, is itself the page to keep: `target` is broken, or `url` is the
    smallest of those that lead to each other, so that not the order of the visits decides.
    """
    if _leads_to_broken(connection, target):
        return True
    others = _circle(connection, target, url)
    return others is not None and all(url < other for other in others)


def _circle(connection: sa.Connection, target: str, url: str) -> frozenset[str] | None:
    """Where known moves lead from `target` back to `url`: the pages between them that have a text of their own and only
    name another URL as canonical; the rest redirect. None where they do not lead back.
    """
    readable: set[str] = set()
    for _ in range(MOVES_MAX):
        if target == url:
            return frozenset(readable)
        found = connection.execute(sa.select(PAGES.c.moved_to, PAGES.c.outcome).where(PAGES.c.url == target)).first()
        if found is None or not found.moved_to:
            return None
        if found.outcome.startswith(FetchFailure.CANONICAL_ELSEWHERE):
            readable.add(target)
        target = found.moved_to
    return frozenset()


def _leads_to_broken(connection: sa.Connection, target: str) -> bool:
    """Whether `target`, or what it redirects to, was visited and is broken."""
    for _ in range(MOVES_MAX):
        found = connection.execute(
            sa.select(PAGES.c.moved_to, PAGES.c.outcome, PAGES.c.body_digest).where(PAGES.c.url == target)
        ).first()
        if found is None or _broken(found.outcome, found.body_digest):
            return found is not None
        if _failure(found.outcome) != FetchFailure.REDIRECTED or not found.moved_to:
            return False
        target = found.moved_to
    return False


def _broken(outcome: str, body_digest: str) -> bool:
    """Whether a URL ended in a failure and no earlier text of it stands."""
    return not body_digest and _failure(outcome) not in _NOT_BROKEN


def _failure(outcome: str) -> str:
    """The failure that `outcome` begins with; "" before the first visit, too."""
    return outcome.partition(":")[0]
