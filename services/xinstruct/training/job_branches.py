"""Sequences that branch: what several answers have in common is read once, and they stand beside each other behind it.

    stem ─┬─ branch 1
          ├─ branch 2      in one row:  0 0 0 0 1 1 1 2 2 3 3 3
          └─ branch 3

A token sees the stem and its own branch, and its position goes on from the stem: to the model each branch is a sequence
of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, takewhile
from operator import not_
from typing import Any

IGNORED = -100
"""Label of a token that is not learned."""
_PADDING = -1
_BRANCH_TOKENS_MIN = 2
"""A branch's first token stands behind another branch, so it cannot be learned: the one that is needs one before it."""

Encoded = dict[str, list[int]]
"""`input_ids` and `labels` of a sequence, of one length."""


def beside(numbers: Any) -> tuple[Any, Any]:
    """Positions (rows, tokens) and what each token sees (rows, 1, tokens, tokens), from the branch of each token.

    `numbers`, (rows, tokens): 0 in the stem, from 1 in the branches, anything else in the padding.
    """
    import torch

    before = torch.ones(numbers.shape[1], numbers.shape[1], dtype=torch.bool).tril()
    seen = before & ((numbers == 0)[:, None, :] | (numbers[:, None, :] == numbers[:, :, None]))
    return seen.sum(-1) - 1, seen[:, None]


def joined(sequences: Sequence[Encoded], weights: Sequence[float]) -> list[dict[str, Any]]:
    """Rows of all `sequences` but as short as can be: those that share at least half of the first's tokens branch.

    A row has `input_ids`, `labels`, `weights` (of its labels), `numbers` (see beside) and `length`.
    """
    rows, left = [], list(zip(sequences, weights, strict=True))
    while left:
        first = left[0][0]["input_ids"]
        alike = [2 * _common(first, one["input_ids"]) >= len(first) for one, _ in left]
        rows.append(_row(list(compress(left, alike))))
        left = list(compress(left, map(not_, alike)))
    return rows


def collator(pad: int) -> Any:
    """Makes a batch of rows as `joined` makes them, for a model's forward and a loss that weighs."""

    def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        width = max(len(row["input_ids"]) for row in rows)

        def tensor(name: str, padding: float) -> Any:
            return torch.tensor([row[name] + [padding] * (width - len(row[name])) for row in rows])

        positions, seen = beside(tensor("numbers", _PADDING))
        return {
            "input_ids": tensor("input_ids", pad), "labels": tensor("labels", IGNORED),
            "weights": tensor("weights", 0.0), "position_ids": positions, "attention_mask": seen,
        }

    return collate


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _row(alike: Sequence[tuple[Encoded, float]]) -> dict[str, Any]:
    first = alike[0][0]["input_ids"]
    shared = [min(_common(first, one["input_ids"]), len(one["input_ids"]) - _BRANCH_TOKENS_MIN) for one, _ in alike]
    stem = min(shared)
    row: dict[str, Any] = {
        "input_ids": first[:stem], "labels": [IGNORED] * stem, "weights": [0.0] * stem, "numbers": [0] * stem
    }
    for number, (one, weight) in enumerate(alike, start=1):
        tokens = len(one["input_ids"]) - stem
        row["input_ids"] = row["input_ids"] + one["input_ids"][stem:]
        row["labels"] = row["labels"] + one["labels"][stem:]
        row["weights"] = row["weights"] + [weight] * tokens
        row["numbers"] = row["numbers"] + [number] * tokens
    return row | {"length": len(row["input_ids"])}
