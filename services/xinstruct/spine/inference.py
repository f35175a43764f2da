"""The inference port: a request to a model role, and its answer. Every adapter is held to tests/contract/inference.

`subject` in a request is the record it concerns (a document id), so that a takedown can erase its journaled answers; it
is never sent and never part of the digest: two records with one question share one answer.

Roles, not servers: "generator", "evaluator", "encoder" (later responder, judge, translator). A role is bound to an
endpoint by configuration, and to a model by digest (spine/registry.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

ROLES = ("generator", "evaluator", "encoder")
UNNAMED = "default"
"""Name under which the one model of a server that lists none is registered. No server is sent it."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to decode. temperature 0 is greedy. `stop` strings end the answer and are not part of it."""

    tokens_max: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def canonical(self) -> str:
        """Canonical JSON, as stored in records."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Generate:
    """Continue `prompt` (a plain string; chat servers get it as one user message).

    `subject`, here and below, is the id of the document or pair asked about: a takedown erases the answers kept for it.
    It is no part of the question: equal requests of two subjects are one.
    """

    role: str
    model: str
    prompt: str
    decoding: Decoding
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Classify:
    """Probabilities of `labels` as the next token after `prompt`, in one decode step, normalised over the labels.

    Each label is a string whose first token identifies it; where two labels share a first token the future raises
    Invalid.
    """

    role: str
    model: str
    prompt: str
    labels: tuple[str, ...]
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Embed:
    """A unit vector of `text`."""

    role: str
    model: str
    text: str
    subject: str = ""


Request = Generate | Classify | Embed

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Generated:
    """`mean_log_probability`: nats a token over the answer and its end, NaN where the endpoint gives none."""

    text: str
    finish_reason: FinishReason
    mean_log_probability: float
    prompt_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class Classified:
    """`probabilities` follow the request's labels and sum to 1. `votes_count` 0: read from log-probabilities."""

    probabilities: tuple[float, ...]
    votes_count: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """A unit vector, float32 precision."""

    vector: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The server's own no. An answer, which `decide` turns into a Reject; never kept in the journal.

    `reason`: "too_long", "unknown_model", "malformed" or "no_label" (no label among the likeliest tokens or votes).
    """

    reason: str
    detail: str = ""


Answer = Generated | Classified | Embedded | Refused


@dataclass(frozen=True, slots=True)
class Features:
    """What an endpoint was found to offer when it was probed at start."""

    log_probabilities: bool
    label_probabilities: bool
    embeddings: bool
    model: str


class Inference(Protocol):
    """One endpoint. A stage's Port as it is (submit, close), so no stage needs a wrapper."""

    def submit(self, request: Request) -> Future[Answer]:
        """Take `request` at once; the future raises Unavailable while the endpoint is down."""

    def probe(self) -> Features:
        """What the endpoint offers; Unavailable when it does not answer."""

    def close(self) -> None:
        """Abandon what is in flight; release connections and models."""


def of_slot(inference: Mapping[str, Inference], role: str, slot: str) -> Inference:
    """Where `role` answers in a scoring slot: each slot has a server of its own where the role's URL says {slot}."""
    return inference.get(f"{role}-{slot}") or inference[role]


def request_digest(request: Request) -> str:
    """Journal key: role, model, prompt, parameters and seed. "sha256:" + 64 hex digits."""
    asked = {name: value for name, value in asdict(request).items() if name != "subject"}
    body = json.dumps([type(request).__name__, asked], sort_keys=True, ensure_ascii=False)
    return "sha256:" + hashlib.sha256(body.encode()).hexdigest()


def answer_to_json(answer: Answer) -> str:
    """The journal's form of an answer."""
    return json.dumps([type(answer).__name__, asdict(answer)], sort_keys=True, ensure_ascii=False)


def answer_from_json(text: str) -> Answer:
    """Inverse of answer_to_json."""
    name, values = json.loads(text)
    return _ANSWERS[name](**_tuples(values))  # type: ignore[no-any-return]


_ANSWERS: Mapping[str, type] = {cls.__name__: cls for cls in (Generated, Classified, Embedded, Refused)}


def _tuples(values: Mapping[str, object]) -> dict[str, object]:
    return {k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v for k, v in values.items()}
