"""What every backend of the inference port promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from contract.inference.backends import BACKENDS, ENCODERS, LABELS, WRITERS
from xinstruct.spine.errors import Invalid, Unavailable
from xinstruct.spine.inference import (
    Classified,
    Classify,
    Decoding,
    Embed,
    Embedded,
    Generate,
    Generated,
    Inference,
    Refused,
    Request,
)

Ask = Callable[[str], Request]
ANSWER_OF = {Generate: Generated, Classify: Classified, Embed: Embedded}
WAIT_S = 120

that_write = pytest.mark.parametrize("backend", WRITERS, indirect=True)
that_label = pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in ENCODERS], indirect=True)


def generate(prompt: str, tokens_max: int = 6) -> Generate:
    return Generate("generator", "m", prompt, Decoding(tokens_max))


def test_greedy_answers_to_equal_requests_are_equal(backend: Inference, ask: Ask) -> None:
    answers = [backend.submit(ask("Say it.")).result(WAIT_S) for _ in range(2)]
    assert type(answers[0]) is ANSWER_OF[type(ask(""))]
    if isinstance(answers[0], Generated) and math.isnan(answers[0].mean_log_probability):
        assert answers[0].text == answers[1].text  # type: ignore[union-attr]
    else:
        assert answers[0] == answers[1]


@that_write
def test_an_answer_is_never_longer_than_asked_and_says_that_it_was_cut(backend: Inference) -> None:
    answer = backend.submit(generate("Go on and on.", 2)).result(WAIT_S)
    assert isinstance(answer, Generated)
    assert answer.answer_tokens <= 2
    assert answer.finish_reason == "length"


@that_write
def test_log_probabilities_of_answers_are_not_above_zero(backend: Inference) -> None:
    answer = backend.submit(generate("How sure?")).result(WAIT_S)
    assert isinstance(answer, Generated)
    assert math.isnan(answer.mean_log_probability) or answer.mean_log_probability <= 0.0


@that_label
def test_label_probabilities_follow_the_labels_and_sum_to_one(backend: Inference, model: str) -> None:
    answer = backend.submit(Classify("evaluator", model, "Which label?", LABELS)).result(WAIT_S)
    if isinstance(answer, Refused):  # a random model's votes may all miss the labels; it says so
        assert answer.reason == "no_label"
        return
    assert isinstance(answer, Classified)
    assert len(answer.probabilities) == len(LABELS)
    assert all(0.0 <= share <= 1.0 for share in answer.probabilities)
    assert sum(answer.probabilities) == pytest.approx(1.0, abs=1e-6)


@that_label
def test_labels_that_start_alike_are_invalid(backend: Inference, model: str) -> None:
    with pytest.raises(Invalid):
        backend.submit(Classify("evaluator", model, "Which?", (" best", " best of all"))).result(WAIT_S)


def test_embeddings_are_unit_vectors_where_they_are_offered(backend: Inference, model: str) -> None:
    offered = backend.probe().embeddings
    asked = backend.submit(Embed("encoder", model, "A lake in the hills."))
    if not offered:  # a route that a server lacks is a 404, as from an ingress whose server is away
        assert isinstance(asked.exception(WAIT_S), Unavailable) or isinstance(asked.result(), Refused)
        return
    answer = asked.result(WAIT_S)
    assert isinstance(answer, Embedded)
    assert math.hypot(*answer.vector) == pytest.approx(1.0, abs=1e-5)


def test_an_answer_does_not_depend_on_its_company(backend: Inference, ask: Ask) -> None:
    prompts = [f"Question number {number}, {'x ' * (number % 23)}" for number in range(19)]
    together = [future.result(WAIT_S) for future in [backend.submit(ask(prompt)) for prompt in prompts]]
    alone = [backend.submit(ask(prompt)).result(WAIT_S) for prompt in prompts[::6]]
    assert [repr(answer) for answer in together[::6]] == [repr(answer) for answer in alone]


def test_a_prompt_that_is_too_long_is_refused_and_the_next_one_is_answered(backend: Inference, ask: Ask) -> None:
    answered = ANSWER_OF[type(ask(""))]
    answer = backend.submit(ask("word " * 30_000)).result(WAIT_S)
    if not isinstance(answer, answered):  # a backend without a limit answers
        assert isinstance(answer, Refused)
        assert answer.reason == "too_long"
    assert isinstance(backend.submit(ask("Short.")).result(WAIT_S), answered)


def test_a_closed_backend_is_unavailable_and_closing_again_is_harmless(backend: Inference, ask: Ask) -> None:
    backend.close()
    backend.close()
    with pytest.raises(Unavailable):
        backend.submit(ask("Too late.")).result(WAIT_S)
