"""Settings of training: where base and seeds are, and the recipe of each role."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from xinstruct.spine.config import Settings
from xinstruct.spine.errors import Invalid


class Recipe(Settings):
    """What the weights follow from, besides base and rows. The numbers suit the tiny models.

    For the 8B class the method's own values are: epochs 3, rows_per_batch 128, tokens_max 2048, optimizer "adamw",
    learning_rate 1e-5, weight_decay 0.1, warmup_ratio 0.03, prompt_family "chat"; for small hardware add lora_rank 16,
    learning_rate 1e-4, and rows_at_once as many as its memory holds.
    """

    prompt_family: Literal["tiny", "chat"] = Field("chat", description="Template family; equal to that of the service.")
    epochs: float = Field(2.0, gt=0, description="Passes over the rows.")
    steps_max: int = Field(0, ge=0, description="Optimizer steps at most; 0: as many as the epochs need.")
    rows_per_batch: int = Field(8, ge=1, description="Sequences an optimizer step.")
    rows_at_once: int = Field(
        0, ge=0,
        description="Sequences of a step that are in memory together: a divisor of rows_per_batch. Fewer take less "
        "memory and give the same step but for rounding; 0: all of them.",
    )
    tokens_max: int = Field(512, ge=64, description="Tokens of a sequence at most; longer ones lose their middle.")
    optimizer: Literal["muon", "adamw"] = Field(
        "muon", description="muon learns fastest in a tiny model; adamw for large ones and LoRA."
    )
    learning_rate: float = Field(0.005, gt=0, description="Peak of the learning rate; 0.005 suits muon, 1e-5 adamw.")
    weight_decay: float = Field(0.01, ge=0, description="Weight decay of matrices.")
    warmup_ratio: float = Field(0.03, ge=0, le=0.5, description="Share of the steps with a rising learning rate.")
    gradient_norm_max: float = Field(1.0, gt=0, description="Clipping of the gradient's norm.")
    seed: int = Field(0, ge=0, description="Seed of shuffling and initialisation.")
    threads_count: int = Field(1, ge=1, description="Threads of the job; another count gives other weights.")
    lora_rank: int = Field(
        0, ge=0,
        description="Rank of LoRA adapters on all linear layers, which adamw trains; 0: full tuning.",
    )
    checkpoint_steps: int = Field(100, ge=1, description="Steps between checkpoints, from which a killed job resumes.")
    drafts_max: int = Field(1_000, ge=0, description="Evaluator: rows for which the generator's mistakes are sampled.")
    draft_temperature: float = Field(1.0, gt=0, le=2, description="Evaluator: temperature of those drafts.")
    wrong_each: int = Field(
        1, ge=1, le=8,
        description="Evaluator: wrong versions of each pair. More than one stand in one sequence with the right one, "
        "their common start read once; for models that take a mask of two dimensions a sequence.",
    )
    held_out_ratio: float = Field(0.05, ge=0, le=0.5, description="Share of the seed pairs kept for held-out figures.")

    @field_validator("rows_at_once")
    @classmethod
    def _divides(cls, rows: int, info: ValidationInfo) -> int:
        batch = info.data.get("rows_per_batch", rows)
        if rows and batch % rows:
            raise ValueError(f"must divide rows_per_batch, which is {batch}, without a rest")
        return rows

    @field_validator("lora_rank")
    @classmethod
    def _trained(cls, rank: int, info: ValidationInfo) -> int:
        if rank and info.data.get("optimizer") == "muon":
            raise ValueError("LoRA is trained by adamw: set optimizer to adamw, and its learning_rate (1e-4)")
        return rank


def recipe_in(values: Mapping[str, Any]) -> Recipe:
    """The recipe of these values. Invalid when they are none, as those of a job from before a rule came."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise Invalid(f"not a recipe: {error}") from error


class JobsSettings(Settings):
    """Where jobs run."""

    kind: Literal["local", "kubernetes"] = Field(
        "local",
        description="local: in processes of this one, which then needs torch and the memory of a job; kubernetes: in a "
        "pod each, with home on a volume that pods share.",
    )
    manifest_file: str = Field(
        "", description="kubernetes: JSON file with the Job or TrainJob that each job is made of; the chart mounts it."
    )


class ServingSettings(Settings):
    """InferenceServices of KServe, which promotion patches: for roles whose inference.<role>.kind is kserve.

    They are in the namespace of the training service, and made before it; it names their model, starts and stops them.
    """

    evaluator: str = Field(
        "", pattern=r"^$|^[a-z][a-z0-9-]{0,40}-\{slot\}$",
        description="Names of the evaluators', of which each scoring slot has one: {slot} stands for a and b. Empty: "
        "whoever runs the servers has them serve the models that slots are given.",
    )
    encoder: str = Field("", pattern=r"^$|^[a-z][a-z0-9-]{0,48}$", description="Name of the encoder's; empty: none.")
    volume_claim: str = Field(
        "", description="Claim of the volume that home is on: where they find models. The chart sets it."
    )


class TrainingSettings(Settings):
    """Training jobs."""

    base_model: str = Field("", description="Base of every role: a folder or a registered digest; never downloaded.")
    seeds_location: str = Field("", description="JSONL of seed pairs: instruction, response, language a line.")
    generator: Recipe = Field(Recipe(), description="Recipe of generators.")
    evaluator: Recipe = Field(Recipe(), description="Recipe of evaluators.")
    models_folder: str = Field("", description="Folder of finished models; empty: models/ under home.")
    jobs: JobsSettings = JobsSettings()
    serving: ServingSettings = ServingSettings()
    jobs_max: int = Field(1, ge=1, le=16, description="Jobs that one process keeps at once.")
    attempts_max: int = Field(
        3, ge=1, description="Starts of a job that dies before it is given up; a pod that has to move is no start."
    )
    lease_s: int = Field(60, ge=5, description="Seconds after which another process may take over a job.")

    def recipe_of(self, role: str, changes: str) -> str:
        """The recipe of `role` with the JSON object `changes` over it, as canonical JSON; Invalid when it is none."""
        base: Recipe = getattr(self, role)
        try:
            over: Any = json.loads(changes or "{}")
            changed = base.model_dump() | over
        except (ValueError, TypeError) as error:
            raise Invalid(f"not a recipe: {error}") from error
        recipe = recipe_in(changed)
        values = recipe.model_dump()
        if recipe.rows_at_once in (0, recipe.rows_per_batch):
            del values["rows_at_once"]  # says nothing: a job is named as it was before there was this key
        return json.dumps(values, sort_keys=True)
