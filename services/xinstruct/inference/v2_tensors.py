"""What the predictor and its adapter say to each other: tensors of the Open Inference Protocol v2, both ways. Pure.

    evaluator   prompts BYTES [rows], labels BYTES [labels]  →  probabilities FP64 [rows, labels], refusals BYTES [rows]
    encoder     texts BYTES [rows]                           →  vectors FP32 [rows, dimensions], refusals BYTES [rows]

Every row is answered on its own: `refusals` is "" for an answer, else "reason: detail" (the reasons of Refused), and
the row's numbers are zeros. Numbers travel as they are, bit for bit. What is wrong with a whole call is an error of the
protocol (400, INVALID_ARGUMENT), whose text starts with MALFORMED or LABELS_ALIKE and a colon. Strings are UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xinstruct.spine.errors import Invalid, Unavailable, require
from xinstruct.spine.inference import Answer, Classified, Classify, Embed, Embedded, Refused, Request

ROWS_MAX = 256
"""Rows of one call at most."""
PROMPTS, LABELS, TEXTS = "prompts", "labels", "texts"
PROBABILITIES, VECTORS, REFUSALS = "probabilities", "vectors", "refusals"
MALFORMED, LABELS_ALIKE = "malformed", "labels_alike"
DETAIL_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Spec:
    """A tensor as a model's metadata tells of it; -1 stands for any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor; `data` is flat, row by row: strings or numbers."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]


INPUTS: Mapping[str, tuple[Spec, ...]] = {
    "evaluator": (Spec(PROMPTS, "BYTES", (-1,)), Spec(LABELS, "BYTES", (-1,))),
    "encoder": (Spec(TEXTS, "BYTES", (-1,)),),
}
OUTPUTS: Mapping[str, tuple[Spec, ...]] = {
    "evaluator": (Spec(PROBABILITIES, "FP64", (-1, -1)), Spec(REFUSALS, "BYTES", (-1,))),
    "encoder": (Spec(VECTORS, "FP32", (-1, -1)), Spec(REFUSALS, "BYTES", (-1,))),
}


def question(requests: Sequence[Classify | Embed]) -> list[Tensor]:
    """The inputs that ask `requests`, which are of one kind: all Embed, or all Classify with the same labels."""
    first = requests[0]
    if isinstance(first, Classify):
        prompts = [request.prompt for request in requests if isinstance(request, Classify)]
        return [_strings(PROMPTS, prompts), _strings(LABELS, first.labels)]
    return [_strings(TEXTS, [request.text for request in requests if isinstance(request, Embed)])]


def asked(role: str, model: str, tensors: Sequence[Tensor]) -> list[Request]:
    """Inverse of `question`, for the server of `role`; Invalid, with a sentence, for anything else."""
    given = {tensor.name: tensor for tensor in tensors}
    wanted = [spec.name for spec in INPUTS[role]]
    found = f"the {role} takes the inputs {', '.join(wanted)}, once each; found {', '.join(t.name for t in tensors)}"
    require(sorted(tensor.name for tensor in tensors) == sorted(wanted), found[:DETAIL_CHARS_MAX])
    lists = [_checked(given[name]) for name in wanted]
    require(len(lists[0]) <= ROWS_MAX, f"{len(lists[0])} rows, {ROWS_MAX} fit into a call")
    if role == "encoder":
        return [Embed(role, model, text) for text in lists[0]]
    require(all(lists[1]), "a label is empty")
    return [Classify(role, model, prompt, tuple(lists[1])) for prompt in lists[0]]


def answered(role: str, answers: Sequence[Answer]) -> list[Tensor]:
    """The outputs that carry `answers`, each in its row."""
    rows = [_numbers_of(answer) for answer in answers]
    width = max((len(row) for row in rows), default=0)
    numbers, refusals = OUTPUTS[role]
    flat = [value for row in rows for value in (row or (0.0,) * width)]
    said = [f"{a.reason}: {a.detail}"[:DETAIL_CHARS_MAX] if isinstance(a, Refused) else "" for a in answers]
    return [Tensor(numbers.name, numbers.datatype, (len(rows), width), flat), _strings(refusals.name, said)]


def answers_of(requests: Sequence[Classify | Embed], tensors: Sequence[Tensor]) -> list[Answer]:
    """Inverse of `answered`, for those who asked; Unavailable when the server sent something else."""
    by_name = {tensor.name: tensor for tensor in tensors}
    embeds = isinstance(requests[0], Embed)
    numbers, refusals = by_name.get(VECTORS if embeds else PROBABILITIES), by_name.get(REFUSALS)
    if numbers is None or refusals is None or not _fits(numbers, refusals, requests):
        raise Unavailable("the predictor sent no answer to what it was asked")
    width = numbers.shape[1]
    rows = [tuple(numbers.data[width * row : width * (row + 1)]) for row in range(len(requests))]
    made = [Embedded(row) if embeds else Classified(row) for row in rows]
    return [_refused(text) if text else answer for text, answer in zip(refusals.data, made, strict=True)]


def refusal_of(error: str) -> Refused:
    """What the protocol's error says about a whole call; Invalid where the labels are to blame."""
    reason, _, detail = error.partition(": ")
    if reason == LABELS_ALIKE:
        raise Invalid(detail)
    return Refused(MALFORMED, error[:DETAIL_CHARS_MAX])


def _strings(name: str, values: Sequence[str]) -> Tensor:
    return Tensor(name, "BYTES", (len(values),), list(values))


def _checked(tensor: Tensor) -> list[str]:
    """The strings of a one-dimensional BYTES tensor; Invalid when it is none, or is empty."""
    sized = tensor.datatype == "BYTES" and tensor.shape == (len(tensor.data),) and len(tensor.data) > 0
    shape = list(tensor.shape)
    require(sized, f"{tensor.name} is {tensor.datatype} {shape} with {len(tensor.data)} values: BYTES [1 or more] fits")
    return [_text(tensor.name, value) for value in tensor.data]


def _text(name: str, value: object) -> str:
    """BYTES are bytes over gRPC and strings over REST."""
    try:
        if isinstance(value, bytes):
            return value.decode()
        require(isinstance(value, str), f"{name} holds a {type(value).__name__} where text was expected")
        str(value).encode()  # half a surrogate pair is no text, and would end the tokenizer
    except UnicodeError as error:
        raise Invalid(f"{name} holds something that is no UTF-8") from error
    return str(value)


def _numbers_of(answer: Answer) -> tuple[float, ...]:
    if isinstance(answer, Classified):
        return answer.probabilities
    return answer.vector if isinstance(answer, Embedded) else ()


def _refused(text: str) -> Refused:
    reason, _, detail = text.partition(": ")
    return Refused(reason, detail)


def _fits(numbers: Tensor, refusals: Tensor, requests: Sequence[Classify | Embed]) -> bool:
    if len(numbers.shape) != 2 or not numbers.shape[0] == len(requests) == len(refusals.data):
        return False
    width, first = numbers.shape[1], requests[0]
    wide = width > 0 if isinstance(first, Embed) else width == len(first.labels)
    return len(numbers.data) == len(requests) * width and (wide or all(refusals.data))
