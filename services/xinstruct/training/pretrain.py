"""Makes the tiny base model: tokenizer and decoder, from texts of other worlds, no instruction anywhere in them.

    python -m xinstruct.training.pretrain --out models/tiny-base

It learns to write a text's catalogue record, in English, whatever the text's language: large models have that from the
bilingual texts of the web. With --proof-share it also learns to proof-read records that are wrong in one part.

The result is an ordinary GPT-NeoX folder (safetensors, tokenizer, config) that every server can load, with a
MANIFEST.json that says how it was made. The same options on the same kind of machine give the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xinstruct.spine.prompts import outline
from xinstruct.training.folders import MANIFEST, model_digest

LANGUAGES = ("fi", "id", "th", "tr", "vi", "bn", "hi", "sw", "ta", "ur")
END, PAD = "<|end|>", "<|pad|>"
# A word with its blank, a digit, a run of signs, a break. Marks belong to letters: without them Indic words fall apart.
WORDS = r" ?[\p{L}\p{M}\u200c\u200d]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]|\s"
RECORD_MARK, VERDICT_MARK = "\n##", "\n=="
TOKENIZER_TEXTS = 40_000
IGNORED = -100
LAST_STEPS = 200
POOL_BATCHES = 64
"""Rows of so many batches are sorted by length together: a batch is of one length, the order still random."""


@dataclass(frozen=True)
class Plan:
    """Everything that the weights follow from."""

    languages: tuple[str, ...]
    seed: int = 20_261_120
    vocabulary: int = 4_096
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 512
    context_tokens_max: int = 1_024
    batch_rows: int = 16
    record_steps: int = 7_500
    record_threads: int = 1
    reading_every: int = 20
    """One of so many of these steps learns to write the text, too, and not its record alone."""
    later_steps: int = 5_000
    """Steps of the second part, on other texts and with a learning rate that starts high again."""
    later_threads: int = 2
    proof_share: float = 0.0
    """Rows of the second part that are proof-read; the others are records as before. 0: DECISIONS.md says why."""
    learning_rate_max: float = 0.01
    rotary_base: float = 100.0
    rotary_share: float = 0.25
    token_spread: float = 0.12


def main(arguments: list[str] | None = None) -> int:
    """Read the options, make the model, print one line a hundred steps."""
    parser = argparse.ArgumentParser(prog="python -m xinstruct.training.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when it exists")
    parser.add_argument("--records", type=Path, help="go on from this folder, made with --later-steps 0")
    parser.add_argument("--languages", default=",".join(LANGUAGES), help="comma list of BCP 47 tags")
    for name, value in asdict(Plan(())).items():
        if name != "languages":
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    out, records = options.pop("out"), options.pop("records")
    plan = Plan(**{**options, "languages": tuple(options["languages"].split(","))})
    pretrain(plan, out, records)
    return 0


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and what is learned after it."""

    prompt: str
    answer: str
    verdict: bool = False
    """Only the answer's first token is learned, and no end."""


def pretrain(plan: Plan, out: Path, records: Path | None = None) -> None:
    """Write the base model of `plan` to the folder `out`; `records`: the model after the first of its two parts."""
    started_s = time.monotonic()
    if records is None:
        model, tokenizer, figures = _learn_records(plan)
    else:
        model, tokenizer = _load(records)
        figures = json.loads((records / MANIFEST).read_text("utf-8"))["figures"]
    if plan.later_steps:
        figures |= _learn_later(model, tokenizer, plan)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    figures["wall_s"] = figures.get("wall_s", 0) + round(time.monotonic() - started_s)
    _write_manifest(out, plan, model, figures)


