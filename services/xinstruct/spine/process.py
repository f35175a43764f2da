"""Runs built services in one process: a thread a stage, a thread a loop, one gRPC port; drains on demand.

Health: a service is SERVING while its own stages and loops have what they need; "" (readiness) while every service is;
StatusService (liveness) from start to drain, whatever they wait for: a restart brings no endpoint back.

A stage that crashes (a bug) ends the whole process: the exit code says so and whoever started it starts it again. What
is finished is committed within the drain time; what is not is read again by the next start. A stage that stops for too
many dead letters ends alone, and the process stays, not ready: started again by whoever watches it, the stage would go
on filling the dead letters.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from xinstruct.spine import telemetry
from xinstruct.spine.app import App, Deps, Loop, Servicer
from xinstruct.spine.config import Settings
from xinstruct.spine.errors import Unavailable, XinstructError
from xinstruct.spine.rpc import RpcSettings, Server
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.stage import Stage
from xinstruct.v1 import status_service_pb2
from xinstruct.v1.status_service_pb2_grpc import StatusServiceServicer, add_StatusServiceServicer_to_server

SUPERVISE_S = 0.25
LOOP_REST_S, LOOP_REST_S_MAX = 0.1, 0.5
"""A loop that finds nothing to do rests, twice as long each time: seven that look ten times a second cost a sixth of a
core."""
UNAVAILABLE_REST_S = 1.0
LAST_COMMIT_S = 1.5
STATUS_SERVICE: str = status_service_pb2.DESCRIPTOR.services_by_name["StatusService"].full_name


class ProcessSettings(Settings):
    """How a process runs what it was given."""

    drain_s: float = 6.5
    """Time from SIGTERM in which finished work is committed and calls end. A second later the process is gone: with a
    pod's two seconds before SIGTERM that is within 10 s."""


@dataclass(slots=True)
class _Running:
    """A stage of a service at work."""

    service: str
    stage: Stage
    runner: Runner
    thread: threading.Thread


