"""A predictor's bad days: what the adapter makes of them. Against a stub, which can be made to have them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import servers
from contract.inference.backends import LABELS
from contract.inference.v2_stub import BadDays, v2_stub
from xinstruct.inference.kserve_v2 import PROBE_S, ROWS_A_CALL, KServeInference
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Classified, Classify

WAIT_S = 60


@contextmanager
def endpoint(days: BadDays, **options: Any) -> Iterator[KServeInference]:
    days.held.set()
    with v2_stub(days) as url:
        opened = KServeInference(url, **options)
        yield opened
        opened.close()


def label(opened: KServeInference, text: str = "Which?", model: str = "sha256:here") -> Any:
    return opened.submit(Classify("evaluator", model, text, LABELS)).result(WAIT_S)


def test_too_many_requests_never_consume_an_attempt() -> None:
    with endpoint(BadDays(overloads=12), attempts_max=1) as opened:
        assert isinstance(label(opened), Classified)


@pytest.mark.parametrize("fault", ["failures", "garbage"])
def test_a_passing_failure_is_tried_again(fault: str) -> None:
    with endpoint(BadDays(**{fault: 1}), attempts_max=2) as opened:  # type: ignore[arg-type]
        assert isinstance(label(opened), Classified)


@pytest.mark.parametrize("fault", ["failures", "garbage"])
def test_a_lasting_failure_is_unavailable(fault: str) -> None:
    lasting = endpoint(BadDays(**{fault: 99}), attempts_max=2)  # type: ignore[arg-type]
    with lasting as opened, pytest.raises(Unavailable, match="does not answer"):
        label(opened)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_down_is_unavailable(scheme: str) -> None:
    opened = KServeInference(f"{scheme}://127.0.0.1:{servers.free_port()}", attempts_max=1)
    with pytest.raises(Unavailable):
        opened.probe()
    with pytest.raises(Unavailable):
        label(opened)
    opened.close()


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_takes_connections_and_says_nothing_is_unavailable_within_seconds(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        served, start_s = KServeInference(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"), time.monotonic()
        try:
            with pytest.raises(Unavailable):
                served.probe()
        finally:
            served.close()
    assert time.monotonic() - start_s < 2 * PROBE_S


def test_a_wrong_key_is_unavailable_and_says_where_keys_are_set() -> None:
    with endpoint(BadDays(key="right"), api_key="wrong") as opened, pytest.raises(Unavailable, match="api_key"):
        label(opened)


def test_the_right_key_is_sent() -> None:
    with endpoint(BadDays(key="right"), api_key="right") as opened:
        assert isinstance(label(opened), Classified)


def test_the_registered_name_of_a_model_is_asked_for() -> None:
    with endpoint(BadDays(model="mine")) as opened:
        assert isinstance(label(opened, model="endpoint:mine"), Classified)


def test_what_waits_goes_into_one_call_and_no_call_holds_more_than_its_rows() -> None:
    days = BadDays()
    with endpoint(days, calls_max=1) as opened:
        days.held.clear()
        asked = [opened.submit(Classify("evaluator", days.model, "First", LABELS))]
        while not days.rows:
            time.sleep(0.01)  # until the server holds the first call
        asked += [opened.submit(Classify("evaluator", days.model, f"Text {n}", LABELS)) for n in range(40)]
        days.held.set()
        assert all(isinstance(future.result(WAIT_S), Classified) for future in asked)
    assert days.rows == [1, ROWS_A_CALL, 40 - ROWS_A_CALL]


def test_a_call_in_flight_is_abandoned_when_the_endpoint_is_closed() -> None:
    days = BadDays()
    with v2_stub(days) as url:
        opened = KServeInference(url, calls_max=1)
        asked = [opened.submit(Classify("evaluator", days.model, f"Text {number}", LABELS)) for number in range(3)]
        opened.close()
        days.held.set()
        assert {type(future.exception(WAIT_S)) for future in asked} == {Unavailable}
