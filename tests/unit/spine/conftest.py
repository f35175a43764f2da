"""What the tests of the runner share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner_world import World
from xinstruct.spine import telemetry


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for gauge in (telemetry.IN_FLIGHT, telemetry.LAG):
        gauge.clear()  # of runners that a test left: a scrape of another test would ask their log
    made.log.close()