class Process:
    """Services at work. `start`, then `wait`; `stop` from anywhere."""

    def __init__(
        self, apps: Mapping[str, App], deps: Deps, *, rpc: RpcSettings, runner: RunnerSettings, process: ProcessSettings
    ) -> None:
        self._apps = apps
        self._deps = deps
        self._runner_settings = runner
        self.settings = process
        self._stopping = threading.Event()
        self._end_asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        """What wait() reads, once something is in it for ever. An Event would not do: its lock may be held by the very
        thread that a signal handler interrupts, and neither would go on."""
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}
        self._loops: list[threading.Thread] = []
        self._waiting: dict[str, dict[str, str]] = {name: {} for name in apps}
        self.failure: BaseException | None = None
        """What ended the process, None while all is well."""
        status = Servicer(STATUS_SERVICE, add_StatusServiceServicer_to_server, _StatusServicer(self))
        self.server = Server(rpc, [status, *(servicer for app in apps.values() for servicer in app.servicers)])

    def start(self) -> None:
        """Start every loop and stage; returns at once."""
        for name, app in self._apps.items():
            for loop in app.loops:
                work = partial(self._run_loop, loop, self._waiting[name])
                self._loops.append(self._thread(f"loop-{loop.name}", work))
        self._thread("supervisor", self._supervise)
        self.server.set_health(STATUS_SERVICE, "")

    def wait(self) -> None:
        """Block until stop() was called or something crashed."""
        self.wait_stopped(None)

    def wait_stopped(self, wait_s: float | None) -> bool:
        """As wait, for at most `wait_s` (None: without an end); whether the process is to stop."""
        with suppress(queue.Empty):
            self._end_asked.get(timeout=wait_s)
            self._let_end()
        return self._stopping.is_set()

    def request_stop(self) -> None:
        """Make wait() return; safe in a signal handler."""
        self._end_asked.put(None)

    def crashed(self, thread: str, error: BaseException) -> None:
        """End the process for a bug that ended that thread of it."""
        self.failure = self.failure or error
        # First: a log that cannot be written must not keep a crashed process alive.
        self._let_end()
        telemetry.logger().error("crashed", thread=thread, exc_info=error)

    def stop(self) -> None:
        """Drain: commit what is finished, end calls, leave everything so that the next start goes on.

        What is at work after drain_s is abandoned, as by a kill; closing may take longer (`end` bounds both). So is
        what cannot be closed, while the database is away, say; it is logged.
        """
        self._let_end()
        deadline_s = time.monotonic() + self.settings.drain_s
        with self._lock:
            running = list(self._running.values())
        for item in running:
            item.runner.stop(self._answers_s())
        self.server.stop(self.settings.drain_s / 2)
        for thread in [item.thread for item in running] + self._loops:
            thread.join(max(deadline_s - time.monotonic(), 0.0))
        for name, app in self._apps.items():
            for loop in app.loops:
                _close(f"loop-{loop.name}", loop.close)
            _close(name, app.close)

    def status(self) -> status_service_pb2.GetStatusResponse:
        """What the process is doing now."""
        response = status_service_pb2.GetStatusResponse(version=version("xinstruct"), instance=self._deps.instance)
        for name, app in self._apps.items():
            response.services.add(service=name, not_ready=app.ready())
            for loop in sorted(app.loops, key=lambda loop: loop.name):
                response.loops.add(loop=loop.name, pending=loop.pending())
        with self._lock:
            running = [self._running[name] for name in sorted(self._running)]
        for item in running:
            stage = item.stage
            response.stages.add(
                stage=stage.name, stage_version=stage.version, in_flight_records=item.runner.in_flight(),
                lag_records=self._deps.log.lag(stage.name, stage.source, stage.position_version),
                waiting_for=item.runner.waiting_for, stopped=item.runner.stopped,
            )
        busy = any(s.lag_records or s.in_flight_records for s in response.stages)
        response.idle = not busy and not any(loop.pending for loop in response.loops)
        return response

    # ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _supervise(self) -> None:
        while not self._stopping.wait(SUPERVISE_S):
            hindrances = {name: self._look_after(name, app) for name, app in self._apps.items()}
            for name, app in self._apps.items():
                for servicer in app.servicers:
                    self.server.set_health(servicer.name, hindrances[name])
            self.server.set_health("", "; ".join(filter(None, hindrances.values())))

    def _look_after(self, name: str, app: App) -> str:
        """Make what runs what the service wants; why it cannot work now, empty when it can."""
        try:
            self._match_stages(name, app)
            not_ready = app.ready()
        except Unavailable as error:
            not_ready = error.message
        with self._lock:
            stuck = [item.runner.waiting_for for item in self._running.values() if item.service == name]
        return "; ".join(filter(None, [not_ready, *stuck, *self._waiting[name].values()]))

    def _match_stages(self, service: str, app: App) -> None:
        """Start, restart or stop runners so that what runs is what the service wants."""
        wanted = {stage.name: stage for stage in app.stages()}
        for name, item in list(self._running.items()):
            stage = wanted.get(name)
            if item.service == service and (stage is None or _identity(stage) != _identity(item.stage)):
                self._end(name)
        for name, stage in wanted.items():
            if name not in self._running and not self._stopping.is_set():
                self._begin(service, stage)

    def _begin(self, service: str, stage: Stage) -> None:
        deps = self._deps
        runner = Runner(stage, deps.log, blobs=deps.blobs, clock=deps.clock, settings=self._runner_settings)
        thread = self._thread(f"stage-{stage.name}", runner.run)
        with self._lock:
            self._running[stage.name] = _Running(service, stage, runner, thread)
        telemetry.logger().info("stage_started", stage=stage.name, version=stage.version)

    def _end(self, name: str) -> None:
        item = self._running[name]
        item.runner.stop(self._answers_s())
        item.thread.join(self.settings.drain_s)
        with self._lock:
            self._running.pop(name, None)
        telemetry.logger().info("stage_ended", stage=name)

    def _answers_s(self) -> float:
        """What a stage waits for answers at its end: its drain, less what a commit and leaving the group take."""
        return max(self.settings.drain_s - LAST_COMMIT_S, 0.0)

    def _run_loop(self, loop: Loop, waiting: dict[str, str]) -> None:
        rest_s = LOOP_REST_S
        while not self._stopping.is_set():
            try:
                worked = loop.step()
                waiting[loop.name] = ""
            except Unavailable as error:
                waiting[loop.name] = error.message
                telemetry.logger().warning("loop_waits", loop=loop.name, reason=error.message)
                self._stopping.wait(error.retry_after_s or UNAVAILABLE_REST_S)
                continue
            if not worked:
                self._stopping.wait(rest_s)
            rest_s = LOOP_REST_S if worked else min(2 * rest_s, LOOP_REST_S_MAX)

    def _let_end(self) -> None:
        self._stopping.set()
        self._end_asked.put(None)

    def _thread(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - the outermost entry of a thread: log once, end the process
                self.crashed(name, error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


def _close(name: str, close: Callable[[], None]) -> None:
    try:
        close()
    except XinstructError as error:
        telemetry.logger().warning("not_closed", name=name, reason=error.message)


def _identity(stage: Stage) -> tuple[str, str, str]:
    return stage.name, stage.version, stage.position_version


class _StatusServicer(StatusServiceServicer):
    def __init__(self, process: Process) -> None:
        self._process = process

    def GetStatus(
        self, request: status_service_pb2.GetStatusRequest, context: object
    ) -> status_service_pb2.GetStatusResponse:
        """See status_service.proto."""
        return self._process.status()
