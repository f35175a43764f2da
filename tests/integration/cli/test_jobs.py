"""Training jobs on the command line: what there are, what they say, with a server and without one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from servers import free_port
from xinstruct.cli.client import connect
from xinstruct.cli.jobs import follow_log
from xinstruct.cli.main import main
from xinstruct.cli.output import ExitCode
from xinstruct.settings import load_settings
from xinstruct.spine import telemetry
from xinstruct.spine.errors import Unavailable
from xinstruct.targets import Built, build, build_deps
from xinstruct.training.tables import JOBS

NAME = "generator-r0-0123456789ab"
FAR_MS = 10**15
SAID = "\x1b[2J\x1b]0;owned\x07loading:  0%\rloading: 100%\n{'loss': 1.5} \u202eziwa\n"
SHOWN = ["[2J]0;ownedloading:  0%", "loading: 100%", "{'loss': 1.5} ziwa"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of an empty home folder."""
    file = tmp_path / "xinstruct.yaml"
    file.write_text(f"home: home\nrpc: {{port: {free_port()}}}\n", "utf-8")
    return file


@contextmanager
def served(config: Path) -> Iterator[Built]:
    """A process that serves that home folder."""
    built = build(["all"], load_settings(config))
    # As every process does: or its log would stand between the answers on stdout.
    telemetry.start(load_settings(config).telemetry, "all")
    built.process.start()
    try:
        yield built
    finally:
        built.process.stop()
        built.close()


def job(database: sa.Engine, home: Path, **values: Any) -> Path:
    """A job that another process keeps, and its log."""
    row = {
        "job_name": NAME, "request_id": "1", "role": "generator", "round": 0, "state": "running", "command": b"",
        "snapshot_digest": "", "steps_done": 5, "steps_count": 40, "loss": 1.5, "model_digest": "", "failure": "",
        "metrics": "", "attempts_count": 1, "promotion_open": False, "owner": "another", "owned_until_ms": FAR_MS,
        "change_time_ms": 1, "change_number": 1,
    } | values
    with database.begin() as connection:
        connection.execute(sa.insert(JOBS).values(**row))
    file = home / "jobs" / NAME / "job.log"
    file.parent.mkdir(parents=True)
    file.write_text(SAID, "utf-8")
    return file


def kept(config: Path, **values: Any) -> None:
    """The same in a home folder that nobody serves."""
    settings = load_settings(config)
    deps = build_deps(settings, process="test")
    job(deps.database, settings.home_path(), **values)
    deps.log.close()
    deps.database.dispose()


def test_the_log_of_an_ended_job_is_shown_without_a_server_and_without_what_a_terminal_obeys(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(config, state="failed", failure="the disk is \x1b[31mfull")
    assert main(["models", "logs", NAME, "--follow", "--config", str(config)]) == ExitCode.OK
    shown = capsys.readouterr()
    assert shown.out.splitlines() == SHOWN
    assert shown.err.splitlines()[0] == "failed 5/40: the disk is [31mfull"
    assert main(["models", "logs", NAME, "--tail", "1", "--config", str(config)]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == SHOWN[-1:]


def test_a_program_gets_the_log_as_it_is_with_the_place_to_go_on_from(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(config, state="failed", failure="the disk is full")
    assert main(["models", "logs", NAME, "--json", "--config", str(config)]) == ExitCode.OK
    text, end = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (text["text"], text["offset"], text["job"]) == (SAID, 0, None)
    assert (end["text"], end["job"]["state"], end["job"]["failure"]) == ("", "failed", "the disk is full")
    place = str(text["next_offset"] - 5)
    assert main(["models", "logs", NAME, "--json", "--offset", place, "--config", str(config)]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out.splitlines()[0])["text"] == "ziwa\n"


def test_an_open_job_that_nobody_runs_is_shown_as_it_is_and_not_waited_for(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(config, waiting_for="Unschedulable: no node has a GPU")
    assert main(["models", "logs", NAME, "--follow", "--config", str(config)]) == ExitCode.OK
    shown = capsys.readouterr()
    assert shown.out.splitlines() == SHOWN
    assert "running 5/40: waits: Unschedulable: no node has a GPU" in shown.err and "`xinstruct up`" in shown.err
    assert main(["models", "jobs", "--json", "--config", str(config)]) == ExitCode.OK
    (listed,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (listed["job_name"], listed["waiting_for"]) == (NAME, "Unschedulable: no node has a GPU")
    assert main(["models", "jobs", "--config", str(config)]) == ExitCode.OK
    assert "Unschedulable: no node has a GPU" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--follow"], ["--json"]])
def test_a_job_that_nobody_knows_is_no_such_thing(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["models", "logs", "generator", *arguments, "--config", str(config)]) == ExitCode.NOT_FOUND
    assert "no job 'generator'; `xinstruct models jobs` lists what there is" in capsys.readouterr().err


def test_training_shows_what_its_job_says_on_stderr_and_fails_as_it_does(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept(config, state="failed", failure="full")
    with connect(config) as client, pytest.raises(Unavailable, match=f"training job {NAME} failed: full"):
        follow_log(client, NAME)
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()) == ("", [*SHOWN, "failed 5/40: full"])


@pytest.mark.parametrize("arguments", [[], ["--follow"]])
def test_an_ended_job_without_a_log_is_said_to_have_none_whether_it_is_followed_or_not(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with served(config) as built:
        job(built.deps.database, built.deps.home, state="failed", failure="full").unlink()
        assert main(["models", "logs", NAME, *arguments, "--config", str(config)]) == ExitCode.NOT_FOUND
        shown = capsys.readouterr()
        assert shown.out == "" and "failed 5/40: full" in shown.err and "left no log" in shown.err
        with connect(config) as client, pytest.raises(Unavailable, match=f"training job {NAME} failed: full"):
            follow_log(client, NAME)


def test_a_followed_job_is_shown_to_its_end_through_a_restart_of_its_server(config: Path, tmp_path: Path) -> None:
    shown, said = tmp_path / "shown", tmp_path / "said"
    command = [str(Path(sys.executable).with_name("xinstruct")), "models", "logs", NAME, "--follow"]
    with shown.open("wb") as out, said.open("wb") as err:
        with served(config) as built:
            file = job(built.deps.database, built.deps.home)
            following = subprocess.Popen([*command, "--config", str(config)], stdout=out, stderr=err)
            while "ziwa" not in shown.read_text("utf-8"):
                assert following.poll() is None, said.read_text("utf-8")
                time.sleep(0.1)
        with served(config) as again:
            with file.open("a", encoding="utf-8") as log:
                log.write("saved\n")
            with again.deps.database.begin() as connection:
                connection.execute(sa.update(JOBS).values(state="failed", failure="full", change_number=2))
            assert following.wait(timeout=60) == ExitCode.OK
    assert shown.read_text("utf-8").splitlines() == [*SHOWN, "saved"]
    assert "failed 5/40: full" in said.read_text("utf-8")
