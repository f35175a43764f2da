"""Releases that are killed, fail or are overtaken half-way: whole or not at all, and nothing is left for ever."""

from __future__ import annotations

import resource
import signal
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

import builders
from curation_house import House, published_ids, releases
from xinstruct.curation import erasure, folder, tables
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.release import Releases
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.sql import transaction


@pytest.fixture
def stocked(house: House) -> House:
    """A house with rows worth publishing."""
    house.promote()
    house.publishable(10)
    return house


def test_files_left_by_a_killed_publication_are_replaced(stocked: House) -> None:
    release = releases(stocked).publish("r1", "mine")
    with transaction(stocked.database) as connection:
        connection.execute(tables.RELEASES.delete())
    assert releases(stocked).publish("r1", "mine") == release


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(stocked: House) -> None:
    described = folder.read_manifest(releases(stocked).publish("r1").location)[1]
    described.pop("files")
    rows = {"sw": list(folder.read_rows(releases(stocked).publish("r1").location, "sw"))}
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Unavailable, match="nothing was published"):
            folder.write(str(stocked.home / "releases" / "big"), described, rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    left = sorted(path.name for path in (stocked.home / "releases").iterdir())
    assert left == ["2026-09-21.1"]


@pytest.mark.both_databases
def test_a_takedown_while_the_files_are_written_stops_the_release(house: House) -> None:
    house.promote()
    house.publishable(3)

    def clock() -> int:
        """The one who reserves the name asks for the time: the rows were read, no file is written."""
        asked = builders.takedown(target=f"http://{builders.HOST}/sw0001")
        with transaction(house.database) as connection:
            erasure.suppress(connection, asked, now_ms=house.clock())
        return house.clock()

    projection = releases(house).projection
    with pytest.raises(Unavailable, match="taken down while the release was made"):
        Releases(replace(house.deps, clock=clock), house.settings, projection).publish("r1", "mine")
    assert not list((house.home / "releases").iterdir())
    assert house.rows(tables.RELEASES) == house.rows(tables.RELEASE_ROWS) == []
    assert published_ids(releases(house).publish("r1").location) == ["pair-sw0000", "pair-sw0002"]


def forgotten(house: House, request_id: str, name: str) -> Path:
    """The files of a release whose writer was killed before it recorded them."""
    location = Path(releases(house).publish(request_id, name).location)
    with transaction(house.database) as connection:
        for table in (tables.RELEASES, tables.RELEASE_ROWS):
            connection.execute(table.delete().where(table.c.name == name))
    return location


def test_garbage_collection_removes_what_killed_writers_left_and_nothing_else(stocked: House) -> None:
    release = releases(stocked).publish("r1")
    left = forgotten(stocked, "r2", "killed")
    (left.parent / "other").mkdir()
    killed = left.parent / ".killed.12345.part" / "data"
    killed.mkdir(parents=True)
    with folder._staging(str(left.parent / "living")) as living:
        releases(stocked).remove_leftovers()
        assert left.exists() and living.exists() and not killed.parent.exists()
        stocked.clock.now_ms += 86_400_000
        releases(stocked).remove_leftovers()
        assert living.exists()
    assert sorted(path.name for path in left.parent.iterdir()) == [release.name, "other"]
    assert folder.problems(release.location, release.manifest_digest)[0] == []


def test_files_left_half_way_to_an_object_store_are_not_in_the_release(tmp_path: Path) -> None:
    house = House(tmp_path, CurationSettings(releases_location="memory://half-way"))
    house.promote()
    house.publishable(3)
    stale = f"memory://half-way/mine/{folder.data_path('ur')}"
    fs, path = fsspec.core.url_to_fs(stale)
    fs.pipe_file(path, b"half a file")
    release = releases(house).publish("r1", "mine")
    assert folder.problems(release.location, release.manifest_digest)[0] == []
    house.close()
