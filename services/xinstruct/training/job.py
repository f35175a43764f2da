"""The training job: one process, one model. `python -m xinstruct.training.job --spec FILE`

Supervised fine-tuning with TRL; the loss counts the answer's tokens and its end, nothing of the prompt. Writes below
the work folder of the spec: progress.jsonl (a line every few steps), checkpoints (a killed job goes on from the last),
model/ (weights, tokenizer, config, MANIFEST.json with the base's licence) and result.json, its last word.
The same spec on the same kind of machine gives the same weights: seeds and thread count are pinned.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from xinstruct.inference.model_folder import CALIBRATION, model_digest
from xinstruct.spine.errors import Invalid, XinstructError
from xinstruct.training.config import Recipe, recipe_in
from xinstruct.training.data import Example, generator_examples, sample_of, split
from xinstruct.training.domain import JobSpec, PairRow
from xinstruct.training.folders import MANIFEST, licence_of
from xinstruct.training.job_branches import IGNORED, collator, joined
from xinstruct.training.job_drafts import Drafts, calibration, drafts
from xinstruct.training.ratings import evaluator_examples
from xinstruct.training.work_folder import CHECKPOINTS, MODEL, PROGRESS, RESULT, ended, last_checkpoint, write_whole

PROGRESS_STEPS = 5
HELD_OUT_ROWS_MAX = 200
HELD_OUT_DRAFTS_MAX = 100
"""Held-out rows that are drafted: drafting takes longest."""


class Precision(Enum):
    """In which numbers a job computes.

    Weights that are trained, their gradients and the optimizer's averages are float32 in both: at the learning rates
    of large models most steps are smaller than half of bfloat16's distance to the next number, and would be lost.
    """

    SINGLE = "single"
    """float32 throughout: on a CPU."""
    MIXED = "mixed"
    """Products in bfloat16: on a GPU. So is what LoRA leaves as it was, and the finished model."""


def main(arguments: list[str] | None = None) -> int:
    """Run the job of the spec file, unless it has ended before. Exit code 0 also when it failed for a reason that
    result.json names.
    """
    parser = argparse.ArgumentParser(prog="python -m xinstruct.training.job", description="Run one training job.")
    parser.add_argument("--spec", type=Path, required=True, help="JSON file with a JobSpec")
    spec = JobSpec.from_json(parser.parse_args(arguments).spec.read_text(encoding="utf-8"))
    work = Path(spec.work_folder)
    work.mkdir(parents=True, exist_ok=True)
    if ended(work) is None:
        try:
            result = run(spec, Precision.MIXED if _on_gpu() else Precision.SINGLE)
        except XinstructError as error:
            result = {"failure": error.message}
        write_whole(work / RESULT, json.dumps(result, sort_keys=True).encode())
    # After the last word: a job that is killed between the two is not to begin again, without them.
    shutil.rmtree(work / CHECKPOINTS, ignore_errors=True)
    return 0


def run(spec: JobSpec, precision: Precision) -> dict[str, Any]:
    """Train and save the model of `spec`; returns what result.json holds. Invalid when there is nothing to learn."""
    recipe = recipe_in(spec.recipe)
    _pin(recipe)
    rows = read_rows(Path(spec.snapshot_file))
    learned, held_out = split(rows, recipe.held_out_ratio)
    learned, held_out = sample_of(learned, _rows_used(recipe)), sample_of(held_out, HELD_OUT_ROWS_MAX)
    sampled, greedy = _drafts(spec, recipe, learned, held_out)
    examples = _examples(spec, recipe, learned, sampled)
    _pin(recipe)  # the drafts were made on one thread
    model, tokenizer = _load(Path(spec.base_folder), recipe, precision)
    trainer = _trainer(model, tokenizer, examples, recipe, Path(spec.work_folder), precision)
    last = last_checkpoint(Path(spec.work_folder))
    state = trainer.train(resume_from_checkpoint=str(last) if last else None)
    metrics = {
        "rows_learned": len(learned), "rows_held_out": len(held_out), "examples": len(examples),
        "loss": round(float(state.training_loss), 5), "seconds": round(float(state.metrics["train_runtime"]), 1),
    }
    looked_at = recipe.model_copy(update={"wrong_each": 1})
    metrics |= _held_out_figures(trainer, tokenizer, _examples(spec, looked_at, held_out, greedy), recipe)
    finished = _finished(trainer.model, precision)
    _save(finished, tokenizer, spec, metrics, lambda model: calibration(model, recipe, held_out, greedy))
    steps = int(trainer.state.global_step)
    return {"steps_done": steps, "steps_count": steps, "loss": metrics["loss"], "metrics": metrics}


def read_rows(file: Path) -> list[PairRow]:
    """The pairs of a snapshot, sorted by id. Invalid when it holds none."""
    lines = file.read_text(encoding="utf-8").splitlines()
    rows = sorted((PairRow(**json.loads(line)) for line in lines if line), key=lambda row: row.id)
    if not rows:
        raise Invalid(f"the snapshot {file.name} holds no pairs")
    return rows


def encode(tokenizer: Any, example: Example, tokens_max: int) -> dict[str, list[int]]:
    """Token ids and labels; a prompt that is too long loses its middle, so that its start and its question stay."""
    chat = [{"role": "user", "content": example.prompt}]
    if getattr(tokenizer, "chat_template", None):
        prompt = list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"])
    else:
        prompt = list(tokenizer(example.prompt)["input_ids"])
    answer = list(tokenizer(example.answer, add_special_tokens=False)["input_ids"])
    answer = [*answer, tokenizer.eos_token_id] if example.ends else answer[:1]
    room = max(2, tokens_max - len(answer))
    if len(prompt) > room:
        prompt = prompt[: room // 2] + prompt[len(prompt) - (room - room // 2) :]
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}


def _rows_used(recipe: Recipe) -> int:
    """Rows that the steps can reach: preparing others would only cost time."""
    return recipe.steps_max * recipe.rows_per_batch or sys.maxsize


def _drafts(
    spec: JobSpec, recipe: Recipe, learned: Sequence[PairRow], held_out: Sequence[PairRow]
) -> tuple[Drafts, Drafts]:
    """An evaluator's drafts of rows to learn from, and of rows held out.

    The first are sampled, for greedy drafts of rows that the generator was tuned on are too good; the others are made
    as those that the evaluator will read.
    """
    if spec.role != "evaluator":
        return {}, {}
    chosen, looked_at = sample_of(learned, recipe.drafts_max), sample_of(held_out, HELD_OUT_DRAFTS_MAX)
    return (
        drafts(spec.generator_folder, recipe, chosen, temperature=recipe.draft_temperature),
        drafts(spec.generator_folder, recipe, looked_at, temperature=0.0),
    )


def _examples(spec: JobSpec, recipe: Recipe, rows: Sequence[PairRow], found: Drafts) -> list[Example]:
    if spec.role == "generator":
        return generator_examples(rows, recipe.prompt_family)
    texts = {row_id: [draft.text] for row_id, draft in found.items()}
    return evaluator_examples(rows, texts, recipe.prompt_family, recipe.seed, recipe.wrong_each)


def _pin(recipe: Recipe) -> None:
    """Everything that the weights follow from besides base and rows: another thread count gives other weights."""
    import torch
    from transformers import set_seed

    torch.set_num_threads(recipe.threads_count)
    set_seed(recipe.seed)


def _load(base: Path, recipe: Recipe, precision: Precision) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # Adapters are float32 over a base of any kind (PEFT's autocast_adapter_dtype).
    frozen = recipe.lora_rank > 0 and precision is Precision.MIXED
    dtype = torch.bfloat16 if frozen else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False, use_safetensors=True, dtype=dtype)
    return model, tokenizer


def _trainer(
    model: Any, tokenizer: Any, examples: Sequence[Example], recipe: Recipe, work: Path, precision: Precision
) -> Any:
    from datasets import Dataset
    from trl import SFTConfig

    from xinstruct.training.muon import muon_for

    branching, mixed = recipe.wrong_each > 1, precision is Precision.MIXED
    at_once = recipe.rows_at_once or recipe.rows_per_batch
    encoded = [encode(tokenizer, example, recipe.tokens_max) for example in examples]
    rows = _branching(examples, encoded) if branching else [row | {"length": len(row["input_ids"])} for row in encoded]
    arguments = SFTConfig(
        output_dir=str(work / CHECKPOINTS), seed=recipe.seed, data_seed=recipe.seed,
        per_device_train_batch_size=at_once, gradient_accumulation_steps=recipe.rows_per_batch // at_once,
        num_train_epochs=recipe.epochs, max_steps=recipe.steps_max or -1, learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay, lr_scheduler_type="cosine", warmup_steps=recipe.warmup_ratio,
        max_grad_norm=recipe.gradient_norm_max, adam_beta1=0.9, adam_beta2=0.95, optim="adamw_torch_fused",
        bf16=mixed, use_cpu=not _on_gpu(), gradient_checkpointing=mixed,
        train_sampling_strategy="group_by_length", length_column_name="length",
        dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, packing=False, dataloader_num_workers=0,
        save_strategy="steps", save_steps=recipe.checkpoint_steps, save_total_limit=1, logging_steps=PROGRESS_STEPS,
        report_to="none", disable_tqdm=True, eval_strategy="no", remove_unused_columns=not branching,
    )
    optimizer = muon_for(model, recipe.learning_rate, recipe.weight_decay) if recipe.optimizer == "muon" else None
    return _trainer_class()(
        model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        data_collator=collator(tokenizer.pad_token_id) if branching else None,
        callbacks=[_progress(work / PROGRESS)], peft_config=_lora(recipe), optimizers=(optimizer, None),
    )


def _branching(examples: Sequence[Example], encoded: Sequence[dict[str, list[int]]]) -> list[dict[str, Any]]:
    """Rows in which the examples of one pair, which stand in turn, stand beside each other."""
    rows: list[dict[str, Any]] = []
    pairs = zip(examples, encoded, strict=True)
    for _, group in itertools.groupby(pairs, key=lambda pair: pair[0].id.partition(" ")[0]):
        several = list(group)
        rows += joined([one for _, one in several], [example.weight for example, _ in several])
    return rows


def _trainer_class() -> Any:
    import torch
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):
        """TRL's trainer with a loss that projects the answer's positions only: twice as fast for a small model on a
        CPU, where TRL's own fused head scores every position of the prompt too. What a loss is divided by is counted
        over all rows of a step, however many of them are in memory together: sums of such losses are the step's."""

        loss_is_scaled_for_ga = True

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            return batches, torch.as_tensor(sum(map(_divisor, batches)), device=device)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            weights = inputs.get("weights")
            if return_outputs or (self.args.bf16 and weights is None):
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            wanted = inputs["labels"][:, 1:] != IGNORED
            # Padding stands on the right, where a causal model cannot see it from the left: no mask, a faster kernel.
            seen = {} if weights is None else {name: inputs[name] for name in ("attention_mask", "position_ids")}
            with self.accelerator.autocast():  # accelerate casts in the model's own forward only
                hidden = model.get_decoder()(input_ids=inputs["input_ids"], use_cache=False, **seen).last_hidden_state
                scores = model.get_output_embeddings()(hidden[:, :-1][wanted]).float()
            losses = torch.nn.functional.cross_entropy(scores, inputs["labels"][:, 1:][wanted], reduction="none")
            if weights is not None:
                return (losses * weights[:, 1:][wanted]).sum() / num_items_in_batch
            return losses.sum() / num_items_in_batch.clamp(min=1)

    return AnswerTrainer


