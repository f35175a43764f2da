"""Services at work in one process: stages come and go with what the app wants, health tells, a drain loses nothing."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc

from builders import document, pair
from until_idle import run_until_idle
from xinstruct.spine import telemetry
from xinstruct.spine.app import App, Deps, Servicer
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import AdmittedDocument, Payload
from xinstruct.spine.process import Process, ProcessSettings
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.rpc import RpcSettings, channel
from xinstruct.spine.runner import RunnerSettings
from xinstruct.spine.stage import Emit, Outcome, Reject, Stage
from xinstruct.spine.topics import DEAD_LETTERS, DOCUMENT_ADMITTED, PAIR_DRAFTED
from xinstruct.v1 import (
    backgen_service_pb2_grpc,
    crawler_service_pb2_grpc,
    scoring_service_pb2_grpc,
    status_service_pb2,
    status_service_pb2_grpc,
)

SERVICE = "xinstruct.v1.BackgenService"
CRAWLER = "xinstruct.v1.CrawlerService"
SCORING = "xinstruct.v1.ScoringService"
STATUS = "xinstruct.v1.StatusService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Echo:
    """Answers with the request, or raises what it was given."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def submit(self, request: str) -> Future[Any]:
        future: Future[Any] = Future()
        if self.error is None:
            future.set_result(request)
        else:
            future.set_exception(self.error)
        return future

    def close(self) -> None: ...


class Countdown:
    """A loop that has `left` pieces of work."""

    def __init__(self, left: int) -> None:
        self.name = "countdown"
        self.left = left
        self.closed = False

    def step(self) -> bool:
        if self.left == 0:
            return False
        self.left -= 1
        return True

    def pending(self) -> bool:
        return self.left > 0

    def close(self) -> None:
        self.closed = True


class Bench:
    """An app with one stage whose version can be changed, or taken away."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteLog(folder / "log.sqlite", clock=lambda: time.time_ns() // 1_000_000)
        self.deps = Deps(self.log, sa.create_engine("sqlite://"), Blobs(str(folder / "blobs")), {},
                         lambda: time.time_ns() // 1_000_000, folder)
        self.port, self.loop = Echo(), Countdown(3)
        self.versions: tuple[str, ...] = ("1",)
        self.decide: Callable[[AdmittedDocument, str], Sequence[Outcome]] = self._pairs
        servicer = Servicer(SERVICE, backgen_service_pb2_grpc.add_BackgenServiceServicer_to_server,
                            backgen_service_pb2_grpc.BackgenServiceServicer())
        self.app = App(stages=lambda: [self.stage(v) for v in self.versions], loops=[self.loop], servicers=[servicer])

    def _pairs(self, source: AdmittedDocument, version: str) -> Sequence[Outcome]:
        return [Emit(PAIR_DRAFTED, pair(pair_id=slot_id("backgen", version, source.document_id, 0)))]

    def stage(self, version: str) -> Stage:
        def decide(_record: Record, payload: Payload, _answers: Sequence[Any]) -> Sequence[Outcome]:
            assert isinstance(payload, AdmittedDocument)
            return self.decide(payload, version)

        return Stage("backgen", version, version, DOCUMENT_ADMITTED, AdmittedDocument.decode,
                     lambda record, payload: ["x"], decide, self.port)

    def process(self, **bounds: Any) -> Process:
        return Process({"backgen": self.app}, self.deps, rpc=RpcSettings(port=0),
                       runner=RunnerSettings(commit_interval_s=0.05, **bounds), process=ProcessSettings(drain_s=5))

    def put(self, count: int) -> None:
        self.log.append([document(document_id=f"d{n}").record(DOCUMENT_ADMITTED.name) for n in range(count)])

    def pairs(self) -> int:
        return len({record.id for record in self.log.read(PAIR_DRAFTED, {})})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.log.close()


def until(condition: Callable[[], bool], limit_s: float = 15.0) -> None:
    """Wait for another thread; the limit only ends a test that has failed."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def status(process: Process, *, timeout_s: float = 5) -> status_service_pb2.GetStatusResponse:
    with channel(f"127.0.0.1:{process.server.port}") as connection:
        stub = status_service_pb2_grpc.StatusServiceStub(connection)
        return stub.GetStatus(status_service_pb2.GetStatusRequest(), timeout=timeout_s)


def health(process: Process, name: str) -> Any:
    with channel(f"127.0.0.1:{process.server.port}") as connection:
        request = health_pb2.HealthCheckRequest(service=name)
        return health_pb2_grpc.HealthStub(connection).Check(request, timeout=5).status


