"""How Text Generation Inference is asked and read, without a server."""

from __future__ import annotations

import math
from typing import Any

import pytest

from xinstruct.inference.tgi_schema import (
    Served,
    generated_of,
    generation_parameters,
    is_streamed,
    label_probabilities,
    refusal_of,
    streamed_of,
)
from xinstruct.spine.inference import Classified, Decoding, Generated, Refused

LABELS = (" best", " reasonable", " worst")
SERVED = Served("m", stops_max=4)


def output(text: str, finish: str, scores: list[float | None]) -> dict[str, Any]:
    tokens = [{"id": 1, "text": "a", "logprob": score, "special": False} for score in scores]
    return {"generated_text": text, "details": {
        "finish_reason": finish, "generated_tokens": len(scores), "tokens": tokens, "prefill": [], "seed": None}}


def read(text: str, finish: str, scores: list[float | None], *stop: str) -> Generated:
    return generated_of(output(text, finish, scores), Decoding(8, stop=stop), prompt_tokens=3)


def test_greedy_decoding_names_no_seed_temperature_or_top_p() -> None:
    asked = generation_parameters(Decoding(8, top_p=0.9, seed=5), SERVED)
    assert asked == {"max_new_tokens": 8, "do_sample": False, "return_full_text": False}


def test_sampling_keeps_to_the_published_ranges() -> None:
    asked = generation_parameters(Decoding(8, temperature=0.7, top_p=1.0, seed=0), SERVED)
    assert asked["do_sample"] and asked["temperature"] == 0.7 and asked["seed"] == 1 and "top_p" not in asked
    assert generation_parameters(Decoding(8, temperature=0.7, top_p=0.9), SERVED)["top_p"] == 0.9


def test_the_end_counts_in_the_mean_but_not_among_the_answers_tokens() -> None:
    assert read("a text ", "eos_token", [-1.0, -2.0, -3.0]) == Generated("a text", "stop", -2.0, 3, 2)
    assert read("a text", "length", [-1.0, -2.0]) == Generated("a text", "length", -1.5, 3, 2)


@pytest.mark.parametrize("finish", ["stop_sequence", "length"])
def test_what_follows_the_first_stop_string_is_cut_whatever_the_server_says(finish: str) -> None:
    assert read("one\ntwo ###", finish, [-1.0], "###", "\n") == Generated("one", "stop", -1.0, 3, 1)


def test_scores_that_are_not_numbers_are_left_out_and_none_at_all_is_not_a_number() -> None:
    assert read("a", "length", [None, -1.0]).mean_log_probability == -1.0
    assert math.isnan(read("a", "length", [None]).mean_log_probability)
    assert read("a", "length", [1e-7]).mean_log_probability == 0.0


@pytest.mark.parametrize("events", [[], [{"token": {"logprob": -1.0}, "details": None, "generated_text": None}]])
def test_a_stream_without_its_end_is_no_answer(events: list[dict[str, Any]]) -> None:
    with pytest.raises((LookupError, TypeError)):
        streamed_of(events, Decoding(8))


@pytest.mark.parametrize(("tokens_max", "deadline_s", "streamed"), [
    (1200, 300.0, False), (1201, 300.0, True), (40, 10.0, False), (41, 10.0, True),
])
def test_answers_are_streamed_that_take_longer_than_the_deadline_at_four_tokens_a_second(
    tokens_max: int, deadline_s: float, streamed: bool
) -> None:
    assert is_streamed(Decoding(tokens_max), deadline_s) is streamed


def test_label_probabilities_add_up_the_tokens_that_begin_a_label() -> None:
    likeliest = [(" best", math.log(0.5)), ("b", math.log(0.1)), (" re", math.log(0.2)), ("worst", math.log(0.1))]
    answer = label_probabilities(likeliest, LABELS)
    assert isinstance(answer, Classified)
    assert answer.probabilities == pytest.approx((0.6 / 0.9, 0.2 / 0.9, 0.1 / 0.9))


def test_a_label_that_can_have_next_to_nothing_counts_as_nothing() -> None:
    answer = label_probabilities([(" best", math.log(0.999)), (" re", math.log(0.0009)), ("x", math.log(1e-5))], LABELS)
    assert isinstance(answer, Classified) and answer.probabilities[2] == 0.0


def test_a_label_that_may_have_a_share_but_is_not_shown_is_named() -> None:
    answer = label_probabilities([(" best", math.log(0.6)), (" re", math.log(0.2)), ("x", math.log(0.1))], LABELS)
    assert isinstance(answer, Refused) and answer.reason == "no_label" and "' worst'" in answer.detail


@pytest.mark.parametrize("likeliest", [[], [("x", -0.1)]])
def test_no_label_at_all_is_refused(likeliest: list[tuple[str, float]]) -> None:
    answer = label_probabilities(likeliest, LABELS)
    assert isinstance(answer, Refused) and answer.reason == "no_label"


@pytest.mark.parametrize(("said", "reason"), [
    # The server's own words.
    ("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs` tokens and 100 "
     "`max_new_tokens`", "too_long"),
    ("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", "too_long"),
    ("Input validation error: `inputs` cannot be empty", "malformed"),
    ("Input validation error: `stop` supports up to 4 stop sequences. Given: 5", "malformed"),
])
def test_validation_errors_are_read(said: str, reason: str) -> None:
    assert refusal_of(said).reason == reason
    assert len(refusal_of(said + "x" * 1000).detail) == 200
