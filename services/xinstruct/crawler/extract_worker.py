"""Worker processes that parse bytes from strangers: limited in memory and time, replaced when they die or hang.

A worker's death is an answer ({"failure": …}), not an error: neighbours go on, and the same page is tried once more in
a fresh process before it is given up. Requests and answers are length-prefixed JSON, never pickles: a worker that a
page has taken over cannot make its parent run code. Not covered: the worker still has the network and the file system
of its user.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from queue import PriorityQueue
from typing import IO, Any

import psutil

ANSWER_BYTES_MAX = 64 * 1024 * 1024
START_DEADLINE_S = 60.0
WALL_FACTOR = 10.0
LOOK_S = 0.25
ATTEMPTS_MAX = 2
_LENGTH = struct.Struct(">Q")
# The frontier waits for the facts of one page before it goes on; admission has hundreds in flight.
_PRIORITIES = {"facts": 0, "sitemap": 0, "feed": 0, "measure": 1}
_END = 99

Handler = Callable[[Mapping[str, Any], bytes], Mapping[str, Any]]


@dataclass(order=True)
class _Task:
    priority: int
    number: int
    name: str = field(compare=False)
    arguments: Mapping[str, Any] = field(compare=False)
    body: bytes = field(compare=False)
    future: Future[dict[str, Any]] = field(compare=False)


class WorkerPool:
    """`workers_count` processes, started when first needed. `submit` may be called by any thread."""

    def __init__(self, *, workers_count: int, memory_mb_max: int, deadline_s: float, handlers: str = "") -> None:
        """handlers: module with HANDLERS (name → Handler) that the workers serve; empty: the crawler's own."""
        self._memory_mb_max = memory_mb_max
        self._deadline_s = deadline_s
        self._handlers = handlers or "xinstruct.crawler.handlers"
        self._tasks: PriorityQueue[_Task] = PriorityQueue()
        self._numbers = itertools.count()
        self._threads = [threading.Thread(target=self._serve, daemon=True) for _ in range(workers_count)]
        self._closing = threading.Event()
        self._started = threading.Lock()

    def submit(self, name: str, arguments: Mapping[str, Any], body: bytes) -> Future[dict[str, Any]]:
        """The answer of handler `name`, or {"failure": "timeout" | "died" | "memory"}."""
        with self._started:
            if not self._threads[0].is_alive() and not self._closing.is_set():
                for thread in self._threads:
                    thread.start()
        future: Future[dict[str, Any]] = Future()
        if self._closing.is_set():
            future.cancel()
            return future
        self._tasks.put(_Task(_PRIORITIES.get(name, 1), next(self._numbers), name, arguments, body, future))
        return future

    def close(self) -> None:
        """Kill the workers; what is not answered yet is cancelled, and no page is blamed for it."""
        self._closing.set()
        for _ in self._threads:
            self._tasks.put(_Task(-1, next(self._numbers), "", {}, b"", Future()))
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
        while not self._tasks.empty():
            self._tasks.get().future.cancel()

    def _serve(self) -> None:
        """One thread, one process at a time."""
        # A process begins with the mask of the thread that starts it: the interrupt that a terminal sends to all of its
        # process group is the parent's to handle, from the worker's first instruction on.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker: _Worker | None = None
        try:
            while not self._closing.is_set():
                task = self._tasks.get()
                if not task.name or not task.future.set_running_or_notify_cancel():
                    continue
                for attempt in range(1, ATTEMPTS_MAX + 1):
                    worker = worker or _Worker(self._handlers, self._memory_mb_max)
                    answer = worker.ask(task, self._deadline_s, self._closing)
                    if "failure" not in answer:
                        break
                    worker.kill()
                    worker = None
                    if attempt == ATTEMPTS_MAX or self._closing.is_set() or answer["failure"] != "died":
                        break
                if "failure" in answer and self._closing.is_set():
                    task.future.set_exception(CancelledError())
                else:
                    task.future.set_result(answer)
        finally:
            if worker is not None:
                worker.kill()