def _divisor(batch: Any) -> Any:
    """Labels that are learned in a batch, each with its weight where they have weights."""
    wanted = batch["labels"][:, 1:] != IGNORED
    return batch["weights"][:, 1:][wanted].sum() if "weights" in batch else wanted.sum()


def _on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _lora(recipe: Recipe) -> Any:
    if recipe.lora_rank == 0:
        return None
    from peft import LoraConfig

    rank = recipe.lora_rank
    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.05, target_modules="all-linear")


def _progress(file: Path) -> Any:
    """A callback that appends {"steps_done", "steps_count", "loss"} to `file`."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            line = {"steps_done": state.global_step, "steps_count": state.max_steps, "loss": (logs or {}).get("loss")}
            if line["loss"] is not None:
                with file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")

    return Progress()


def _held_out_figures(trainer: Any, tokenizer: Any, examples: Sequence[Example], recipe: Recipe) -> dict[str, float]:
    """Loss a token on the held-out rows, and the share of answers of which every token is the likeliest one."""
    import torch

    if not examples:
        return {}
    encoded = [encode(tokenizer, example, recipe.tokens_max) for example in examples]
    loss = exact = tokens = 0.0
    trainer.model.eval()
    with torch.inference_mode():
        for row in encoded:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])[0, 1:]
            scores = trainer.model(input_ids=ids.to(trainer.model.device)).logits[0, :-1].float().cpu()
            wanted = labels != IGNORED
            loss += float(torch.nn.functional.cross_entropy(scores[wanted], labels[wanted], reduction="sum"))
            exact += bool((scores[wanted].argmax(-1) == labels[wanted]).all())
            tokens += int(wanted.sum())
    return {"held_out_loss": round(loss / tokens, 5), "held_out_exact": round(exact / len(encoded), 4)}


def _finished(model: Any, precision: Precision) -> Any:
    """The model as it is served: one without adapters."""
    import torch

    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    return merged.to(torch.bfloat16) if precision is Precision.MIXED else merged


def _save(
    model: Any, tokenizer: Any, spec: JobSpec, metrics: dict[str, Any], calibrated: Callable[[Path], str]
) -> None:
    """The finished model, visible whole or not at all. `calibrated`: the calibration of a model folder, "" for none."""
    work = Path(spec.work_folder)
    partial = work / f"{MODEL}.part"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial, safe_serialization=True)
    tokenizer.save_pretrained(partial)
    if text := calibrated(partial):
        (partial / CALIBRATION).write_text(text, encoding="utf-8")
    manifest = {
        "job": spec.job_name, "role": spec.role, "round": spec.round, "licence": licence_of(Path(spec.base_folder)),
        "base_digest": model_digest(Path(spec.base_folder)), "recipe": spec.recipe, "metrics": metrics,
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(work / MODEL, ignore_errors=True)
    partial.rename(work / MODEL)


if __name__ == "__main__":
    sys.exit(main())
