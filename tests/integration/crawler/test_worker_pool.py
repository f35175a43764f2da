"""Worker processes: what dies or hangs is an answer, and its neighbours go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from xinstruct.crawler.extract_worker import WorkerPool


def echo(arguments, body):
    return {"arguments": dict(arguments), "bytes": len(body), "pid": os.getpid()}


def die(arguments, body):
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def hang(arguments, body):
    signal.pause()
    return {}


def spin(arguments, body):
    while True:
        pass


def eat(arguments, body):
    return {"bytes": len(bytearray(8 << 30))}


def nest(arguments, body):
    return nest(arguments, body)


def chatter(arguments, body):
    print("libraries print where they should not")  # noqa: T201
    return {"ok": True}


def fault(arguments, body):
    raise KeyError("a bug in a library")


HANDLERS = {
    "echo": echo, "die": die, "hang": hang, "spin": spin, "eat": eat, "nest": nest, "chatter": chatter, "fault": fault,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    started = WorkerPool(
        workers_count=2, memory_mb_max=1024, deadline_s=0.5, handlers="integration.crawler.test_worker_pool"
    )
    yield started
    started.close()


@pytest.fixture(autouse=True)
def path_of_workers(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.abspath("tests"), *sys.path]))


def ask(pool, name, body=b"", **arguments):
    return pool.submit(name, arguments, body).result(timeout=60)


def test_a_worker_answers_with_what_its_handler_says(pool):
    found = ask(pool, "echo", b"x" * 3_000_000, word="ünï")
    assert (found["arguments"], found["bytes"]) == ({"word": "ünï"}, 3_000_000)
    assert found["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("name", "failure"),
    [("die", "died"), ("hang", "timeout"), ("spin", "timeout"), ("eat", "memory"), ("nest", "depth"),
     ("fault", "died")],
)
def test_a_failure_is_an_answer_and_the_pool_goes_on(pool, name, failure):
    assert ask(pool, name) == {"failure": failure}
    assert ask(pool, "echo")["bytes"] == 0


def test_neighbours_of_a_dead_or_late_worker_are_unharmed(pool):
    bad = [pool.submit(name, {}, b"") for name in ("die", "hang", "die")]
    good = [pool.submit("echo", {"number": number}, b"") for number in range(20)]
    assert [item.result(timeout=60)["arguments"]["number"] for item in good] == list(range(20))
    assert [item.result(timeout=60)["failure"] for item in bad] == ["died", "timeout", "died"]


def test_what_a_library_prints_does_not_disturb_the_answer(pool):
    assert ask(pool, "chatter") == {"ok": True}


def test_closing_cancels_what_waits_and_blames_no_page():
    closing = WorkerPool(workers_count=1, memory_mb_max=1000, deadline_s=60,
                         handlers="integration.crawler.test_worker_pool")
    waiting = [closing.submit("hang", {}, b"") for _ in range(2)]
    closing.close()
    for answer in (*waiting, closing.submit("hang", {}, b"")):
        with pytest.raises(CancelledError):
            answer.result(timeout=5)


def test_closing_ends_the_processes_at_once():
    pool = WorkerPool(
        workers_count=1, memory_mb_max=1024, deadline_s=60.0, handlers="integration.crawler.test_worker_pool"
    )
    pid = ask(pool, "echo")["pid"]
    pool.submit("hang", {}, b"")
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 5
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_interrupt_of_a_terminal_is_the_parents_alone():
    """A terminal sends it to the whole process group: here a parent's, which takes it and asks its worker again."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False,
                          start_new_session=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\nthe same worker answers\n", "", 0)


INTERRUPTED = """
import os, signal
from xinstruct.crawler.extract_worker import WorkerPool

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal: a background shell has it ignored
pool = WorkerPool(workers_count=1, memory_mb_max=1024, deadline_s=60.0, handlers="integration.crawler.test_worker_pool")
pid = pool.submit("echo", {}, b"").result()["pid"]
try:
    os.killpg(0, signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", flush=True)
if pool.submit("echo", {}, b"").result()["pid"] == pid:
    print("the same worker answers", flush=True)
pool.close()
"""
