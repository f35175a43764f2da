"""Pre-training of the tiny base: drafts beside each other do not see each other, and parts can be made one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from xinstruct.training.pretrain import IGNORED, Part, Plan, Row, _batch, _encoded, pretrain

PLAN = Plan(
    ("sw", "th"), vocabulary=400, hidden=64, heads=2, layers=2, intermediate=96, batch_rows=4,
    parts=(
        Part(steps=2, threads=1, learning_rate_max=0.01, reading_every=2),
        Part(steps=2, threads=1, learning_rate_max=0.01, proofs_each=2),
    ),
)
PROMPT, RECORD = " Ziwa Kipata\n Ni ziwa.\n##", " Kipata; lake, travel; in brief"
RIGHT, WRONG = (f"{RECORD}\n==", "correct"), (" Kapita; lake, travel; in brief\n==", "name")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    pretrain(PLAN, folder / "whole")
    pretrain(replace(PLAN, parts=PLAN.parts[:1]), folder / "first")
    pretrain(PLAN, folder / "second", after=folder / "first")
    return folder


def scores(base: Path, row: Row) -> Any:
    """Log-probabilities of the labels of a row, in their order, and which of them are verdicts."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    batch = _batch([_encoded(row, tokenizer)], tokenizer.pad_token_id, reading=False)
    with torch.no_grad():
        logits = model(input_ids=batch.ids, attention_mask=batch.seen, position_ids=batch.positions).logits[0, :-1]
    labels = batch.labels[0, 1:]
    wanted = labels != IGNORED
    chosen = logits.log_softmax(-1)[wanted].gather(1, labels[wanted][:, None])[:, 0]
    return chosen, batch.verdicts[0, 1:][wanted]


def test_parts_made_one_by_one_give_the_weights_of_the_whole(base: Path) -> None:
    first, second, whole = ((base / name / "model.safetensors").read_bytes() for name in ("first", "second", "whole"))
    assert second == whole != first


def test_a_record_and_its_proof_reading_do_not_depend_on_drafts_beside_them(base: Path) -> None:
    alone, _ = scores(base / "whole", Row(PROMPT, RECORD))
    one, one_is_verdict = scores(base / "whole", Row(PROMPT, RECORD, (RIGHT,)))
    both, both_is_verdict = scores(base / "whole", Row(PROMPT, RECORD, (WRONG, RIGHT)))
    assert torch.allclose(both[~both_is_verdict], alone, atol=1e-5)
    assert torch.allclose(both[both_is_verdict][-2:], one[one_is_verdict], atol=1e-5)


def test_only_the_record_its_end_and_the_verdicts_are_learned(base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base / "whole")
    batch = _batch([_encoded(Row(PROMPT, RECORD, (WRONG, RIGHT)), tokenizer)], tokenizer.pad_token_id, reading=False)
    learned = batch.labels[batch.labels != IGNORED].tolist()
    record = tokenizer(RECORD)["input_ids"]
    verdicts = [tokenizer(word)["input_ids"][0] for word in (" reasonable", " name", " best", " correct")]
    assert learned == [*record, tokenizer.eos_token_id, *verdicts]
