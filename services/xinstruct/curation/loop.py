"""Curation's loop: project, finish takedowns, announce releases."""

from __future__ import annotations

from xinstruct.curation.projection import CatalogProjection
from xinstruct.curation.release import Releases
from xinstruct.curation.takedown import Takedowns


class CurationLoop:
    """Work that is no ask/decide stage; see spine/app.py: Loop."""

    name = "curation"

    def __init__(self, projection: CatalogProjection, takedowns: Takedowns, releases: Releases) -> None:
        self._projection = projection
        self._takedowns = takedowns
        self._releases = releases

    def step(self) -> bool:
        """One batch of records; when the catalog has caught up, one takedown, or what the log does not know yet.

        The order matters: a takedown erases outside SQL only when its tombstones are in the log.
        """
        if self._projection.step() or self._takedowns.step() or self._releases.index():
            return True
        if self._releases.announce():
            self._projection.wake()
            return True
        return False

    def pending(self) -> bool:
        """Whether records, takedowns or releases wait."""
        return self._projection.pending() or self._takedowns.pending() or self._releases.pending()

    def close(self) -> None:
        """Everything is in SQL or the log already."""
