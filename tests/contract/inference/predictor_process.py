"""The real model server as a process on loopback, which tests may kill and start again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import servers
from xinstruct.inference.model_folder import model_digest

BATCH_ROWS = 8
WAITING_ROWS_MAX = 512
START_S = 200


@dataclass
class PredictorProcess:
    """One predictor: started by start(), serving once await_ready() is back."""

    role: str
    folder: Path
    log: Path
    batch_rows: int = BATCH_ROWS
    waiting_rows_max: int = WAITING_ROWS_MAX
    http_port: int = field(default_factory=servers.free_port)
    grpc_port: int = field(default_factory=servers.free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def digest(self) -> str:
        """What it answers to."""
        return model_digest(self.folder)

    def url(self, transport: str) -> str:
        """Where its adapter finds it, by "rest" or "grpc"."""
        return f"http://127.0.0.1:{self.http_port}" if transport == "rest" else f"grpc://127.0.0.1:{self.grpc_port}"

    def start(self) -> None:
        """Start it; returns at once."""
        options = ["--role", self.role, "--model-dir", str(self.folder), "--model-digest", self.digest,
                   "--batch-rows", str(self.batch_rows), "--http-port", str(self.http_port),
                   "--grpc-port", str(self.grpc_port), "--waiting-rows-max", str(self.waiting_rows_max)]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xinstruct.predictor", *options], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, env=dict(os.environ),
            )

    def await_ready(self) -> None:
        """Wait until it says that it is ready."""
        end_s = time.monotonic() + START_S
        while not self.ready():
            assert self.running(), self.said()
            assert time.monotonic() < end_s, f"not ready after {START_S} s: {self.said()}"
            time.sleep(0.1)  # another process has no signal to wait for

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def ready(self) -> bool:
        """Whether its readiness probe passes now."""
        try:
            return json.loads(self.read("/v2/health/ready")) == {"ready": True}
        except (urllib.error.URLError, OSError):
            return False

    def listening(self) -> bool:
        """Whether its port is open now."""
        return servers.listening(self.http_port)

    def read(self, path: str) -> str:
        """What a GET gives."""
        with urllib.request.urlopen(f"{self.url('rest')}{path}", timeout=10) as response:
            return str(response.read().decode())

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, named with its labels."""
        found = [text for text in self.read("/metrics").splitlines() if text.startswith(f"{line} ")]
        return float(found[0].rpartition(" ")[2])

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and JSON of a POST."""
        request = urllib.request.Request(
            f"{self.url('rest')}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-2_000:]

    def events(self) -> list[str]:
        """Its own events so far."""
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return [json.loads(line)["event"] for line in lines if line.startswith('{"')]

    def kill(self) -> None:
        """As the kernel does it to a process that takes too much memory."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(timeout=60)


@contextmanager
def started(roles: Sequence[str], folder: Path, place: Path) -> Iterator[Mapping[str, PredictorProcess]]:
    """Role → a running predictor; all of them start at once."""
    made = {role: PredictorProcess(role, folder, place / f"{role}.log") for role in roles}
    try:
        revive(made)
        yield made
    finally:
        for predictor in made.values():
            predictor.kill()


def revive(predictors: Mapping[str, PredictorProcess]) -> None:
    """Start those that do not run, all at once."""
    ended = [predictor for predictor in predictors.values() if not predictor.running()]
    for predictor in ended:
        predictor.start()
    for predictor in ended:
        predictor.await_ready()
