"""Near-duplicate signatures: 112 MinHash values, 14 bands of 8, over word 5-grams (characters in unspaced scripts).

The format is a contract between admission, which writes it, and curation, which clusters by it: 112 unsigned 64-bit
integers, little endian. Two texts are near-duplicates when at least 0.7 of the values agree.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
import xxhash

VALUES_COUNT = 112
BANDS_COUNT = 14
ROWS_COUNT = 8
SHINGLE_LENGTH = 5
NEAR_RATIO = 0.7

_NOT_WORD = re.compile(r"[^\w\u0900-\u0dff\u0e00-\u0eff\u0600-\u06ff]+|_")
Values = npt.NDArray[np.uint64]


def signature(text: str, *, word_separated: bool) -> bytes:
    """The signature of `text`. Equal for texts that differ only in case, punctuation and blanks. Deterministic."""
    shingles = _shingles(text, word_separated)
    hashes = np.array([xxhash.xxh3_64_intdigest(part.encode()) for part in shingles], dtype=np.uint64)
    factors, addends = _permutations()
    with np.errstate(over="ignore"):
        mixed = hashes[:, None] * factors[None, :] + addends[None, :]
        # The low bits of a product are weak; the high ones decide.
        mixed ^= mixed >> np.uint64(32)
    values: Values = mixed.min(axis=0)
    return values.astype("<u8").tobytes()


def agreement_ratio(one: bytes, other: bytes) -> float:
    """Share of equal values, an estimate of how many shingles the two texts share."""
    return float(np.mean(np.frombuffer(one, dtype="<u8") == np.frombuffer(other, dtype="<u8")))


def bands(values: bytes) -> list[bytes]:
    """The 14 bands: texts that share one are candidates."""
    size = ROWS_COUNT * 8
    return [values[start:start + size] for start in range(0, BANDS_COUNT * size, size)]


def text_digest(text: str) -> str:
    """ "sha256:" + 64 hex digits of the normalised text: equal for exact duplicates."""
    return "sha256:" + hashlib.sha256(" ".join(_normal_words(text)).encode()).hexdigest()


def _shingles(text: str, word_separated: bool) -> set[str]:
    words = _normal_words(text)
    parts = words if word_separated else list("".join(words))
    count = max(len(parts) - SHINGLE_LENGTH + 1, 1)
    joiner = " " if word_separated else ""
    return {joiner.join(parts[index:index + SHINGLE_LENGTH]) for index in range(count)}


def _normal_words(text: str) -> list[str]:
    return _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", text).casefold()).split()


@cache
def _permutations() -> tuple[Values, Values]:
    """Factors (odd) and addends, fixed for ever by their names."""
    def value(name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")

    factors = np.array([value(f"minhash factor {index}") | 1 for index in range(VALUES_COUNT)], dtype=np.uint64)
    addends = np.array([value(f"minhash addend {index}") for index in range(VALUES_COUNT)], dtype=np.uint64)
    return factors, addends
