"""Circles of URLs: pages that name each other as canonical, or name a URL that redirects back to them.

Which page of a circle is kept must not depend on what was visited first. Not covered: two processes that settle the two
ends of a circle over two hosts in the same moment; the next visit of either sees it.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from xinstruct.crawler.domain import FetchFailure
from xinstruct.crawler.settle import Page, Visit, canonical_target, redirect_target
from xinstruct.crawler.tables import PAGES

MOVES_MAX = 20
"""Moves that are followed; what leads on and on is taken for a circle with nothing to read."""


def close_circle(connection: sa.Connection, page: Page, visit: Visit, *, now_ms: int) -> Visit:
    """`visit`, with `loops` if it moves in a circle with nothing else to read.

    Of a circle with readable pages the smallest stands for all: when it is another one, it is due again.
    """
    redirect, canonical = redirect_target(page, visit), canonical_target(page, visit)
    others = _circle(connection, redirect or canonical, page.url) if redirect or canonical else None
    if others is None:
        return visit
    first = min(others if redirect else {*others, page.url}, default=page.url)
    if first == page.url:
        return replace(visit, loops=True)
    # Without its move there is no circle any more: whoever comes next follows the others to this page.
    connection.execute(PAGES.update().where(PAGES.c.url == first).values(due_time_ms=now_ms, moved_to=""))
    return visit


def stands_for_circle(connection: sa.Connection, target: str, url: str) -> bool:
    """Whether `url`, which names `target` as canonical, is itself the page to keep: the smallest URL of those that lead
    to each other, so that not the order of the visits decides. False where they do not lead back to it.
    """
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
