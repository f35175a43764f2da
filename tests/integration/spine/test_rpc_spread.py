"""Calls over a channel go to every pod behind a name, and a caller does not see pods go and come."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from integration.spine.names import Names, names
from integration.spine.serving import NAME, call, drafted, serving
from servers import free_port
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.rpc import RETRY_RESTS_S, Server, channel

PATIENCE_S = 20.0
"""Only ends a test that has failed."""
GRACE_S = 5.0
"""Of a server that stops: a call in flight ends within it, whatever else the machine does."""


@pytest.fixture
def name_server() -> Iterator[Names]:
    """A name whose addresses the test chooses."""
    with names() as server:
        yield server


class Pods:
    """Servers on addresses of loopback, one port for all, as pods behind a headless Service."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.port = free_port()
        self.answers: Counter[str] = Counter()
        self._stack = stack
        self._token_file = folder / "token"
        self._token_file.write_text("sesame", "utf-8")

    def start(self, host: str) -> Server:
        """A server at `host` that answers with its address."""
        settings = {"host": host, "port": self.port, "token_file": str(self._token_file)}
        return self._stack.enter_context(serving(lambda: host, **settings))

    def ask(self, connection: grpc.Channel, deadline_s: float = 10.0) -> str:
        """One call; counts who answered."""
        answer = drafted(connection, timeout_s=deadline_s)
        self.answers[answer] += 1
        return answer

    def ask_until(self, connection: grpc.Channel, done: Callable[[], bool]) -> None:
        """Call after call, until `done`."""
        give_up = time.monotonic() + PATIENCE_S
        while not done():
            self.ask(connection)
            assert time.monotonic() < give_up, self.answers


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    """None yet; all are stopped at the end."""
    with ExitStack() as stack:
        yield Pods(stack, tmp_path)


def test_both_servers_behind_one_name_get_calls_and_none_fails_when_one_of_them_stops() -> None:
    with (
        serving(lambda: "first") as first, serving(lambda: "second") as second,
        channel(f"ipv4:127.0.0.1:{first.port},127.0.0.1:{second.port}") as connection,
    ):
        answered: Counter[str] = Counter()
        give_up = time.monotonic() + PATIENCE_S
        while len(answered) < 2:  # the second connection comes a moment after the first
            answered[drafted(connection)] += 1
            assert time.monotonic() < give_up, answered
        assert Counter(drafted(connection) for _ in range(40)) == {"first": 20, "second": 20}

        stopping = threading.Thread(target=first.stop, args=[GRACE_S])
        stopping.start()
        while stopping.is_alive():
            drafted(connection)
        assert {drafted(connection) for _ in range(50)} == {"second"}


def test_pods_that_are_replaced_one_by_one_are_not_noticed(name_server: Names, pods: Pods) -> None:
    running = {host: pods.start(host) for host in ("127.0.0.2", "127.0.0.3")}
    name_server.addresses = tuple(running)
    with channel(name_server.target(pods.port), token="sesame") as connection:
        pods.ask_until(connection, lambda: len(pods.answers) == 2)
        for old, new in (("127.0.0.2", "127.0.0.4"), ("127.0.0.3", "127.0.0.5")):
            running[new] = pods.start(new)
            name_server.addresses = tuple(host for host in running if host != old)
            running.pop(old).stop(GRACE_S)
            pods.ask_until(connection, lambda new=new: pods.answers[new] > 0)
    assert set(pods.answers) == {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}


def test_a_call_outlasts_the_restart_of_the_only_pod_at_another_address(name_server: Names, pods: Pods) -> None:
    name_server.addresses = ("127.0.0.2",)
    only = pods.start("127.0.0.2")
    with channel(name_server.target(pods.port), token="sesame") as connection, ThreadPoolExecutor() as threads:
        assert pods.ask(connection) == "127.0.0.2"
        only.stop(GRACE_S)
        waiting = threads.submit(pods.ask, connection)
        with pytest.raises(TimeoutError):
            waiting.result(RETRY_RESTS_S[0] / 4)  # nobody is there, and the call has not failed
        name_server.addresses = ("127.0.0.3",)
        pods.start("127.0.0.3")
        assert waiting.result(PATIENCE_S) == "127.0.0.3"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (grpc.StatusCode.UNAVAILABLE, "as a proxy or a broken connection says it"),
        (grpc.StatusCode.CANCELLED, "as gRPC's own server says it to a call that comes in the moment it stops"),
    ],
    ids=["unavailable", "cancelled"],
)
def test_a_call_that_nobody_answers_is_tried_three_times_within_ten_seconds(code: grpc.StatusCode, said: str) -> None:
    tried: list[float] = []

    def unanswered(_: Any, context: grpc.ServicerContext) -> None:
        tried.append(time.monotonic())
        context.abort(code, said)

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"DraftInstruction": grpc.unary_unary_rpc_method_handler(unanswered)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAME, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with channel(f"127.0.0.1:{port}") as connection, pytest.raises(grpc.RpcError):
            drafted(connection, timeout_s=30)
    finally:
        server.stop(None)
    rests_s = [after - before for before, after in itertools.pairwise(tried)]
    assert [round(rest_s / planned_s) for rest_s, planned_s in zip(rests_s, RETRY_RESTS_S, strict=True)] == [1, 1]
    assert sum(rests_s) < 10


def test_what_a_service_answers_is_not_asked_again() -> None:
    asked: list[str] = []

    def behaviour() -> str:
        asked.append("call")
        raise Unavailable("no generator is promoted yet", retry_after_s=1)

    with serving(behaviour) as server, pytest.raises(grpc.RpcError, match="no generator") as caught:
        call(server)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert asked == ["call"]
