"""SIGTERM to a process that does not serve yet, as the first process of a pod: nobody there has a default action."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

import servers
from xinstruct.spine.signals import TERMINATED_EXIT

IN_A_POD = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
"""As process 1 of a namespace of its own. `unshare` itself ends as its child does."""
LEFT_S_MAX = 2.0
SETTINGS = {"rpc": {"port": 0}, "log": {"kind": "kafka", "bootstrap_servers": "127.0.0.1:9"}}


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Skips by name where nobody may make one."""
    tried = shutil.which("unshare") and subprocess.run([*IN_A_POD, "true"], capture_output=True, check=False)
    if not tried or tried.returncode:
        servers.absent("unshare", "no process may have a namespace of its own here")


@contextmanager
def first_process(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """`unshare` with `command` as its child, and what that says."""
    with subprocess.Popen([*IN_A_POD, sys.executable, *command], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            yield process, process.stderr
        finally:
            process.kill()


def seconds_to_the_end(process: subprocess.Popen[bytes]) -> float:
    """From a SIGTERM to process 1 in the namespace."""
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii"))
    begin_s = time.monotonic()
    os.kill(child, signal.SIGTERM)
    process.wait(timeout=30)
    return time.monotonic() - begin_s


@pytest.mark.parametrize("target", ["backgen", "migrate"])
def test_who_waits_for_a_database_leaves_when_it_is_told_to_end(target: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    with socket.create_server(("127.0.0.1", 0)) as database:  # takes connections and never says a word
        database.settimeout(60)
        url = f"postgresql+psycopg://xinstruct@127.0.0.1:{database.getsockname()[1]}/xinstruct"
        config.write_text(json.dumps(SETTINGS | {"home": str(tmp_path / "home"), "database_url": url}), "utf-8")
        with first_process(["-m", "xinstruct", target, "--config", str(config)]) as (process, _):
            held, _ = database.accept()  # one that is dropped is a database that went away: `migrate` ends then
            took_s = seconds_to_the_end(process)
            held.close()
    assert process.returncode == TERMINATED_EXIT
    assert took_s < LEFT_S_MAX


def test_a_predictor_that_loads_its_model_leaves_when_it_is_told_to_end() -> None:
    folder = servers.ROOT / "models" / "tiny-base"
    options = ["--role", "evaluator", "--model-dir", str(folder)]
    with first_process(["-m", "xinstruct.predictor", *options]) as (process, said):
        assert json.loads(said.readline())["event"] == "loading"
        took_s = seconds_to_the_end(process)
    assert process.returncode == TERMINATED_EXIT
    assert took_s < LEFT_S_MAX
