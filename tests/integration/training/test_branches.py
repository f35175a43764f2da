"""Sequences that branch: each branch is to the model what the whole sequence would be alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from xinstruct.training.job_branches import IGNORED, Encoded, collator, joined
from xinstruct.training.pretrain import Part, Plan, pretrain

SMALL = Plan(
    ("sw",), vocabulary=400, hidden=64, heads=2, layers=2, intermediate=96,
    parts=(Part(steps=2, threads=1, learning_rate_max=0.01),),
)


def sequence(*ids: int) -> Encoded:
    """Tokens of which the last is learned."""
    return {"input_ids": list(ids), "labels": [IGNORED] * (len(ids) - 1) + [ids[-1]]}


def test_what_sequences_share_is_read_once_and_the_rest_stands_side_by_side() -> None:
    (row,) = joined([sequence(5, 6, 7, 8, 1), sequence(5, 6, 7, 9, 9, 2)], [2.0, 1.0])
    assert row == {
        "input_ids": [5, 6, 7, 8, 1, 9, 9, 2], "numbers": [0, 0, 0, 1, 1, 2, 2, 2], "length": 8,
        "labels": [IGNORED] * 4 + [1] + [IGNORED] * 2 + [2], "weights": [0.0] * 3 + [2.0] * 2 + [1.0] * 3,
    }


def test_a_sequence_that_shares_too_little_is_a_row_of_its_own_and_none_is_lost() -> None:
    rows = joined([sequence(5, 6, 7, 8, 1), sequence(5, 3, 3, 3, 2), sequence(5, 6, 7, 4, 3)], [1.0, 1.0, 1.0])
    assert [row["input_ids"] for row in rows] == [[5, 6, 7, 8, 1, 4, 3], [5, 3, 3, 3, 2]]


def test_sequences_that_differ_in_their_label_only_keep_the_token_it_is_learned_from() -> None:
    (row,) = joined([sequence(5, 6, 7, 1), sequence(5, 6, 7, 2)], [1.0, 1.0])
    assert (row["input_ids"], row["numbers"]) == ([5, 6, 7, 1, 7, 2], [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_loss_of_a_branch_is_that_of_its_sequence_alone(tmp_path: Path, order: tuple[int, ...]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pretrain(SMALL, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    asked = ("Describe it.\n== best", "Sing of it loud.\n== worst", "Go.\n== worst")
    texts = [f" Ziwa Kipata\n Ni ziwa.\n=> {one}" for one in asked]
    sequences = [sequence(*tokenizer(texts[number])["input_ids"]) for number in order]

    def losses(rows: list[dict[str, object]]) -> torch.Tensor:
        batch = collator(tokenizer.pad_token_id)(rows)
        batch.pop("weights")
        labels = batch.pop("labels")[:, 1:]
        with torch.no_grad():
            scores = model(**batch).logits[:, :-1]
        return torch.nn.functional.cross_entropy(scores[labels != IGNORED], labels[labels != IGNORED], reduction="none")

    (together,) = joined(sequences, [1.0] * len(sequences))
    alone = [losses(joined([one], [1.0])) for one in sequences]
    assert len(together["input_ids"]) < sum(len(one["input_ids"]) for one in sequences)
    assert torch.allclose(losses([together]), torch.cat(alone), atol=1e-5)
    padded = losses([*joined(sequences[:1], [1.0]), together])
    assert torch.allclose(padded, torch.cat([alone[0], *alone]), atol=1e-5)
