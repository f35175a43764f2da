"""Seeded randomness, keyed by what it decides and never by the order in which it is asked."""

from __future__ import annotations

import random
from hashlib import blake2b


def draw(*key: object) -> int:
    """Return 64 uniform bits that depend on the key alone (the key's parts by their str())."""
    return int.from_bytes(blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest(), "big")


def stream(*key: object) -> random.Random:
    """Return a generator whose sequence depends on the key alone."""
    return random.Random(draw(*key))
