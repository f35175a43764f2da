"""Makes the tiny base model: tokenizer and decoder, from plain text of other worlds, no instruction anywhere in it.

    python -m xinstruct.training.pretrain --out models/tiny-base

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xinstruct.spine.prompts import outline
from xinstruct.training.folders import model_digest

LANGUAGES = ("fi", "id", "th", "tr", "vi", "bn", "hi", "sw", "ta", "ur")
END, PAD = "<|end|>", "<|pad|>"
# A word with its blank, a digit, a run of signs, a break. Marks belong to letters: without them Indic words fall apart.
WORDS = r" ?[\p{L}\p{M}\u200c\u200d]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]|\s"
REPEATED_SHARE = 0.5
"""Texts of which some lines come twice: what teaches the model to copy names it has never seen."""
HEADINGS_KEPT_SHARE = 0.15
HEADING_CHARS_MAX = 32
CONTENTS_MARK = "\n=>"
IGNORED = -100
SENTENCE_ENDS = ".!।۔…»”\""


@dataclass(frozen=True)
class Plan:
    """Everything that the weights follow from."""

    languages: tuple[str, ...]
    seed: int = 20_261_120
    texts_per_language: int = 5_000
    vocabulary: int = 4_096
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    intermediate: int = 512
    context_tokens_max: int = 1_024
    block_tokens: int = 256
    batch_rows: int = 8
    steps: int = 2_000
    contents_texts_per_language: int = 8_000
    contents_steps: int = 2_600
    learning_rate_max: float = 0.02
    rotary_base: float = 100.0
    rotary_share: float = 0.25
    token_spread: float = 0.12
    threads: int = 1


def main(arguments: list[str] | None = None) -> int:
    """Read the options, make the model, print one line a hundred steps."""
    parser = argparse.ArgumentParser(prog="python -m xinstruct.training.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write; replaced when it exists")
    parser.add_argument("--languages", default=",".join(LANGUAGES), help="comma list of BCP 47 tags")
    for name, value in asdict(Plan(())).items():
        if name != "languages":
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    plan = Plan(**{**options, "languages": tuple(options["languages"].split(","))})
    pretrain(plan, out)
    return 0


def pretrain(plan: Plan, out: Path) -> None:
    """Write the base model of `plan` to the folder `out`: it reads texts, then learns to list what they are about."""
    import torch

    torch.set_num_threads(plan.threads)
    torch.manual_seed(plan.seed)
    started_s = time.monotonic()
    texts = list(_texts(plan))
    tokenizer = _train_tokenizer(texts, plan)
    model = _new_model(plan, tokenizer)
    first = _train(model, _text_batches(texts, tokenizer, plan), plan, steps=plan.steps)
    last = _train(model, _contents_batches(list(_contents(plan)), tokenizer, plan), plan, steps=plan.contents_steps)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    figures = {
        "loss_of_texts_nats": round(first, 4), "loss_of_contents_nats": round(last, 4),
        "wall_s": round(time.monotonic() - started_s),
    }
    _write_manifest(out, plan, model, figures)


def _texts(plan: Plan) -> Iterator[str]:
    """Outlines of texts, as the tiny prompts will show them; half of them with some lines twice."""
    from xinstruct.microworld.seeds import plain_texts

    draw = random.Random(plan.seed)
    for text in plain_texts(plan.seed, plan.languages, plan.texts_per_language):
        lines = outline(text).split("\n")
        if draw.random() < REPEATED_SHARE:
            lines += draw.sample(lines, min(len(lines), draw.randint(1, 3)))
        yield "\n".join(lines)


def _contents(plan: Plan) -> Iterator[tuple[str, str]]:
    """(text, its contents): title and headings, of texts that have headings, which most of them lose in their midst.

    So the model learns to say, in the text's own language, what a text and its sections are about.
    """
    from xinstruct.microworld.seeds import plain_texts

    draw = random.Random(plan.seed + 2)
    for text in plain_texts(plan.seed + 2, plan.languages, plan.contents_texts_per_language):
        title, *parts = [part for part in text.split("\n") if part]
        headings = [part for part in parts[:-1] if is_heading(part)]
        if headings:
            kept = parts if draw.random() < HEADINGS_KEPT_SHARE else [part for part in parts if part not in headings]
            listed = "\n".join(f" {line}" for line in (title, *headings))
            yield outline("\n".join((title, *kept))) + CONTENTS_MARK, listed


def is_heading(line: str) -> bool:
    """Whether a line below the title reads like a heading: short, no sentence, no figures."""
    return len(line) <= HEADING_CHARS_MAX and line[-1] not in SENTENCE_ENDS and not any(c.isdigit() for c in line)


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


def _text_batches(texts: list[str], tokenizer: Any, plan: Plan) -> list[tuple[Any, Any]]:
    """All texts, shuffled, with their ends, cut to equal blocks: (tokens, labels) of a step, both the same."""
    import torch

    order = list(texts)
    random.Random(plan.seed + 1).shuffle(order)
    ids = [token for row in tokenizer(order)["input_ids"] for token in (*row, tokenizer.eos_token_id)]
    size = plan.batch_rows * plan.block_tokens
    blocks = torch.tensor(ids[: len(ids) // size * size]).view(-1, plan.batch_rows, plan.block_tokens)
    return [(block, block) for block in blocks]


def _contents_batches(pairs: list[tuple[str, str]], tokenizer: Any, plan: Plan) -> list[tuple[Any, Any]]:
    """Texts and their contents, of like length in a step; only the contents are learned."""
    import torch

    draw = random.Random(plan.seed + 3)
    draw.shuffle(pairs)
    prompts, answers = (tokenizer([pair[side] for pair in pairs])["input_ids"] for side in (0, 1))
    rows = [(prompt, [*answer, tokenizer.eos_token_id]) for prompt, answer in zip(prompts, answers, strict=True)]
    batches = []
    for start in range(0, len(rows), 64 * plan.batch_rows):
        pool = sorted(rows[start : start + 64 * plan.batch_rows], key=lambda row: len(row[0]) + len(row[1]))
        batches += [pool[first : first + plan.batch_rows] for first in range(0, len(pool), plan.batch_rows)]
    draw.shuffle(batches)
    made = []
    for batch in batches:
        width = max(len(prompt) + len(answer) for prompt, answer in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        labels = torch.full((len(batch), width), IGNORED)
        for row, (prompt, answer) in enumerate(batch):
            ids[row, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
            labels[row, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
        made.append((ids, labels))
    return made


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


def _train(model: Any, batches: list[tuple[Any, Any]], plan: Plan, *, steps: int) -> float:
    """Warm-up and cosine, the batches again and again; returns the mean loss of the last hundred steps, in nats."""
    import torch

    from xinstruct.training.muon import muon_for

    optimizer = muon_for(model, plan.learning_rate_max, weight_decay=0.01)
    rates = [group["lr"] for group in optimizer.param_groups]
    last: list[float] = []
    tokens = 0
    started_s = time.monotonic()
    model.train()
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _share(step, steps)
        ids, labels = batches[step % len(batches)]
        wanted = labels[:, 1:] != IGNORED
        hidden = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][wanted]
        loss = torch.nn.functional.cross_entropy(model.get_output_embeddings()(hidden), labels[:, 1:][wanted])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        last = [*last[-99:], loss.item()]
        tokens += ids.numel()
        if step % 100 == 99:
            rate = tokens / (time.monotonic() - started_s)
            mean = sum(last) / len(last)
            sys.stderr.write(f"step {step + 1} of {steps}: loss {mean:.3f}, {rate:.0f} tokens/s\n")
    return sum(last) / len(last)


def _share(step: int, steps: int) -> float:
    """Share of the highest learning rate at `step`: 2 % warm-up, then half a cosine down to a twentieth."""
    warm = max(1, steps // 50)
    if step < warm:
        return (step + 1) / warm
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _write_manifest(out: Path, plan: Plan, model: Any, figures: dict[str, Any]) -> None:
    manifest = {
        "what": "tiny base decoder of xinstruct, pre-trained on plain microworld text of other seeds, no instructions",
        "command": "python -m xinstruct.training.pretrain --out models/tiny-base",
        "licence": "Apache-2.0",
        "plan": asdict(plan),
        "parameters": sum(p.numel() for p in model.parameters()),
        **figures,
        "digest": model_digest(out),
    }
    (out / "MANIFEST.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    # The library asks a hub for updates otherwise.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
