"""A server's bad days, and servers that offer less: what the OpenAI adapter makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import servers
from contract.inference.openai_stub import Behaviour, openai_stub
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import UNNAMED, Classified, Classify, Decoding, Generate, Generated

WAIT_S = 60
LABELS = (" best", " reasonable", " worst")


@contextmanager
def endpoint(behaviour: Behaviour, **options: Any) -> Iterator[OpenAIInference]:
    with openai_stub(behaviour) as url:
        opened = OpenAIInference(url, **options)
        yield opened
        opened.close()


def ask(opened: OpenAIInference, prompt: str = "A text.", model: str = "endpoint:stub") -> Any:
    return opened.submit(Generate("generator", model, prompt, Decoding(16))).result(WAIT_S)


def label(opened: OpenAIInference) -> Any:
    return opened.submit(Classify("evaluator", "endpoint:stub", "Which?", LABELS)).result(WAIT_S)


def test_a_server_that_lists_no_model_answers_with_its_own() -> None:
    with endpoint(Behaviour(pinned="/models/one")) as opened:
        assert isinstance(ask(opened, model="m"), Generated)


def test_the_name_that_stands_for_a_model_without_one_is_not_sent() -> None:
    behaviour = Behaviour(pinned="/models/one")
    with endpoint(behaviour) as opened:
        assert isinstance(ask(opened, model=f"endpoint:{UNNAMED}"), Generated)
    assert not any("model" in body for body in behaviour.asked)


def test_a_server_that_is_pinned_to_another_model_is_quoted() -> None:
    wrong = pytest.raises(Unavailable, match="pinned to '/models/one'; requested 'two'")
    with endpoint(Behaviour(pinned="/models/one"), model="two") as opened, wrong:
        opened.probe()


def test_a_server_whose_model_is_named_by_a_digest_answers_for_that_one_only() -> None:
    one, other = (f"sha256:{letter * 64}" for letter in "ab")
    with endpoint(Behaviour(), model=one) as opened:
        assert isinstance(ask(opened, model=one), Generated)
        with pytest.raises(Unavailable, match=f"serves {one}, not {other}"):
            ask(opened, model=other)


def test_a_server_of_a_promoted_model_is_asked_by_its_own_name_for_it() -> None:
    behaviour = Behaviour()
    with endpoint(behaviour, model="mine") as opened:
        assert isinstance(ask(opened, model=f"sha256:{'a' * 64}"), Generated)
    assert {body["model"] for body in behaviour.asked} == {"mine"}


def test_too_many_requests_never_consume_an_attempt() -> None:
    with endpoint(Behaviour(overloads=12), attempts_max=1) as opened:
        assert isinstance(ask(opened), Generated)


def test_a_passing_failure_is_tried_again() -> None:
    with endpoint(Behaviour(failures=1), attempts_max=2) as opened:
        assert isinstance(ask(opened), Generated)


def test_a_lasting_failure_is_unavailable() -> None:
    with endpoint(Behaviour(failures=99), attempts_max=2) as opened, pytest.raises(Unavailable):
        ask(opened)


def test_a_server_that_is_down_is_unavailable() -> None:
    opened = OpenAIInference(f"http://127.0.0.1:{servers.free_port()}", attempts_max=1)
    with pytest.raises(Unavailable):
        opened.probe()
    with pytest.raises(Unavailable):
        ask(opened)
    opened.close()


def test_a_wrong_key_is_unavailable_and_says_where_keys_are_set() -> None:
    with endpoint(Behaviour(key="right"), api_key="wrong") as opened, pytest.raises(Unavailable, match="api_key"):
        ask(opened)


def test_the_right_key_is_sent() -> None:
    with endpoint(Behaviour(key="right"), api_key="right") as opened:
        assert isinstance(ask(opened), Generated)


def test_the_registered_name_of_a_model_is_asked_for() -> None:
    behaviour = Behaviour()
    with endpoint(behaviour) as opened:
        ask(opened, model="endpoint:my-model")
    assert behaviour.asked[-1]["model"] == "my-model"


def test_labels_are_read_from_log_probabilities_where_there_are_some() -> None:
    with endpoint(Behaviour()) as opened:
        assert opened.probe().log_probabilities
        answer = label(opened)
    assert isinstance(answer, Classified)
    assert answer.votes_count == 0


def test_without_log_probabilities_and_votes_labels_are_waited_for_with_what_to_change() -> None:
    with endpoint(Behaviour(log_probabilities=False)) as opened, pytest.raises(Unavailable, match="votes_count"):
        label(opened)


def test_a_vote_is_marked_as_one() -> None:
    with endpoint(Behaviour(log_probabilities=False), votes_count=6) as opened:
        answer = label(opened)
    assert isinstance(answer, Classified)
    assert answer.votes_count == 6
    assert answer.probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize("behaviour", [Behaviour(seed=False), Behaviour(tokens_field="max_completion_tokens")])
def test_fields_that_a_server_rejects_are_found_at_the_probe(behaviour: Behaviour) -> None:
    with endpoint(behaviour) as opened:
        assert opened.probe().log_probabilities
        assert isinstance(ask(opened), Generated)


def test_a_server_that_refuses_every_dialect_is_unavailable_and_says_what_to_check() -> None:
    with endpoint(Behaviour(tokens_field="length")) as opened, pytest.raises(Unavailable, match="model"):
        opened.probe()


def test_a_server_that_writes_longer_than_its_probe_took_is_not_taken_for_a_busy_one() -> None:
    behaviour = Behaviour(answer_s=0.3)
    with endpoint(behaviour, calls_max=16) as opened:
        opened.probe()
        asked = [opened.submit(Generate("generator", "endpoint:stub", f"Text {n}.", Decoding(16))) for n in range(24)]
        assert all(isinstance(future.result(WAIT_S), Generated) for future in asked)
    assert behaviour.in_flight_max >= 6  # four at first, one more each round


def test_never_more_calls_are_in_flight_than_allowed() -> None:
    behaviour = Behaviour()
    with endpoint(behaviour, calls_max=2) as opened:
        futures = [opened.submit(Generate("generator", "m", f"Text {n}", Decoding(16))) for n in range(40)]
        assert all(isinstance(future.result(WAIT_S), Generated) for future in futures)
    assert behaviour.in_flight_max <= 2