class _Worker:
    """A worker process and its two pipes."""

    def __init__(self, handlers: str, memory_mb_max: int) -> None:
        self._ready = False
        self._warm: set[str] = set()
        command = [sys.executable, "-m", "xinstruct.crawler.extract_worker", handlers, str(memory_mb_max)]
        # One thread each: the pool is the parallelism.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def ask(self, task: _Task, deadline_s: float, closing: threading.Event) -> dict[str, Any]:
        """The worker's answer to one task, or a failure. The first call also waits until it has started."""
        assert self._process.stdin is not None
        try:
            if not self._ready:
                self._read(START_DEADLINE_S, closing)
                self._ready = True
            if task.name not in self._warm:
                # Libraries take long to import, on a busy machine very long: no page is to be blamed for that.
                _write(self._process.stdin, json.dumps({"warm": task.name}).encode())
                self._read(START_DEADLINE_S, closing)
                self._warm.add(task.name)
            _write(self._process.stdin, json.dumps({"name": task.name, "arguments": dict(task.arguments)}).encode())
            _write(self._process.stdin, task.body)
            answer: dict[str, Any] = json.loads(self._read(deadline_s, closing))
            return answer
        except TimeoutError:
            return {"failure": "timeout"}
        except (OSError, EOFError, ValueError):
            return {"failure": "died"}

    def _read(self, deadline_s: float, closing: threading.Event) -> bytes:
        """The next message; TimeoutError when the worker has spent `deadline_s` of CPU time on it, or hangs."""
        assert self._process.stdout is not None
        deadline = _Deadline(self._process.pid, deadline_s, closing)
        (length,) = _LENGTH.unpack(_read_bytes(self._process.stdout, _LENGTH.size, deadline))
        if length > ANSWER_BYTES_MAX:
            raise EOFError(f"an answer of {length} bytes")
        return _read_bytes(self._process.stdout, length, deadline)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # the rest of a request that nobody reads any more


def _write(pipe: IO[bytes], content: bytes) -> None:
    pipe.write(_LENGTH.pack(len(content)) + content)
    pipe.flush()


class _Deadline:
    """When to give up on a worker: its own CPU time decides, for a busy machine must not change what is admitted.

    A worker that sleeps spends none: after WALL_FACTOR times as long on the clock it hangs.
    """

    def __init__(self, pid: int, cpu_s: float, closing: threading.Event) -> None:
        self._worker = psutil.Process(pid)
        self._cpu_end_s = self._cpu_s() + cpu_s
        self._wall_end_s = time.monotonic() + cpu_s * WALL_FACTOR
        self._closing = closing

    def check(self) -> None:
        """TimeoutError when it has passed, or the pool is closing."""
        if self._closing.is_set() or time.monotonic() > self._wall_end_s or self._cpu_s() > self._cpu_end_s:
            raise TimeoutError

    def _cpu_s(self) -> float:
        try:
            spent = self._worker.cpu_times()
        except psutil.Error as error:
            raise EOFError("the worker ended") from error
        return float(spent.user + spent.system)


def _read_bytes(pipe: IO[bytes], count: int, deadline: _Deadline) -> bytes:
    content = bytearray()
    while len(content) < count:
        deadline.check()
        if select.select([pipe], [], [], LOOK_S)[0]:
            chunk = os.read(pipe.fileno(), min(count - len(content), 1 << 20))
            if not chunk:
                raise EOFError("the worker ended")
            content += chunk
    return bytes(content)


# ── the worker itself ───────────────────────────────────────────────────────────────────────────────────────────────


def main(handlers: str, memory_mb_max: int) -> None:
    """Serve requests from stdin until it closes: the parent's end is the worker's end."""
    import importlib
    import logging
    import resource

    # Libraries print: the pipe is kept for answers, everything else goes to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    logging.disable(logging.CRITICAL)
    limit = memory_mb_max * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    module = importlib.import_module(handlers)
    served: Mapping[str, Handler] = module.HANDLERS
    _write(answers, b"{}")
    while True:
        head = _take(sys.stdin.buffer)
        if head is None:
            return
        request = json.loads(head)
        if "warm" in request:
            getattr(module, "warm", str)(request["warm"])
            _write(answers, b"{}")
            continue
        body = _take(sys.stdin.buffer) or b""
        _write(answers, _answer(served[request["name"]], request["arguments"], body))


def _answer(handler: Handler, arguments: Mapping[str, Any], body: bytes) -> bytes:
    try:
        return json.dumps(handler(arguments, body)).encode()
    except MemoryError:
        return b'{"failure": "memory"}'
    except RecursionError:
        return b'{"failure": "depth"}'


def _take(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    return pipe.read(length)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
