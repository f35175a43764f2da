"""Processes of the services that a command starts for itself and stops when it ends: of `demo` and `preview`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from xinstruct.spine.errors import Conflict, Unavailable

START_S_MAX = 120.0
STOP_S_MAX = 15.0
POLL_S = 0.1
SAMPLE_S = 1.0
RESIDENT_CHANGE_RATIO = 0.01
LOG_LINES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Member:
    """One process: the targets that it runs, its configuration, and the port where it answers."""

    name: str
    targets: tuple[str, ...]
    config: Path
    port: int


class Factory:
    """Started processes, each with a log file `<name>.log` in `folder`; `replace` may be called by any thread."""

    def __init__(self, members: Sequence[Member], folder: Path) -> None:
        self.members = tuple(members)
        self._folder = folder
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, IO[bytes]] = {}

    def spawn_all(self) -> None:
        """Start every process; returns at once."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for member in self.members:
            self.spawn(member)

    def await_all(self) -> None:
        """Wait until each process listens. Unavailable, with the end of its log, when one does not."""
        for member in self.members:
            self.await_listening(member)

    def spawn(self, member: Member) -> None:
        """Start one process; returns at once."""
        if member.name not in self._logs:
            self._logs[member.name] = (self._folder / f"{member.name}.log").open("ab")
        command = [sys.executable, "-m", "xinstruct", *member.targets, "--config", str(member.config)]
        log = self._logs[member.name]
        # A session of its own: Ctrl-C reaches this process alone, which then drains the others in order.
        self._running[member.name] = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def await_listening(self, member: Member) -> None:
        """Wait until the process answers on its port."""
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            self.require_alive()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", member.port), 1.0).close()
                return
            time.sleep(POLL_S)
        raise Unavailable(f"{member.name} does not listen after {START_S_MAX:g} s; see {self.log_file(member)}")

    def require_alive(self) -> None:
        """Unavailable, with the end of its log, when a process has ended by itself."""
        with self._lock:
            running = [(member, self._running.get(member.name)) for member in self.members]
        for member, process in running:
            if process is not None and process.poll() is not None:
                log = self.log_file(member).read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
                shown = "\n".join(log)
                raise Unavailable(
                    f"{member.name} ended with code {process.returncode}; {self.log_file(member)} says:\n{shown}"
                )

    def replace(self, member: Member) -> None:
        """End a process and its children with SIGKILL, as a crash of the machine would, and start it again."""
        with self._lock:
            process = self._running.pop(member.name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.spawn(member)
        self.await_listening(member)

    def stop(self) -> None:
        """Drain every process; what does not end in time is killed."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_S_MAX
        for process in self._running.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()
        for log in self._logs.values():
            log.close()
        self._logs.clear()

    def log_file(self, member: Member) -> Path:
        """Where a process writes its log lines."""
        return self._folder / f"{member.name}.log"


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Within the block SIGTERM ends this process as Ctrl-C does: what it started is stopped first."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def child(command: Sequence[str], log_file: Path, *, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run `python -m xinstruct.cli.main …` beside this process for the duration of the block."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "xinstruct.cli.main", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **environment} if environment else None,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def output_of(command: Sequence[str], out: Path) -> None:
    """Write what `xinstruct COMMAND` prints to the file `out`. Unavailable, with its words, when it fails."""
    with out.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "xinstruct.cli.main", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode:
        raise Unavailable(f"xinstruct {command[0]} failed: {done.stderr.decode('utf-8', 'replace').strip()[-500:]}")


def require_free(port: int, option: str) -> None:
    """Conflict when somebody answers on that port of loopback, and would be taken for the one we start there."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if taken:
        raise Conflict(f"port {port} of 127.0.0.1 is in use: stop what listens there, or choose another with {option}")


def free_port(preferred: int = 0) -> int:
    """A port of loopback that nobody listens on now: `preferred` when it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise Unavailable("no port of 127.0.0.1 is free")


class MemoryMeter:
    """The largest memory of this process and all its descendants together, sampled once a second.

    Proportional set size where the system tells it (memory shared by n processes counts 1/n for each), else resident.
    The kernel walks all pages for it, so it is asked again only of processes whose resident size has changed.
    """

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._read: dict[int, tuple[int, int]] = {}
        """Process id → resident size when it was asked, and the answer; bytes."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> MemoryMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        own = psutil.Process()
        while not self._stopping.wait(SAMPLE_S):
            total = sum(self._memory_bytes(process) for process in (own, *own.children(recursive=True)))
            self.peak_mb = max(self.peak_mb, total / 1e6)

    def _memory_bytes(self, process: psutil.Process) -> int:
        try:
            resident = process.memory_info().rss
            asked_at, answer = self._read.get(process.pid, (0, 0))
            if abs(resident - asked_at) > RESIDENT_CHANGE_RATIO * asked_at:
                info = process.memory_full_info()
                answer = int(getattr(info, "pss", info.rss))
                self._read[process.pid] = resident, answer
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            return 0
        return answer
