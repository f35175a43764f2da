"""The end of a whole process with records in flight, as a pod's: by SIGTERM, and for comparison by SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders import TEXT, document
from contract.inference.openai_stub import Behaviour, openai_stub
from xinstruct.backgen.stage import CODE_VERSION, NAME
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import DraftedPair
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAIR_DRAFTED
from xinstruct.targets import now_ms

RECORDS = 4
"""No more than the model lets in at once: its door (a backlog of 5) lets others wait for seconds."""
ANSWER_S = 2.0
"""Of the model, for each question: shorter than a drain waits for answers (5 s)."""
GONE_S_MAX = 10.0
START_S_MAX = 60.0
"""On a machine that has much else to do."""


@dataclass(frozen=True)
class World:
    """A home folder, and a model that counts what it is asked."""

    folder: Path
    model: Behaviour

    def put(self, *numbers: int) -> None:
        """Admit documents; the text of each is another."""
        with closing(self.log()) as log:
            log.append([document(document_id=f"d{n}", text=f"{TEXT} {n}").record(DOCUMENT_ADMITTED.name)
                        for n in numbers])

    def log(self) -> SqliteLog:
        """The processes' log, to look at."""
        return SqliteLog(self.folder / "home" / "log.sqlite", now_ms)

    def drafted(self) -> list[str]:
        """Documents of the pairs in the log, sorted, each as often as it has one."""
        with closing(self.log()) as log:
            values = [record.value for record in log.read(PAIR_DRAFTED, {})]
        return sorted(DraftedPair.decode(value).document_id for value in values if value is not None)

    def behind(self) -> list[str]:
        """Documents behind which the group's committed offsets do not stand, sorted."""
        with closing(self.log()) as log:
            committed = log.committed(NAME, DOCUMENT_ADMITTED, CODE_VERSION)
            records = list(log.read(DOCUMENT_ADMITTED, {}))
        return sorted(record.id for record in records if record.offset >= committed.get(record.partition, 0))

    def calls(self) -> list[str]:
        """Every question about a document that the model was asked, in its order."""
        with self.model.lock:
            prompts = [asked["messages"][0]["content"] for asked in self.model.asked if "messages" in asked]
        return [prompt for prompt in prompts if TEXT in prompt]

    @contextmanager
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Every service in a process of its own; killed at the end where it still runs."""
        command = [sys.executable, "-m", "xinstruct", "all", "--config", str(self.folder / "config.yaml")]
        environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
        with (self.folder / "log").open("ab") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A model at an endpoint, which training puts to use by itself."""
    (tmp_path / "home").mkdir()
    model = Behaviour(answer_s=ANSWER_S, opening="Describe the lake and its fish, and name")
    with openai_stub(model) as url:
        generator = {"kind": "openai", "url": f"{url}/v1", "model": "stub", "in_flight_max": 2 * RECORDS}
        settings = {"home": str(tmp_path / "home"), "rpc": {"port": 0}, "inference": {"generator": generator},
                    "crawler": {"extract_workers_count": 1}}
        (tmp_path / "config.yaml").write_text(json.dumps(settings), "utf-8")
        yield World(tmp_path, model)


def until(condition: Callable[[], bool], world: World) -> None:
    """Wait for another process; the limit only ends a test that has failed."""
    end_s = time.monotonic() + START_S_MAX
    while not condition():
        assert time.monotonic() < end_s, (world.folder / "log").read_text("utf-8")[-3000:]
        time.sleep(0.02)


def end_in_flight(world: World, number: signal.Signals) -> float:
    """Start a process, end it as the model is asked for the last record; seconds until it was gone."""
    world.put(*range(RECORDS))
    with world.process() as process:
        until(lambda: len(world.calls()) == RECORDS, world)
        assert world.behind() and world.model.in_flight
        begin = time.monotonic()
        process.send_signal(number)
        process.wait(60)
        assert process.returncode == (0 if number is signal.SIGTERM else -number)
        return time.monotonic() - begin


def go_on(world: World) -> None:
    """Start a successor and give it one record more, so that it is seen to be at work when everything is drafted."""
    world.put(RECORDS)
    with world.process() as process:
        until(lambda: len(world.drafted()) >= RECORDS + 1 and not world.behind(), world)
        process.terminate()
        assert process.wait(60) == 0


EVERYTHING = sorted(f"d{n}" for n in range(RECORDS))


def test_a_process_that_is_told_to_end_commits_what_was_in_flight_and_a_successor_asks_for_none_of_it_again(
    world: World,
) -> None:
    took_s = end_in_flight(world, signal.SIGTERM)
    assert took_s <= GONE_S_MAX
    assert (world.drafted(), world.behind()) == (EVERYTHING, [])
    go_on(world)
    assert world.drafted() == sorted([*EVERYTHING, f"d{RECORDS}"])
    assert len(world.calls()) == len(set(world.calls())) == RECORDS + 1


def test_one_that_is_killed_leaves_what_was_in_flight_to_a_successor_which_asks_for_that_again(world: World) -> None:
    # What the test before tells from a drain.
    end_in_flight(world, signal.SIGKILL)
    assert world.behind() and sorted(world.drafted() + world.behind()) == EVERYTHING
    go_on(world)
    assert world.drafted() == sorted([*EVERYTHING, f"d{RECORDS}"])
    assert len(set(world.calls())) == RECORDS + 1 < len(world.calls())
