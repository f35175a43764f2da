"""A documented fake: answers come from functions of the request. A backend like the others, held to the same suite.

For tests and for trying a configuration without a model; `kind: scripted` in a configuration gives the functions below.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import Future

from xinstruct.inference.ngram import embedding
from xinstruct.spine.errors import Invalid, Unavailable, XinstructError
from xinstruct.spine.inference import (
    Answer,
    Classified,
    Classify,
    Embedded,
    Features,
    FinishReason,
    Generate,
    Generated,
    Inference,
    Request,
    request_digest,
)


class ScriptedInference(Inference):
    """Answers at once, in the caller's thread. `answer` may return an answer, or raise Unavailable or Invalid."""

    def __init__(self, answer: Callable[[Request], Answer] | None = None) -> None:
        self._answer = answer or scripted_answer
        self._closed = False
        self.requests: list[Request] = []
        """Every request that reached the backend, in order: what a test counts calls by."""

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        future: Future[Answer] = Future()
        self.requests.append(request)
        try:
            if self._closed:
                raise Unavailable("the endpoint is closed")
            future.set_result(self._answer(request))
        except XinstructError as error:
            future.set_exception(error)
        return future

    def probe(self) -> Features:
        """See Inference."""
        return Features(log_probabilities=True, label_probabilities=True, embeddings=True, model="scripted")

    def close(self) -> None:
        """See Inference."""
        self._closed = True


def scripted_answer(request: Request) -> Answer:
    """The default script: a deterministic answer of the right type that depends on the whole request."""
    number = int(request_digest(request).removeprefix("sha256:")[:8], 16)
    if isinstance(request, Generate):
        # English and well posed, so that no guard on drafts takes offence.
        words = f"Write an answer to the question with the number {number}.".split()
        kept = words[: request.decoding.tokens_max]
        finish: FinishReason = "stop" if kept == words else "length"
        return Generated(" ".join(kept), finish, -0.001 * (number % 1000), len(request.prompt.split()), len(kept))
    if isinstance(request, Classify):
        return _scripted_label(request)
    return Embedded(embedding(request.text))


def _scripted_label(request: Classify) -> Classified:
    firsts = [label.strip()[:1] for label in request.labels]
    if len(set(firsts)) < len(firsts):
        raise Invalid(f"labels {request.labels} share a first token; choose labels that start differently")
    marks = [hashlib.sha256(f"{label}\0{request.prompt}".encode()).digest()[0] / 64 for label in request.labels]
    total = sum(math.exp(mark) for mark in marks)
    return Classified(tuple(math.exp(mark) / total for mark in marks))
