"""Where a command's questions go: to the process that serves them, or to the home folder opened in this one.

Everything goes over gRPC, also to the services opened here: there is one way to ask, and a command cannot tell.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from xinstruct.spine.errors import Conflict, Unavailable

if TYPE_CHECKING:
    import grpc

    from xinstruct.home import Home
    from xinstruct.settings import XinstructSettings
    from xinstruct.spine.app import Deps
    from xinstruct.spine.certificates import Tls
    from xinstruct.spine.process import Process
    from xinstruct.v1 import (
        backgen_service_pb2_grpc,
        crawler_service_pb2_grpc,
        curation_service_pb2_grpc,
        scoring_service_pb2_grpc,
        status_service_pb2_grpc,
        training_service_pb2_grpc,
    )

DEADLINE_S = 60.0
"""Of a call that only looks something up."""
LONG_DEADLINE_S = 290.0
"""Of a call that computes: a draft, a release. Just below the longest that servers allow."""
CONFIG_FILE = "xinstruct.yaml"
"""Read from the current folder when --config is not given."""
CONNECT_S = 5.0
PATIENCE_REST_S = 0.3
STAND_INS = {"scoring": ("scoring-a", "scoring-b")}
"""Target → targets that serve the same service."""

RequestT = TypeVar("RequestT", contravariant=True)
ResponseT = TypeVar("ResponseT")


class Work(Enum):
    """What a command needs when no process serves the home folder: only its servicers, or its loops as well."""

    READ = "read"
    CHANGE = "change"


class Client:
    """Stubs of every service, and calls that raise the errors of spine/errors.py."""

    def __init__(
        self, settings: XinstructSettings, channel_of: Callable[[str], grpc.Channel], *, patience_s: float = 0.0,
        opened_for: Work | None = None,
    ) -> None:
        """`patience_s`: how long a call that meets nobody is repeated, for servers that are being started again.

        `opened_for`: why this command has opened the services itself; None: they are served by others.
        """
        self.settings = settings
        self.alone = opened_for is Work.READ
        """Whether no loop of the services runs anywhere, as far as this command can see."""
        self._channel_of = channel_of
        self._patience_s = patience_s

    @property
    def crawler(self) -> crawler_service_pb2_grpc.CrawlerServiceStub:
        """The crawler."""
        from xinstruct.v1.crawler_service_pb2_grpc import CrawlerServiceStub

        return CrawlerServiceStub(self._channel_of("crawler"))

    @property
    def backgen(self) -> backgen_service_pb2_grpc.BackgenServiceStub:
        """Back-generation."""
        from xinstruct.v1.backgen_service_pb2_grpc import BackgenServiceStub

        return BackgenServiceStub(self._channel_of("backgen"))

    @property
    def scoring(self) -> scoring_service_pb2_grpc.ScoringServiceStub:
        """Scoring."""
        from xinstruct.v1.scoring_service_pb2_grpc import ScoringServiceStub

        return ScoringServiceStub(self._channel_of("scoring"))

    @property
    def training(self) -> training_service_pb2_grpc.TrainingServiceStub:
        """Training and the model registry."""
        from xinstruct.v1.training_service_pb2_grpc import TrainingServiceStub

        return TrainingServiceStub(self._channel_of("training"))

    @property
    def curation(self) -> curation_service_pb2_grpc.CurationServiceStub:
        """Catalog, releases, reviews, takedowns, dead letters."""
        from xinstruct.v1.curation_service_pb2_grpc import CurationServiceStub

        return CurationServiceStub(self._channel_of("curation"))

    def status_of(self, target: str) -> status_service_pb2_grpc.StatusServiceStub:
        """The status of the process that runs `target`."""
        from xinstruct.v1.status_service_pb2_grpc import StatusServiceStub

        return StatusServiceStub(self._channel_of(target))

    def ask(
        self, method: _Unary[RequestT, ResponseT], request: RequestT, *, deadline_s: float = DEADLINE_S
    ) -> ResponseT:
        """The response of a unary call; one of the five errors when it fails."""
        import grpc

        from xinstruct.spine.rpc import error_of

        give_up_s = time.monotonic() + self._patience_s
        while True:
            try:
                return method(request, timeout=deadline_s)
            except grpc.RpcError as error:
                known = error_of(error)
                if not isinstance(known, Unavailable) or time.monotonic() >= give_up_s:
                    raise known from error
                time.sleep(PATIENCE_REST_S)

    def watch(
        self, method: _Stream[RequestT, ResponseT], request: RequestT, *, deadline_s: float | None = None
    ) -> Iterator[ResponseT]:
        """Messages of a stream, until it ends or the caller stops asking; one of the five errors when it fails.

        Servers ask for `deadline_s` unless the method is named Watch….
        """
        import grpc

        from xinstruct.spine.rpc import error_of

        stream = method(request, timeout=deadline_s)
        try:
            yield from stream
        except grpc.RpcError as error:
            raise error_of(error) from error
        finally:
            stream.cancel()  # type: ignore[attr-defined]  # every gRPC stream has it

    def pages(self, method: _Unary[Any, Any], request: Any, *, items: str) -> Iterator[Any]:
        """The items of every page of a List… call; `items` names the repeated field of the response."""
        while True:
            response = self.ask(method, request)
            yield from getattr(response, items)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token


class _Unary(Protocol[RequestT, ResponseT]):  # type: ignore[misc]  # the response is read only
    def __call__(self, request: RequestT, /, *, timeout: float | None = None) -> ResponseT: ...


class _Stream(Protocol[RequestT, ResponseT]):  # type: ignore[misc]  # the response is read only
    def __call__(self, request: RequestT, /, *, timeout: float | None = None) -> Iterator[ResponseT]: ...


@contextmanager
def connect(config: Path | None, work: Work = Work.READ) -> Iterator[Client]:
    """A client for the duration of a command, for the configuration at `config` (see `read_settings`).

    With a SQLite log and nobody at work in the home folder, the services that are asked run in this process; with
    Work.CHANGE their loops and stages too. Unavailable when somebody holds the home folder and does not answer.
    """
    settings = read_settings(config)
    if settings.log.kind == "kafka":
        yield from _remote(settings)
        return
    from xinstruct.home import Home

    try:
        home = Home(settings.home_path())
    except Conflict:
        yield from _remote(settings)
        return
    opened = _Opened(settings, home, work)
    try:
        yield Client(settings, opened.channel, opened_for=work)
    finally:
        opened.close()


def read_settings(config: Path | None, targets: Sequence[str] = ()) -> XinstructSettings:
    """The settings in `config`, for a process that runs `targets`; without it ./xinstruct.yaml, or the defaults where
    there is none."""
    from xinstruct.settings import XinstructSettings, load_settings

    if config is None and Path(CONFIG_FILE).exists():
        config = Path(CONFIG_FILE)
    return XinstructSettings() if config is None else load_settings(config, targets)


def served_at(settings: XinstructSettings, target: str) -> str:
    """ "host:port" of the process that runs `target`."""
    host = settings.rpc.host if settings.rpc.host not in ("0.0.0.0", "::") else "127.0.0.1"
    served = [settings.addresses[name] for name in (target, *STAND_INS.get(target, ())) if name in settings.addresses]
    return served[0] if served else f"{host}:{settings.rpc.port}"


@contextmanager
def connect_to(settings: XinstructSettings, *, patience_s: float = 0.0) -> Iterator[Client]:
    """A client of the processes at the configured addresses. Unavailable when a call meets nobody for `patience_s`."""
    yield from _remote(settings, patience_s=patience_s)


def _remote(settings: XinstructSettings, *, patience_s: float = 0.0) -> Iterator[Client]:
    from xinstruct.spine import rpc

    channels: dict[tuple[str, Tls | None], grpc.Channel] = {}
    token = Path(settings.rpc.token_file).read_text("utf-8").strip() if settings.rpc.token_file else ""

    def channel(target: str) -> grpc.Channel:
        # Read each time: a command that waits for a training run may outlive its certificate. A channel cannot change
        # what it brings, and the one before may still have a stream open.
        address, tls = served_at(settings, target), rpc.tls_of(settings.rpc)
        if (address, tls) not in channels:
            _require_listener(address, target)
            channels[address, tls] = rpc.channel(address, token=token, tls=tls)
        return channels[address, tls]

    try:
        yield Client(settings, channel, patience_s=patience_s)
    finally:
        for opened in channels.values():
            opened.close()


def _require_listener(address: str, target: str) -> None:
    """Unavailable, with a sentence that says what to do, when nobody listens at `address`.

    Elsewhere a pod may just be replaced: it is asked as often as a call is tried. On this machine nobody is to come.
    """
    import socket

    from xinstruct.spine import rpc

    host, _, port = address.rpartition(":")
    rests_s = [] if host in ("127.0.0.1", "localhost", "[::1]") else list(rpc.RETRY_RESTS_S)
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
            return
        except OSError as error:
            if not rests_s:
                raise Unavailable(
                    f"nobody serves {target} at {address}: start it with `xinstruct up`, or correct rpc.port or "
                    "addresses in the configuration"
                ) from error
        time.sleep(rests_s.pop(0))


class _Opened:
    """Services of a home folder in this process, each built when it is first asked."""

    def __init__(self, settings: XinstructSettings, home: Home, work: Work) -> None:
        self._settings = settings
        self._home = home
        self._work = work
        self._deps: Deps | None = None
        self._processes: dict[str, Process] = {}
        self._channels: dict[str, grpc.Channel] = {}

    def channel(self, target: str) -> grpc.Channel:
        """A channel to `target`, which is built and served here at the first call."""
        from xinstruct.spine import rpc

        if target not in self._channels:
            process = self._open(target)
            self._channels[target] = rpc.channel(f"127.0.0.1:{process.server.port}")
        return self._channels[target]

    def close(self) -> None:
        """Drain what was started, release the folder."""
        for channel in self._channels.values():
            channel.close()
        for process in self._processes.values():
            process.stop()
        if self._deps is not None:
            for endpoint in self._deps.inference.values():
                endpoint.close()
            self._deps.log.close()
            self._deps.database.dispose()
        self._home.close()

    def _open(self, target: str) -> Process:
        from xinstruct.spine.process import Process
        from xinstruct.targets import TARGETS, build_deps

        if self._deps is None:
            _log_errors_only(self._settings)
            self._deps = build_deps(self._settings, process="cli")
        app = TARGETS[target](self._settings, self._deps)
        rpc = self._settings.rpc.model_copy(
            update={
                "host": "127.0.0.1",
                "port": 0,
                "health_port": 0,
                "token_file": "",
                "tls_certificate_file": "",
                "tls_client_ca_file": "",
            }
        )
        process = Process(
            {target: app}, self._deps, rpc=rpc, runner=self._settings.runner, process=self._settings.process
        )
        self._processes[target] = process
        if self._work is Work.CHANGE:
            process.start()
        return process


def _log_errors_only(settings: XinstructSettings) -> None:
    """A command's stderr is for its own sentence; what services have to say goes there only when it is an error."""
    from xinstruct.spine import telemetry

    quiet = settings.telemetry.model_copy(update={"log_level": "ERROR", "metrics_port": 0, "traces_endpoint": ""})
    telemetry.start(quiet, "cli")
    sys.stdout.flush()
