"""What only the models of this process have to keep."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from xinstruct.inference.local import Batch, LocalInference
from xinstruct.spine.inference import Embed, Embedded, Generate, Generated

TEXTS = ("A lake in the hills.", "Describe how people of this region build boats, and why they do it. " * 3)


@pytest.fixture
def sentence_encoder(tiny_model: Path, tmp_path: Path) -> Path:
    """A folder with a random BERT without a language model's head, as sentence encoders are published."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    torch.manual_seed(7)
    model = BertModel(BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, initializer_range=0.2, pad_token_id=1,
    ))
    model.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """Whatever transformers says while it loads, of level warning or above."""
    said: list[str] = []

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    heard = Heard(logging.WARNING)
    logging.getLogger("transformers").addHandler(heard)
    yield said
    logging.getLogger("transformers").removeHandler(heard)


def test_a_sentence_encoder_is_loaded_as_what_it_is(sentence_encoder: Path, complaints: list[str]) -> None:
    import torch
    from transformers import AutoTokenizer, BertModel

    local = LocalInference(lambda _role, _digest: sentence_encoder, batch_rows=4)
    answers = [local.submit(Embed("encoder", "m", text)).result(120) for text in TEXTS]
    local.close()
    assert complaints == []
    tokenizer, model = AutoTokenizer.from_pretrained(sentence_encoder), BertModel.from_pretrained(sentence_encoder)
    for text, answer in zip(TEXTS, answers, strict=True):
        assert isinstance(answer, Embedded)
        with torch.inference_mode():
            asked = {name: torch.tensor([tokenizer(text)[name]]) for name in ("input_ids", "attention_mask")}
            mean = model(**asked).last_hidden_state.mean(1)[0]
        assert math.dist(answer.vector, (mean / mean.norm()).tolist()) < 1e-5


def test_one_folder_can_write_and_embed(tiny_model: Path, complaints: list[str]) -> None:
    from xinstruct.spine.inference import Decoding

    local = LocalInference(lambda _role, _digest: tiny_model, batch_rows=4)
    asked = (Embed("encoder", "m", TEXTS[0]), Generate("generator", "m", "Say it.", Decoding(4)))
    kinds = [type(local.submit(request).result(120)) for request in (*asked, *asked)]
    local.close()
    assert kinds == [Embedded, Generated] * 2 and complaints == []


def test_a_batch_that_is_not_full_waits_for_company_and_a_full_one_does_not(tiny_model: Path) -> None:
    seen: list[Batch] = []
    local = LocalInference(lambda _role, _digest: tiny_model, batch_rows=4, batch_wait_s=30.0, observe=seen.append)
    for _ in range(2):
        futures = [local.submit(Embed("encoder", "m", text)) for text in ("A", "B", "C", "D")]
        assert all(isinstance(future.result(25), Embedded) for future in futures)
    local.close()
    assert [len(batch.waits_s) for batch in seen] == [4, 4]


def test_a_row_that_stays_alone_is_answered_when_its_wait_is_over(tiny_model: Path) -> None:
    seen: list[Batch] = []
    local = LocalInference(lambda _role, _digest: tiny_model, batch_rows=4, batch_wait_s=0.05, observe=seen.append)
    for text in ("loads the model", "A"):
        assert isinstance(local.submit(Embed("encoder", "m", text)).result(120), Embedded)
    local.close()
    assert [len(batch.waits_s) for batch in seen] == [1, 1] and seen[1].waits_s[0] >= 0.05
