"""What only Text Generation Inference has: its schema, limits, typed errors and streams. And no hub is ever asked."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from huggingface_hub import TextGenerationOutput, TextGenerationStreamOutput
from huggingface_hub.inference._generated.types.base import BaseInferenceType

import servers
from contract.inference.tgi_server import Limits, TgiServer
from contract.inference.tgi_thread import BadDays, tgi_thread
from xinstruct.inference.local import LocalInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Classified, Classify, Decoding, Generate, Generated, Refused

WAIT_S = 60
LABELS = (" best", " reasonable", " worst")
COUNTS = (
    "max_concurrent_requests", "max_best_of", "max_stop_sequences", "max_input_tokens", "max_total_tokens",
    "validation_workers", "max_client_batch_size",
)
INFO = dict.fromkeys(("model_id", "router", "version"), str) | dict.fromkeys(COUNTS, int)
INFO_OR_NULL = ("docker_label", "model_pipeline_tag", "model_sha", "sha")
"""Schema `Info` of the project's docs/openapi.json, read at 2.4.1: huggingface_hub has a type neither of it nor of
`ErrorResponse`, whose two fields are strings."""


IN_ONE_PIECE, STREAMED = {"deadline_s": 300.0}, {"deadline_s": 5.0}
"""Options with which an answer of 24 tokens comes in one piece, and is streamed."""
both_routes = pytest.mark.parametrize("route", [IN_ONE_PIECE, STREAMED], ids=["in one piece", "streamed"])


@contextmanager
def endpoint(
    folder: Path, bad_days: BadDays | None = None, limits: Limits | None = None, *, token_wait_s: float = 0.0,
    **options: Any,
) -> Iterator[TgiInference]:
    server = TgiServer(str(folder), limits)
    server.token_wait_s, server.keep_alive_s = token_wait_s, 0.05
    with tgi_thread(server, bad_days) as url:
        opened = TgiInference(url, **options)
        yield opened
        opened.close()


def ask(opened: TgiInference, prompt: str = "A text.", model: str = "m", **decoding: Any) -> Any:
    return opened.submit(Generate("generator", model, prompt, Decoding(**{"tokens_max": 24} | decoding))).result(WAIT_S)


def label(opened: TgiInference) -> Any:
    return opened.submit(Classify("evaluator", "m", "Which?", LABELS)).result(WAIT_S)


def local(model: Path, request: Generate) -> Any:
    opened = LocalInference(lambda _role, _digest: model, batch_rows=1)
    answer = opened.submit(request).result(WAIT_S)
    opened.close()
    return answer


def error(kind: str, status: int, message: str = "no") -> web.Response:
    return web.json_response({"error": message, "error_type": kind}, status=status)


# ── The schema ────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_the_servers_answers_have_the_fields_and_types_of_the_published_schema(tiny_model: Path) -> None:
    parameters = {"max_new_tokens": 4, "details": True, "top_n_tokens": 3}
    with tgi_thread(TgiServer(str(tiny_model))) as url:
        output, events = asyncio.run(_raw(url, {"inputs": "A text.", "parameters": parameters}))
    assert _faults(output, TextGenerationOutput) == []
    assert [fault for event in events for fault in _faults(event, TextGenerationStreamOutput)] == []
    assert [event["token"] for event in events] == output["details"]["tokens"]
    assert len(output["details"]["top_tokens"][0]) == len(events[0]["top_tokens"]) == 3


def test_what_it_says_of_itself_has_the_fields_and_types_of_the_published_schema(tiny_model: Path) -> None:
    with tgi_thread(TgiServer(str(tiny_model))) as url:
        info = asyncio.run(_answered(f"{url}/info"))[1]
    assert {name: type(value) for name, value in info.items() if name not in INFO_OR_NULL} == INFO
    assert {type(info.get(name)) for name in INFO_OR_NULL} <= {str, type(None)}


@pytest.mark.parametrize(("limits", "kind", "status"), [
    (Limits(), "validation", 422), (Limits(max_concurrent_requests=0), "overloaded", 429),
])
def test_its_refusals_have_the_published_shape_and_status(
    tiny_model: Path, limits: Limits, kind: str, status: int
) -> None:
    asked = {"inputs": "A text.", "parameters": {"top_n_tokens": 99}}
    with tgi_thread(TgiServer(str(tiny_model), limits)) as url:
        code, body = asyncio.run(_answered(f"{url}/generate", asked))
    assert (code, body["error_type"], set(body)) == (status, kind, {"error", "error_type"})
    assert isinstance(body["error"], str) and body["error"]


async def _answered(url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST of `body`."""
    async with aiohttp.ClientSession() as session, session.request("POST" if body else "GET", url, json=body) as answer:
        return answer.status, await answer.json()


