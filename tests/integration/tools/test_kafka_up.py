"""The script that starts brokers."""

from __future__ import annotations

from pathlib import Path

import pytest

import servers

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


def test_a_broker_that_runs_does_not_keep_others_from_starting(tmp_path: Path) -> None:
    first, second = servers.free_port(), servers.free_port()
    # The jars are there when the first one starts, or at the latest when the second does.
    with servers.own_kafka(tmp_path / "first", first), servers.own_kafka(tmp_path / "second", second):
        assert servers.listening(first)
        assert servers.listening(second)
