"""Names, states and checks of training jobs. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from xinstruct.spine.errors import require
from xinstruct.spine.messages import TrainingRequested

ROLES = ("generator", "evaluator")
REQUEST_ID_CHARS_MAX = 100
FAILURE_CHARS_MAX = 500


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


OPEN_STATES = (JobState.QUEUED.value, JobState.RUNNING.value)
"""Of jobs that have not ended."""


@dataclass(frozen=True, slots=True)
class PairRow:
    """One pair of a training snapshot. source: "seed" or "kept". id: of the pair, or of the seed's content."""

    id: str
    instruction: str
    response: str
    language: str
    source: str


@dataclass(frozen=True, slots=True)
class JobSpec:
    """Everything that the job process is told; written as JSON, read by `python -m xinstruct.training.job --spec`.

    Folders and files are absolute. generator_folder: whose mistakes an evaluator learns from; "" when there is none.
    recipe: values of config.Recipe. The process writes checkpoints, progress.jsonl and result.json below work_folder,
    and the finished model to work_folder/model.
    """

    job_name: str
    role: str
    round: int
    base_folder: str
    generator_folder: str
    snapshot_file: str
    work_folder: str
    recipe: dict[str, Any]

    def to_json(self) -> str:
        """Canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        """Inverse of to_json."""
        return cls(**json.loads(text))


def job_name_of(request: TrainingRequested, *, base_digest: str, seeds_digest: str) -> str:
    """The job's name: role, round and a digest of all that its result follows from. Submitted twice, it runs once.

    Who asked, when, and whether to promote are no part of it. 12 hex digits: names stay valid Kubernetes labels.
    """
    asked = asdict(request) | {"base_model": base_digest, "seeds_location": seeds_digest, "job_name": ""}
    for name in ("request_id", "request_time_ms", "promote_when_done"):
        del asked[name]
    asked["recipe"] = json.loads(request.recipe)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    return f"{request.role}-r{request.round}-{digest}"


def checked(request: TrainingRequested) -> TrainingRequested:
    """`request` with its languages sorted; Invalid with a sentence for what cannot be trained."""
    require(0 < len(request.request_id) <= REQUEST_ID_CHARS_MAX, "request_id must have 1–100 characters")
    require(request.role in ROLES, f"no role {request.role!r} can be trained; there are: {', '.join(ROLES)}")
    require(bool(request.base_model), "no base model: name one, or set training.base_model")
    require(bool(request.seeds_location), "no seed pairs: name a JSONL file, or set training.seeds_location")
    later = request.round > 0
    chosen = not later or bool(request.evaluator_digest)
    require(chosen, "a round above 0 needs an evaluator whose labels choose the pairs")
    return replace(request, languages=tuple(sorted(set(request.languages))))