async def _raw(url: str, body: dict[str, Any]) -> tuple[Any, list[Any]]:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/generate", json=body) as answer:
            output = await answer.json()
        async with session.post(f"{url}/generate_stream", json=body) as answer:
            lines = (await answer.text()).split("\n")
    assert "data: [DONE]" not in lines
    return output, [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:{")]


def _faults(value: Any, wanted: Any, path: str = "") -> list[str]:
    """Where `value` is not what the library's generated type says: fields that lack, are unknown, are otherwise."""
    if isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union:
        found = [_faults(value, choice, path) for choice in typing.get_args(wanted)]
        return min(found, key=len)
    if typing.get_origin(wanted) is list:
        (item,) = typing.get_args(wanted)
        return [fault for number, part in enumerate(value) for fault in _faults(part, item, f"{path}[{number}]")]
    if typing.get_origin(wanted) is typing.Literal:
        return [] if value in typing.get_args(wanted) else [f"{path}: {value!r}"]
    if inspect.isclass(wanted) and issubclass(wanted, BaseInferenceType):
        return _object_faults(value, wanted, path)
    return [] if isinstance(value, wanted) else [f"{path}: {value!r} is no {wanted}"]


def _object_faults(value: Any, wanted: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path}: {value!r} is no object"]
    hints = typing.get_type_hints(wanted)
    fields = {name: hints[name] for name in wanted.__dataclass_fields__}
    required = {name for name, field in wanted.__dataclass_fields__.items() if field.default is not None}
    faults = [f"{path}.{name}: lacks" for name in required - set(value)]
    faults += [f"{path}.{name}: unknown" for name in set(value) - set(fields)]
    return faults + [fault for name in value if name in fields for fault in
                     _faults(value[name], fields[name], f"{path}.{name}")]


# ── Answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────

def test_a_greedy_answer_is_that_of_the_same_model_in_process(tiny_model: Path) -> None:
    request = Generate("generator", "m", "A text of a lake.", Decoding(12))
    with endpoint(tiny_model) as opened:
        answer, here = opened.submit(request).result(WAIT_S), local(tiny_model, request)
    assert isinstance(answer, Generated)
    assert (answer.text, answer.finish_reason) == (here.text, here.finish_reason)
    assert (answer.prompt_tokens, answer.answer_tokens) == (here.prompt_tokens, here.answer_tokens)
    assert answer.mean_log_probability == pytest.approx(here.mean_log_probability, abs=1e-4)


def test_a_streamed_answer_is_the_one_that_comes_in_one_piece(tiny_model: Path) -> None:
    bad_days = BadDays()
    with endpoint(tiny_model, bad_days, **STREAMED) as opened:
        streamed = ask(opened)
    with endpoint(tiny_model, **IN_ONE_PIECE) as opened:
        assert ask(opened) == streamed
    assert bad_days.asked[-1][0] == "/generate_stream"


def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(tiny_model: Path) -> None:
    with endpoint(tiny_model) as opened:
        whole = ask(opened, tokens_max=30).text
        stop = whole[len(whole) // 2]
        answer = ask(opened, tokens_max=30, stop=(stop,))
    assert (answer.text, answer.finish_reason) == (whole[: whole.index(stop)].strip(), "stop")


def test_stop_strings_beyond_the_servers_limit_end_the_answer_as_well(tiny_model: Path) -> None:
    with endpoint(tiny_model, limits=Limits(max_stop_sequences=2)) as opened:
        whole = ask(opened, tokens_max=30).text
        stop = whole[len(whole) // 2]
        answer = ask(opened, tokens_max=30, stop=("never", "neither", stop))
    assert answer.text == whole[: whole.index(stop)].strip()


def test_sampling_follows_the_seed(tiny_model: Path) -> None:
    bad_days = BadDays()
    with endpoint(tiny_model, bad_days) as opened:
        texts = [ask(opened, tokens_max=30, temperature=1.5, top_p=0.9, seed=seed).text for seed in (0, 0, 7)]
    assert texts[0] == texts[1] != texts[2]
    assert [asked["seed"] for _, asked in bad_days.asked[-3:]] == [1, 1, 8]  # the published schema takes no 0


def test_label_probabilities_are_those_of_the_top_tokens_that_hold_every_label(tiny_model: Path) -> None:
    parameters = {"max_new_tokens": 1, "details": True, "top_n_tokens": 20}
    with tgi_thread(TgiServer(str(tiny_model), Limits(max_top_n_tokens=20))) as url:
        output, _ = asyncio.run(_raw(url, {"inputs": "Which?", "parameters": parameters}))
        masses: dict[str, float] = {}
        for token in output["details"]["top_tokens"][0]:
            letter = token["text"].strip().casefold()
            if letter.isalpha() and len(letter) == 1:
                masses[letter] = masses.get(letter, 0.0) + math.exp(token["logprob"])
        labels = tuple(masses)[:2]  # a random model knows no labels: letters stand for them
        opened = TgiInference(url)
        assert opened.probe().label_probabilities
        answer = opened.submit(Classify("evaluator", "m", "Which?", labels)).result(WAIT_S)
        opened.close()
    assert isinstance(answer, Classified) and answer.votes_count == 0
    total = sum(masses[label] for label in labels)
    assert answer.probabilities == pytest.approx([masses[label] / total for label in labels])


def test_labels_outside_the_top_tokens_are_refused_by_name(tiny_model: Path) -> None:
    with endpoint(tiny_model) as opened:
        answer = label(opened)
    assert isinstance(answer, Refused) and answer.reason == "no_label"


def test_without_top_tokens_and_votes_labels_are_waited_for_with_what_to_change(tiny_model: Path) -> None:
    with endpoint(tiny_model, limits=Limits(max_top_n_tokens=0)) as opened:
        assert not opened.probe().label_probabilities
        with pytest.raises(Unavailable, match="--max-top-n-tokens"):
            label(opened)


def test_votes_are_sampled_with_a_seed_each(tiny_model: Path) -> None:
    bad_days = BadDays()
    with endpoint(tiny_model, bad_days, limits=Limits(max_top_n_tokens=0), votes_count=3) as opened:
        label(opened)
    seeds = sorted(asked["seed"] for _, asked in bad_days.asked if asked.get("do_sample"))
    assert seeds == [1, 2, 3]


# ── Limits and errors ─────────────────────────────────────────────────────────────────────────────────────────────────

@both_routes
@pytest.mark.parametrize(("given", "asked", "reason"), [
    ("word " * 400, {}, "too_long"), ("", {}, "malformed"), ("x", {"top_p": 0.0, "temperature": 1.0}, "malformed"),
])
def test_a_validation_error_is_an_answer(
    tiny_model: Path, given: str, asked: dict[str, Any], reason: str, route: dict[str, float]
) -> None:
    with endpoint(tiny_model, **route) as opened:
        answer = ask(opened, given, **asked)
        assert isinstance(answer, Refused) and answer.reason == reason
        assert isinstance(ask(opened), Generated)


def test_a_body_that_the_server_does_not_take_is_too_long(tiny_model: Path) -> None:
    with endpoint(tiny_model) as opened:
        assert ask(opened, "word " * 500_000).reason == "too_long"


@both_routes
def test_too_many_requests_never_consume_an_attempt(tiny_model: Path, route: dict[str, float]) -> None:
    limits = Limits(max_concurrent_requests=1)
    with endpoint(tiny_model, limits=limits, attempts_max=1, **route) as opened:
        futures = [opened.submit(Generate("generator", "m", f"Text {n}", Decoding(24))) for n in range(6)]
        assert all(isinstance(future.result(WAIT_S), Generated) for future in futures)


def test_a_wait_that_a_proxy_asks_for_is_taken(tiny_model: Path) -> None:
    busy = [web.Response(status=429, headers={"Retry-After": "0"}) for _ in range(20)]
    with endpoint(tiny_model, BadDays(answers=[*busy]), attempts_max=1) as opened:
        assert isinstance(ask(opened), Generated)  # with waits of its own it would take minutes


@pytest.mark.parametrize("failure", [
    lambda: error("generation", 424), lambda: error("incomplete_generation", 500), lambda: web.Response(status=503),
    lambda: web.Response(text="<html>"), lambda: web.json_response({}), lambda: ConnectionError,
], ids=["generation", "incomplete", "proxy", "page", "other answer", "broken connection"])
def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_unavailable(tiny_model: Path, failure: Any) -> None:
    with endpoint(tiny_model, BadDays(answers=[failure()]), attempts_max=2) as opened:
        assert isinstance(ask(opened), Generated)
    with endpoint(tiny_model, BadDays(answers=[failure()]), attempts_max=1) as opened:
        with pytest.raises(Unavailable, match="does not answer"):
            ask(opened)
        assert isinstance(ask(opened), Generated)


@pytest.mark.parametrize("body", [
    b"", b'data:{"index":1,"token":{"id":1,"text":"a","logprob":-1.0,"special":false}}\n\n',
    b'data:{"error":"gone","error_type":"generation"}\n\n',
], ids=["empty", "broken off", "an error in the middle"])
def test_a_stream_that_does_not_end_is_tried_again(tiny_model: Path, body: bytes) -> None:
    answers: list[Any] = [web.Response(body=body, content_type="text/event-stream")]
    with endpoint(tiny_model, BadDays(answers=answers), attempts_max=2, **STREAMED) as opened:
        assert isinstance(ask(opened), Generated)


def test_a_slow_answer_is_waited_for_as_long_as_tokens_come(tiny_model: Path) -> None:
    with endpoint(tiny_model, token_wait_s=0.15, deadline_s=1.0, attempts_max=2) as opened:
        assert ask(opened, tokens_max=10).answer_tokens == 10  # a second and a half in all, twice in one piece


def test_silence_is_a_failure_whatever_comments_come(tiny_model: Path) -> None:
    server = TgiServer(str(tiny_model))
    server.keep_alive_s = 0.05
    with tgi_thread(server) as url:
        opened = TgiInference(url, deadline_s=1.0, attempts_max=1)
        assert isinstance(ask(opened), Generated)
        server.token_wait_s = 60.0
        with pytest.raises(Unavailable, match="does not answer"):
            ask(opened)
        opened.close()


def test_never_more_calls_are_in_flight_than_allowed(tiny_model: Path) -> None:
    bad_days = BadDays()
    with endpoint(tiny_model, bad_days, calls_max=2) as opened:
        futures = [opened.submit(Generate("generator", "m", f"Text {n}", Decoding(3))) for n in range(20)]
        assert all(isinstance(future.result(WAIT_S), Generated) for future in futures)
    assert bad_days.in_flight_max <= 2


def test_a_server_that_is_down_is_unavailable() -> None:
    opened = TgiInference(f"http://127.0.0.1:{servers.free_port()}", attempts_max=1)
    with pytest.raises(Unavailable):
        opened.probe()
    opened.close()


def test_another_server_is_named_as_such() -> None:
    from contract.inference.openai_stub import Behaviour, openai_stub

    with openai_stub(Behaviour()) as url:
        opened = TgiInference(url)
        with pytest.raises(Unavailable, match="set `kind` to openai"):
            opened.probe()
        opened.close()


@pytest.mark.parametrize(("configured", "registered"), [("other", "m"), ("", "endpoint:other")])
def test_another_model_than_the_served_one_is_waited_for(tiny_model: Path, configured: str, registered: str) -> None:
    with endpoint(tiny_model, model=configured) as opened, pytest.raises(Unavailable, match="not 'other'"):
        ask(opened, model=registered)


def test_the_served_model_is_asked_by_its_name(tiny_model: Path) -> None:
    with endpoint(tiny_model, model=str(tiny_model)) as opened:
        assert opened.probe().model == str(tiny_model)
        assert isinstance(ask(opened, model=f"endpoint:{tiny_model}"), Generated)


# ── Keys, and the hub ─────────────────────────────────────────────────────────────────────────────────────────────────

def test_a_wrong_key_is_unavailable_and_the_right_one_is_sent(tiny_model: Path) -> None:
    with endpoint(tiny_model, BadDays(key="right"), api_key="right") as opened:
        assert isinstance(ask(opened), Generated)
    refused = pytest.raises(Unavailable, match="api_key")
    with endpoint(tiny_model, BadDays(key="right"), api_key="wrong") as opened, refused:
        ask(opened)


def test_whoever_is_logged_in_to_the_hub_shows_no_token_to_the_server(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    bad_days = BadDays()
    with endpoint(tiny_model, bad_days, **STREAMED) as opened:
        assert isinstance(ask(opened), Generated)
        assert isinstance(ask(opened, tokens_max=2), Generated)
    assert "hf_secret" not in str(bad_days.headers)


@pytest.mark.parametrize("offline", [True, False])
def test_nothing_but_the_server_is_ever_connected_to(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    import socket

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    looked_up: list[str] = []
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: looked_up.append(host) or real(
        host, *rest, **more))  # type: ignore[func-returns-value]
    moved = web.Response(status=307, headers={"Location": "http://elsewhere.invalid/generate"})
    with endpoint(tiny_model, BadDays(answers=[moved]), attempts_max=2, **STREAMED) as opened:
        assert opened.probe().model == str(tiny_model)
        assert isinstance(ask(opened, tokens_max=2), Generated)
        assert isinstance(ask(opened), Generated)
        label(opened)
    assert set(looked_up) <= {"127.0.0.1"}
