"""The offline encoder: hashed character n-grams, 384 dimensions, nothing to download, the same numbers everywhere.

Each n-gram of 3 to 5 characters of a padded, case-folded word adds ±1 to a dimension chosen by its hash; counts are
damped by a square root. Near texts get near vectors; it knows no synonyms and compares one script only.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import Counter
from concurrent.futures import Future
from functools import lru_cache

from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Answer, Embed, Embedded, Features, Inference, Refused, Request

DIMENSIONS = 384
_LENGTHS = (3, 4, 5)
MODEL = "ngram-384-v1"
"""Digest stand-in: a change of the algorithm changes it."""


class NgramInference(Inference):
    """The encoder role without a model. Answers at once; refuses what is no Embed."""

    def __init__(self) -> None:
        self._closed = False

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        future: Future[Answer] = Future()
        if self._closed:
            future.set_exception(Unavailable("the endpoint is closed"))
        elif isinstance(request, Embed):
            future.set_result(Embedded(embedding(request.text)))
        else:
            future.set_result(Refused("malformed", "the n-gram encoder embeds, it does not generate or classify"))
        return future

    def probe(self) -> Features:
        """See Inference."""
        return Features(log_probabilities=False, label_probabilities=False, embeddings=True, model=MODEL)

    def close(self) -> None:
        """See Inference."""
        self._closed = True


def embedding(text: str) -> tuple[float, ...]:
    """The unit vector of `text`; a text without letters gets the first axis."""
    counts = Counter(gram for word in _words(text) for gram in _grams(word))
    sums = [0.0] * DIMENSIONS
    for gram, count in sorted(counts.items()):
        dimension, sign = _place(gram)
        sums[dimension] += sign * math.sqrt(count)
    norm = math.sqrt(sum(value * value for value in sums))
    if norm == 0.0:
        return (1.0,) + (0.0,) * (DIMENSIONS - 1)
    return tuple(value / norm for value in sums)


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split()


def _grams(word: str) -> list[str]:
    padded = f"<{word}>"
    return [padded[start : start + n] for n in _LENGTHS for start in range(max(1, len(padded) - n + 1))]


@lru_cache(maxsize=200_000)
def _place(gram: str) -> tuple[int, int]:
    raw = hashlib.blake2b(gram.encode(), digest_size=8).digest()
    return int.from_bytes(raw[:4], "big") % DIMENSIONS, 1 if raw[4] & 1 else -1
