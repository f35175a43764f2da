"""What the sources that list a page assert of its licence, together.

A source that asserts none says nothing. One assertion, or several equal ones, hold. Two that differ cannot both be
right, so none holds: the licence is unknown, whichever source was read first, unless the page itself names one.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from xinstruct.crawler.settle import DISPUTED
from xinstruct.crawler.tables import PAGES
from xinstruct.spine.sql import chunks


def assert_licence(connection: sa.Connection, urls: Sequence[str], licence: str, *, now_ms: int) -> None:
    """A source that asserts `licence`, "" for none, lists the pages `urls` too.

    A page whose text was recorded with another one is due, for a record that says what holds now.
    """
    if not licence:
        return
    for part in chunks(urls):
        told = sa.and_(PAGES.c.url.in_(part), PAGES.c.kind == "page", PAGES.c.licence.not_in((licence, DISPUTED)))
        # Without a validator the page is sent whole: an unchanged one makes no record.
        connection.execute(
            PAGES.update().where(told, PAGES.c.body_digest != "").values(due_time_ms=now_ms, etag="", last_modified="")
        )
        both = sa.case((PAGES.c.licence == "", licence), else_=DISPUTED)
        connection.execute(PAGES.update().where(told).values(licence=both))


def change_licence(connection: sa.Connection, source_id: str, before: str, after: str) -> None:
    """The source asserts `after` now where it asserted `before`: its owner has corrected it."""
    own = sa.and_(PAGES.c.source_id == source_id, PAGES.c.kind == "page", PAGES.c.licence == before)
    connection.execute(PAGES.update().where(own).values(licence=after))
