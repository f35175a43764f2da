"""Files of releases that never were: their writer was killed before the catalog knew of them.

A publication reserves its name, writes beside the place, moves the files there and records them; a kill leaves the one
or the other. The same request, repeated, replaces both; nobody may repeat it. Not covered: files half-way to an object
store are found by their age only.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from xinstruct.curation import folder
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.gc import HOUR_MS
from xinstruct.curation.tables import RELEASE_REQUESTS, RELEASES
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Conflict, Invalid, NotFound, Unavailable
from xinstruct.spine.sql import transaction


def release_location(deps: Deps, settings: CurationSettings, name: str) -> str:
    """Where the release of that name stands: absolute, or a URL."""
    root = settings.releases_location or str((deps.home / "releases").absolute())
    return f"{root.rstrip('/')}/{name}"


def remove_leftovers(deps: Deps, settings: CurationSettings) -> None:
    """Delete what killed writers left, and what was reserved `orphan_grace_hours` ago and never recorded."""
    folder.remove_abandoned(release_location(deps, settings, "*"))
    reserved_until_ms = deps.clock() - settings.orphan_grace_hours * HOUR_MS
    for location, request_id in _unrecorded(deps, settings, reserved_until_ms):
        with suppress(Conflict, Invalid):  # somebody put other files there
            remove_left(location, request_id)


def remove_naming(deps: Deps, settings: CurationSettings, ids: Collection[str]) -> None:
    """Delete what killed writers left, as far as one of the documents or pairs is in it or nobody can tell.

    A release that is about to be recorded needs no care: it fails, because its rows are gone from the catalog.
    """
    folder.remove_abandoned(release_location(deps, settings, "*"))
    for location, request_id in _unrecorded(deps, settings, deps.clock()):
        with suppress(NotFound, Conflict, Invalid, Unavailable):
            if any(row["id"] in ids or row["document_id"] in ids for row in folder.read_all(location)):
                remove_left(location, request_id)


def remove_left(location: str, request_id: str) -> None:
    """Delete the files that this very request left at `location`, if there are any; Conflict when they are others'."""
    try:
        _, left = folder.read_manifest(location)
    except NotFound:
        if not folder.is_local(location):  # there the manifest comes last; a local folder appears whole
            folder.remove(location)
        return
    if left["request_id"] != request_id:
        raise Conflict(f"{location} holds another release")
    folder.remove(location)


def _unrecorded(deps: Deps, settings: CurationSettings, until_ms: int) -> list[tuple[str, str]]:
    """Location and request of every name that was reserved up to that time and is no release."""
    known = RELEASES.select().where(RELEASES.c.name == RELEASE_REQUESTS.c.name).exists()
    query = RELEASE_REQUESTS.select().where(~known, RELEASE_REQUESTS.c.publish_time_ms <= until_ms)
    with transaction(deps.database) as connection:
        rows = connection.execute(query.order_by(RELEASE_REQUESTS.c.name)).all()
    return [(release_location(deps, settings, row.name), row.request_id) for row in rows]