def test_status_tells_when_everything_is_done(bench: Bench) -> None:
    bench.put(20)
    process = bench.process()
    process.start()
    until(lambda: bool(status(process).stages) and status(process).idle)
    assert bench.pairs() == 20
    assert bench.loop.left == 0
    process.stop()
    assert bench.loop.closed


def test_a_stage_of_a_new_version_replaces_the_old_one_and_reads_anew(bench: Bench) -> None:
    bench.put(5)
    process = bench.process()
    process.start()
    until(lambda: bench.pairs() == 5)
    bench.versions = ("2",)
    until(lambda: bench.pairs() == 10)
    bench.versions = ()
    until(lambda: not status(process).stages)
    process.stop()


def test_health_says_not_serving_while_the_port_does_not_answer(bench: Bench) -> None:
    bench.port.error = Unavailable("the endpoint is down")
    bench.put(3)
    process = bench.process()
    process.start()
    until(lambda: any(s.waiting_for == "the endpoint is down" for s in status(process).stages))
    until(lambda: health(process, SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING)
    bench.port.error = None
    until(lambda: bench.pairs() == 3)
    until(lambda: health(process, SERVICE) == health_pb2.HealthCheckResponse.SERVING)
    process.stop()


class Stuck(Countdown):
    """A loop whose world does not answer, until it is told otherwise."""

    def __init__(self) -> None:
        super().__init__(0)
        self.error: Exception | None = Unavailable("the sites are down", retry_after_s=0.01)

    def step(self) -> bool:
        if self.error is not None:
            raise self.error
        return False


class Watched:
    """Three services in one process, of which the test hinders one after the other."""

    def __init__(self, bench: Bench) -> None:
        self.loop, self.slots = Stuck(), Unavailable("the database is down")
        crawler = Servicer(CRAWLER, crawler_service_pb2_grpc.add_CrawlerServiceServicer_to_server,
                           crawler_service_pb2_grpc.CrawlerServiceServicer())
        scoring = Servicer(SCORING, scoring_service_pb2_grpc.add_ScoringServiceServicer_to_server,
                           scoring_service_pb2_grpc.ScoringServiceServicer())
        self.answers = True
        apps = {"crawler": App(loops=[self.loop], servicers=[crawler]),
                "scoring": App(stages=self.stages, servicers=[scoring], ready=lambda: str(self.stages() or "")),
                "backgen": bench.app}
        self.process = Process(apps, bench.deps, rpc=RpcSettings(port=0), process=ProcessSettings(drain_s=5),
                               runner=RunnerSettings(commit_interval_s=0.05))

    def stages(self) -> Sequence[Stage]:
        if not self.answers:
            raise self.slots
        return ()

    def health(self) -> dict[str, bool]:
        names = {"crawler": CRAWLER, "scoring": SCORING, "backgen": SERVICE, "status": STATUS, "": ""}
        return {short: health(self.process, name) == SERVING for short, name in names.items()}


def test_each_service_is_hindered_by_its_own_stages_and_loops_only(bench: Bench) -> None:
    watched = Watched(bench)
    fine = {"crawler": True, "scoring": True, "backgen": True, "status": True, "": True}
    bench.port.error = Unavailable("the endpoint is down")
    bench.put(3)
    assert not any(watched.health().values())
    watched.process.start()
    until(lambda: watched.health() == fine | {"crawler": False, "backgen": False, "": False})
    watched.loop.error = None
    until(lambda: watched.health() == fine | {"backgen": False, "": False})
    bench.port.error = None
    until(lambda: watched.health() == fine)
    watched.answers = False
    until(lambda: watched.health() == fine | {"scoring": False, "": False})
    watched.process.stop()
    assert watched.process.failure is None


def test_a_bug_in_a_stage_ends_the_process_and_loses_nothing(bench: Bench) -> None:
    def crash(source: AdmittedDocument, version: str) -> Sequence[Outcome]:
        raise ZeroDivisionError

    bench.decide = crash
    bench.put(1)
    process = bench.process()
    process.start()
    process.wait()
    process.stop()
    assert isinstance(process.failure, ZeroDivisionError)
    bench.decide = bench._pairs
    run_until_idle({"backgen": bench.app}, bench.deps, RunnerSettings())
    assert bench.pairs() == 1


def test_a_stage_of_too_many_dead_letters_stops_and_the_process_stays_not_ready_until_the_stage_is_another(
    bench: Bench,
) -> None:
    bench.decide = lambda source, version: [Reject(Broken.BROKEN)] if version == "1" else bench._pairs(source, version)
    bench.put(30)
    process = bench.process(rejected_window_records=10)
    process.start()
    until(lambda: any(stage.stopped for stage in status(process).stages))
    until(lambda: health(process, SERVICE) == NOT_SERVING)
    (stage,) = status(process).stages
    assert "dlq list backgen" in stage.waiting_for and stage.lag_records == 30 and not status(process).idle
    assert health(process, STATUS) == SERVING and process.failure is None
    assert not list(bench.log.read(DEAD_LETTERS["backgen"], {}))
    bench.versions = ("2",)
    until(lambda: bench.pairs() == 30)
    until(lambda: health(process, SERVICE) == SERVING)
    process.stop()


class Broken(StrEnum):
    BROKEN = "broken"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_log_that_cannot_be_written_does_not_keep_a_crashed_process_alive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise ValueError("I/O operation on closed file")

    def crash() -> bool:
        raise ZeroDivisionError

    process = bench.process()
    monkeypatch.setattr(bench.loop, "step", crash)
    monkeypatch.setattr("sys.stderr", Closed())
    telemetry.start(telemetry.TelemetrySettings(), "test")
    process.start()
    ended = process.wait_stopped(10)
    monkeypatch.undo()
    process.stop()
    assert ended and process.failure is not None


def test_a_drained_process_refuses_calls_and_leaves_nothing_half_done(bench: Bench) -> None:
    bench.put(50)
    process = bench.process()
    process.start()
    until(lambda: bench.pairs() > 0)
    begin = time.monotonic()
    process.stop()
    assert time.monotonic() - begin < 10
    with pytest.raises(grpc.RpcError):
        status(process, timeout_s=1)  # shorter than the rest before a second attempt
    run_until_idle({"backgen": bench.app}, bench.deps, RunnerSettings())
    assert len(list(bench.log.read(PAIR_DRAFTED, {}))) == bench.pairs() == 50


def test_stages_that_hang_do_not_add_their_waits_to_the_drain(bench: Bench) -> None:
    hang = threading.Event()

    def step() -> bool:
        hang.wait()
        return False

    loops = [Countdown(0) for _ in range(3)]
    for loop in loops:
        loop.step = step  # type: ignore[method-assign]
    bench.app = replace(bench.app, loops=loops)
    process = Process({"backgen": bench.app}, bench.deps, rpc=RpcSettings(port=0), runner=RunnerSettings(),
                      process=ProcessSettings(drain_s=1))
    process.start()
    begin = time.monotonic()
    process.stop()
    hang.set()
    assert time.monotonic() - begin < 2.5


@pytest.mark.parametrize("which", ["loop", "app"])
def test_what_cannot_be_closed_keeps_nothing_else_from_being_closed(bench: Bench, which: str) -> None:
    def away() -> None:
        raise Unavailable("the database is down")

    later = Countdown(0)
    first = replace(bench.app, close=away) if which == "app" else bench.app
    if which == "loop":
        bench.loop.close = away  # type: ignore[method-assign]
    process = Process({"backgen": first, "crawler": App(loops=[later])}, bench.deps, rpc=RpcSettings(port=0),
                      runner=RunnerSettings(), process=ProcessSettings(drain_s=1))
    process.start()
    process.stop()
    assert later.closed


STORM = """
import faulthandler, signal, time
from typing import Any, cast
from xinstruct.spine.process import Process, ProcessSettings
from xinstruct.spine.rpc import RpcSettings
from xinstruct.spine.runner import RunnerSettings
faulthandler.dump_traceback_later(20, exit=True)
process = Process({}, cast(Any, None), rpc=RpcSettings(port=0), runner=RunnerSettings(), process=ProcessSettings())
signal.signal(signal.SIGALRM, lambda *_: process.request_stop())
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)
end_s = time.monotonic() + 4
while time.monotonic() < end_s:
    process.wait_stopped(0.0001)
signal.setitimer(signal.ITIMER_REAL, 0)
assert process.wait_stopped(0)
process.wait()
"""
"""Thousands of signals, each at another moment of a wait."""


def test_a_signal_that_comes_at_any_moment_of_a_wait_ends_it() -> None:
    done = subprocess.run([sys.executable, "-c", STORM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_run_until_idle_finishes_loops_and_stages_without_threads(bench: Bench) -> None:
    bench.put(7)
    run_until_idle({"backgen": bench.app}, bench.deps, RunnerSettings())
    assert (bench.pairs(), bench.loop.left) == (7, 0)
