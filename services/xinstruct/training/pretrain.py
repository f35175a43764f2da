"""Makes the tiny base model: tokenizer and decoder, from texts of other worlds, no instruction anywhere in them.

    python -m xinstruct.training.pretrain --out models/tiny-base

It learns to write a text's catalogue record, in English, whatever the text's language: large models have that from the
bilingual texts of the web. In the last part it also learns to proof-read records, with an evaluator's labels.

The result is an ordinary GPT-NeoX folder (safetensors, tokenizer, config) that every server can load, with a
MANIFEST.json that says how it was made. The same options on the same kind of machine give the same weights.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xinstruct.inference.model_folder import model_digest
from xinstruct.spine.prompts import LABELS, outline
from xinstruct.training.folders import MANIFEST
from xinstruct.training.job_branches import IGNORED, beside

LANGUAGES = ("fi", "id", "th", "tr", "vi", "bn", "hi", "sw", "ta", "ur")
END, PAD = "<|end|>", "<|pad|>"
# A word with its blank, a digit, a run of signs, a break. Marks belong to letters: without them Indic words fall apart.
WORDS = r" ?[\p{L}\p{M}\u200c\u200d]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]|\s"
RECORD_MARK, VERDICT_MARK = "\n##", "\n=="
BEST, REASONABLE, WORST = LABELS
LABEL_OF = {"correct": BEST, "everything": WORST}
RECORD = 1
"""Number of the branch that is the record; the ones after it are drafts."""
VERDICT_TOKENS = 2
"""An evaluator's label, and then what is wrong."""
TOKENIZER_TEXTS = 40_000
LAST_STEPS = 200
POOL_BATCHES = 64
"""Rows of so many batches are sorted by length together: a batch is of one length, the order still random."""


@dataclass(frozen=True)
class Part:
    """A pass over texts of its own, with a learning rate that rises to its highest and falls again."""

    steps: int
    threads: int
    learning_rate_max: float
    reading_every: int = 0
    """One of so many steps learns to write the text, too, and not its record alone; 0: none does."""
    proofs_each: int = 0
    """Drafts of the record of each text that are proof-read, besides writing the record itself."""
    more_of: tuple[str, ...] = ()
    """Languages that get more texts than the others, as many times as they are named: the ones learned worst so far."""


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
    rotary_base: float = 100.0
    rotary_share: float = 0.25
    token_spread: float = 0.12
    parts: tuple[Part, ...] = (
        Part(steps=7_500, threads=1, learning_rate_max=0.01, reading_every=20),
        Part(steps=5_000, threads=2, learning_rate_max=0.01),
        Part(steps=9_500, threads=2, learning_rate_max=0.005, proofs_each=3),
        # After part three 86 % of the records are exact in these, 93 to 99 % in the others.
        Part(steps=8_000, threads=1, learning_rate_max=0.005, proofs_each=3, more_of=("th", "sw", "th", "sw", "ur")),
    )