def _learn_records(plan: Plan) -> tuple[Any, Any, dict[str, Any]]:
    from xinstruct.microworld.catalogue import catalogued_texts

    _pin(plan.record_threads, plan.seed)
    count = -(-plan.record_steps * plan.batch_rows // len(plan.languages))
    rows = [
        Row(outline(text["text"]) + RECORD_MARK, f" {text['record']}")
        for text in catalogued_texts(plan.seed, plan.languages, count)
    ]
    tokenizer = _train_tokenizer([row.prompt + row.answer for row in rows[:TOKENIZER_TEXTS]], plan)
    model = _new_model(plan, tokenizer)
    batches = _batches(rows, tokenizer, plan, reading_every=plan.reading_every)
    return model, tokenizer, {"records": _train(model, batches, plan)}


def _learn_later(model: Any, tokenizer: Any, plan: Plan) -> dict[str, Any]:
    from xinstruct.microworld.catalogue import catalogued_texts, proofread_texts

    _pin(plan.later_threads, plan.seed)
    each = -(-plan.later_steps * plan.batch_rows // len(plan.languages))
    proofs = math.ceil(each * plan.proof_share)
    rows = [
        Row(f"{outline(text['text'])}{RECORD_MARK} {text['draft']}{VERDICT_MARK}", f" {text['verdict']}", verdict=True)
        for text in proofread_texts(plan.seed, plan.languages, proofs)
    ]
    rows += [
        Row(outline(text["text"]) + RECORD_MARK, f" {text['record']}")
        for text in catalogued_texts(plan.seed + 1, plan.languages, each - proofs)
    ]
    random.Random(plan.seed).shuffle(rows)
    return {"later": _train(model, _batches(rows, tokenizer, plan), plan)}


def _pin(threads: int, seed: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def _train_tokenizer(texts: list[str], plan: Plan) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=plan.vocabulary, special_tokens=[END, PAD], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, model_max_length=plan.context_tokens_max,
        clean_up_tokenization_spaces=False,
    )
    # One message is the prompt as it stands: chat servers and completion servers get the same tokens.
    fast.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    return fast


Batch = tuple[Any, Any, Any]
"""Tokens, labels, and which of the labels are verdicts: each (rows, tokens)."""


def _batches(rows: list[Row], tokenizer: Any, plan: Plan, *, reading_every: int = 0) -> list[Batch]:
    """A batch a step; in one of `reading_every` the prompts are to be learned, too."""
    draw = random.Random(plan.seed + 1)
    prompts = tokenizer([row.prompt for row in rows])["input_ids"]
    answers = tokenizer([row.answer for row in rows])["input_ids"]
    encoded = [
        (prompt, answer[:1] if row.verdict else [*answer, tokenizer.eos_token_id], row.verdict)
        for row, prompt, answer in zip(rows, prompts, answers, strict=True)
    ]
    batches = []
    for start in range(0, len(encoded), POOL_BATCHES * plan.batch_rows):
        pool = sorted(encoded[start : start + POOL_BATCHES * plan.batch_rows], key=lambda row: len(row[0] + row[1]))
        made = [pool[first : first + plan.batch_rows] for first in range(0, len(pool), plan.batch_rows)]
        draw.shuffle(made)
        batches += made
    return [
        _batch(batch, tokenizer.pad_token_id, reading=bool(reading_every) and number % reading_every == 0)
        for number, batch in enumerate(batches)
    ]


def _batch(rows: list[tuple[list[int], list[int], bool]], pad: int, *, reading: bool) -> Batch:
    import torch

    ids = torch.full((len(rows), max(len(prompt + answer) for prompt, answer, _ in rows)), pad)
    labels = torch.full_like(ids, IGNORED)
    verdicts = torch.zeros_like(ids, dtype=torch.bool)
    for at, (prompt, answer, verdict) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[at, :end] = torch.tensor(prompt + answer)
        first = 0 if reading else len(prompt)
        labels[at, first:end] = ids[at, first:end]
        verdicts[at, :] = verdict
    return ids, labels, verdicts


def _new_model(plan: Plan, tokenizer: Any) -> Any:
    """A GPT-NeoX decoder: a quarter of each head's dimensions rotates, so that heads match contents at any distance."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM(GPTNeoXConfig(
        vocab_size=len(tokenizer), hidden_size=plan.hidden, intermediate_size=plan.intermediate,
        num_hidden_layers=plan.layers, num_attention_heads=plan.heads, max_position_embeddings=plan.context_tokens_max,
        rope_parameters={
            "rope_type": "default", "rope_theta": plan.rotary_base, "partial_rotary_factor": plan.rotary_share
        },
        hidden_act="gelu", use_parallel_residual=True, tie_word_embeddings=True, initializer_range=0.02,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))
    _start_copying(model, plan)
    return model


def _start_copying(model: Any, plan: Plan) -> None:
    """Starting weights with which the model copies what stands after an earlier occurrence of the present token.

    Copying names is what the roles need most, and a model this small finds it only after tens of millions of tokens
    (measured: no trace of it after 2.3 M). Half of the hidden dimensions hold the token. In layer 0, heads look one
    token back and write it to the other half; in layer 1, heads look for a place whose token before equals the present
    one, and copy from there. All of it is learned on from there, and small noise stands where nothing was set.
    """
    import torch

    size, half = plan.hidden // plan.heads, plan.hidden // 2
    turned = int(size * plan.rotary_share)
    body = model.gpt_neox
    back, match = body.layers[0].attention, body.layers[1].attention
    angles = plan.rotary_base ** (-torch.arange(0, turned, 2) / turned)
    with torch.no_grad():
        body.embed_in.weight[:, :half].normal_(0, plan.token_spread)
        body.embed_in.weight[:, half:].normal_(0, plan.token_spread / 10)
        for head in range(half // size):
            query, here = head * 3 * size, slice(head * size, (head + 1) * size)
            key, value = query + size, query + 2 * size
            there = slice(half + here.start, half + here.stop)
            for attention, target, gain in ((back, there, 0.7), (match, here, 2.0)):
                attention.query_key_value.weight[query:value] *= 0.5
                attention.query_key_value.weight[value : value + size, here] += torch.eye(size)
                attention.dense.weight[:, here] *= 0.1
                attention.dense.weight[target, here] += gain * plan.token_spread * torch.eye(size)
            bias = back.query_key_value.bias
            bias[query : query + turned // 2] = 8.0
            bias[key : key + turned // 2] = 8.0 * torch.cos(angles)
            bias[key + turned // 2 : key + turned] = 8.0 * torch.sin(angles)
            matched = 1.75 * torch.eye(size - turned)
            match.query_key_value.weight[query + turned : key, here.start : here.stop - turned] += matched
            match.query_key_value.weight[key + turned : value, there.start : there.stop - turned] += matched


def _train(model: Any, batches: list[Batch], plan: Plan) -> dict[str, float]:
    """One pass with warm-up and cosine; returns tokens read and the mean losses of the last steps, in nats a token.

    Verdicts weigh as much as records: there is one token of them for sixteen of a record.
    """
    import torch

    from xinstruct.training.muon import muon_for

    optimizer = muon_for(model, plan.learning_rate_max, weight_decay=0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    last: deque[tuple[float, float]] = deque(maxlen=LAST_STEPS)
    tokens = 0
    started_s = time.monotonic()
    model.train()
    for step, (ids, labels, verdicts) in enumerate(batches):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _share(step, len(batches))
        wanted = labels[:, 1:] != IGNORED
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][wanted]
        scores = model.get_output_embeddings()(hidden)
        losses = torch.nn.functional.cross_entropy(scores, labels[:, 1:][wanted], reduction="none")
        judged = verdicts[:, 1:][wanted]
        parts = [part.mean() if len(part) else losses.new_zeros(()) for part in (losses[~judged], losses[judged])]
        sum(parts).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        last.append((parts[0].item(), parts[1].item()))
        if step % 100 == 99:
            rate = tokens / (time.monotonic() - started_s)
            records, proofs = (sum(column) / len(last) for column in zip(*last, strict=True))
            losses_now = f"records {records:.3f}, verdicts {proofs:.3f}"
            sys.stderr.write(f"step {step + 1} of {len(batches)}: {losses_now}, {rate:.0f} tokens/s\n")
    records, proofs = (round(sum(column) / len(last), 4) for column in zip(*last, strict=True))
    return {"tokens": tokens, "loss_of_records_nats": records, "loss_of_verdicts_nats": proofs}


def _share(step: int, steps: int) -> float:
    """Share of the highest learning rate at `step`: 2 % warm-up, then half a cosine down to a twentieth."""
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _write_manifest(out: Path, plan: Plan, model: Any, figures: dict[str, Any]) -> None:
    manifest = {
        "what": "tiny base decoder of xinstruct, pre-trained on microworld text of other seeds with English keywords, "
        "no instructions",
        "command": "python -m xinstruct.training.pretrain --out models/tiny-base",
        "licence": "Apache-2.0",
        "plan": asdict(plan),
        "parameters": sum(p.numel() for p in model.parameters()),
        "figures": figures,
        "digest": model_digest(out),
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # The library asks a hub for updates otherwise.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