def main(arguments: list[str] | None = None) -> int:
    """Read the options, make the model, print one line a hundred steps."""
    parser = argparse.ArgumentParser(
        prog="python -m xinstruct.training.pretrain", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when it exists")
    parser.add_argument("--languages", default=",".join(LANGUAGES), help="comma list of BCP 47 tags")
    parser.add_argument("--seed", type=int, default=Plan(()).seed, help="seed of texts and weights")
    parser.add_argument("--parts", type=int, default=len(Plan(()).parts), help="stop after so many parts")
    parser.add_argument("--after", type=Path, help="go on from this folder, made with fewer parts")
    options = parser.parse_args(arguments)
    plan = Plan(languages=tuple(options.languages.split(",")), seed=options.seed)
    pretrain(replace(plan, parts=plan.parts[: options.parts]), options.out, options.after)
    return 0


@dataclass(frozen=True, slots=True)
class Row:
    """A text's prompt, the record that is learned after it, and drafts with the verdicts that are learned after them.

    Record and drafts stand beside each other: each sees the prompt and itself, nothing of the others.
    """

    prompt: str
    record: str
    proofs: tuple[tuple[str, str], ...] = ()


def pretrain(plan: Plan, out: Path, after: Path | None = None) -> None:
    """Write the base model of `plan` to the folder `out`; `after`: a folder that holds it after some of its parts."""
    model: Any = None
    tokenizer: Any = None
    figures: list[dict[str, Any]] = []
    if after:
        model, tokenizer, figures = _load(after)
    for number, part in list(enumerate(plan.parts))[len(figures) :]:
        started_s = time.monotonic()
        _pin(part.threads, plan.seed + number)
        rows = _rows(plan, part, plan.seed + number)
        if model is None:
            tokenizer = _train_tokenizer([row.prompt + row.record for row in rows[:TOKENIZER_TEXTS]], plan)
            model = _new_model(plan, tokenizer)
        learned = _train(model, _batches(rows, tokenizer, plan, part), part)
        figures.append(learned | {"wall_s": round(time.monotonic() - started_s)})
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _write_manifest(out, plan, model, figures)


def _rows(plan: Plan, part: Part, seed: int) -> list[Row]:
    from xinstruct.microworld.catalogue import catalogued_texts, proofread_texts

    languages = plan.languages + tuple(code for code in part.more_of if code in plan.languages)
    count = -(-part.steps * plan.batch_rows // len(languages))
    if not part.proofs_each:
        texts = catalogued_texts(seed, languages, count)
        return [Row(outline(text["text"]) + RECORD_MARK, f" {text['record']}") for text in texts]
    return [
        Row(
            outline(text["text"]) + RECORD_MARK, f" {text['record']}",
            tuple((f" {draft['draft']}{VERDICT_MARK}", draft["verdict"]) for draft in text["drafts"]),
        )
        for text in proofread_texts(seed, languages, count, part.proofs_each)
    ]


def _pin(threads: int, seed: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def _load(folder: Path) -> tuple[Any, Any, list[dict[str, Any]]]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    figures = json.loads((folder / MANIFEST).read_text("utf-8"))["figures"]
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder), figures


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


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a step, each tensor (rows, tokens) but `seen`."""

    ids: Any
    labels: Any
    """The token itself where it is learned, IGNORED elsewhere."""
    verdicts: Any
    """True where the label is a verdict."""
    positions: Any
    seen: Any
    """(rows, 1, tokens, tokens): True where a token, the third index, sees another. None: it sees all before it."""


Encoded = tuple[list[int], list[list[int]]]
"""A prompt, and what stands beside each other after it; the first is the record, the others end in a verdict."""


def _batches(rows: list[Row], tokenizer: Any, plan: Plan, part: Part) -> Iterator[Batch]:
    """A batch a step; in one of `reading_every` the prompts are to be learned, too."""
    draw = random.Random(plan.seed + 1)
    pool_rows = POOL_BATCHES * plan.batch_rows
    number = 0
    for start in range(0, len(rows), pool_rows):
        pool = sorted((_encoded(row, tokenizer) for row in rows[start : start + pool_rows]), key=_length)
        made = [pool[first : first + plan.batch_rows] for first in range(0, len(pool), plan.batch_rows)]
        draw.shuffle(made)
        for batch in made:
            reading = part.reading_every > 0 and number % part.reading_every == 0
            yield _batch(batch, tokenizer.pad_token_id, reading=reading)
            number += 1


def _encoded(row: Row, tokenizer: Any) -> Encoded:
    def ids(text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    def verdict(word: str) -> list[int]:
        return ids(LABEL_OF.get(word, REASONABLE))[:1] + ids(f" {word}")[:1]

    proofs = [ids(draft) + verdict(word) for draft, word in row.proofs]
    return ids(row.prompt), [[*ids(row.record), tokenizer.eos_token_id], *proofs]


def _length(row: Encoded) -> int:
    prompt, parts = row
    return len(prompt) + sum(map(len, parts))


def _batch(rows: list[Encoded], pad: int, *, reading: bool) -> Batch:
    import torch

    width = max(map(_length, rows))
    ids = torch.full((len(rows), width), pad)
    labels = torch.full_like(ids, IGNORED)
    numbers = torch.full_like(ids, -1)
    for at, (prompt, parts) in enumerate(rows):
        ids[at, : _length((prompt, parts))] = torch.tensor(sum(parts, start=prompt))
        numbers[at, : len(prompt)] = 0
        if reading:
            labels[at, : len(prompt)] = ids[at, : len(prompt)]
        first = len(prompt)
        for number, part in enumerate(parts, start=RECORD):
            end = first + len(part)
            learned = first if number == RECORD else end - VERDICT_TOKENS
            labels[at, learned:end] = ids[at, learned:end]
            numbers[at, first:end] = number
            first = end
    positions, seen = beside(numbers)
    alone = all(len(parts) == 1 for _, parts in rows)
    return Batch(ids, labels, (labels != IGNORED) & (numbers > RECORD), positions, None if alone else seen)


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


def _train(model: Any, batches: Iterator[Batch], part: Part) -> dict[str, float]:
    """One pass with warm-up and cosine; returns tokens read and the mean losses of the last steps, in nats a token.

    Verdicts weigh as much as records: there are two tokens of them for sixteen of a record.
    """
    import torch

    from xinstruct.training.muon import muon_for

    optimizer = muon_for(model, part.learning_rate_max, weight_decay=0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    last: deque[tuple[float, float]] = deque(maxlen=LAST_STEPS)
    tokens = 0
    started_s = time.monotonic()
    model.train()
    for step, batch in enumerate(itertools.islice(batches, part.steps)):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _share(step, part.steps)
        wanted = batch.labels[:, 1:] != IGNORED
        inputs = {"input_ids": batch.ids, "attention_mask": batch.seen, "position_ids": batch.positions}
        hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state[:, :-1][wanted]
        scores = model.get_output_embeddings()(hidden)
        losses = torch.nn.functional.cross_entropy(scores, batch.labels[:, 1:][wanted], reduction="none")
        judged = batch.verdicts[:, 1:][wanted]
        parts = [part.mean() if len(part) else losses.new_zeros(()) for part in (losses[~judged], losses[judged])]
        sum(parts).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.ids.numel()
        last.append((parts[0].item(), parts[1].item()))
        if step % 100 == 99:
            rate = tokens / (time.monotonic() - started_s)
            records, proofs = (sum(column) / len(last) for column in zip(*last, strict=True))
            losses_now = f"records {records:.3f}, verdicts {proofs:.3f}"
            sys.stderr.write(f"step {step + 1} of {part.steps}: {losses_now}, {rate:.0f} tokens/s\n")
    records, proofs = (round(sum(column) / len(last), 4) for column in zip(*last, strict=True))
    return {"tokens": tokens, "loss_of_records_nats": records, "loss_of_verdicts_nats": proofs}


def _share(step: int, steps: int) -> float:
    """Share of the highest learning rate at `step`: 2 % warm-up, then half a cosine down to a twentieth."""
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _write_manifest(out: Path, plan: Plan, model: Any, figures: list[dict[str, Any]]) -> None:
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
