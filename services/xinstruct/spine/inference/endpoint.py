"""Binds roles to endpoints as the configuration says, each behind the journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from pydantic import Field

from xinstruct.spine.config import Mistake, Settings
from xinstruct.spine.errors import Invalid
from xinstruct.spine.inference import Inference
from xinstruct.spine.inference.journal import Journaled
from xinstruct.spine.inference.local import LocalInference, Resolve
from xinstruct.spine.inference.ngram import NgramInference
from xinstruct.spine.inference.openai_api import OpenAIInference
from xinstruct.spine.inference.scripted import ScriptedInference


class RoleSettings(Settings):
    """Where one role's model answers."""

    kind: Literal["local", "openai", "ngram", "scripted"] = Field(
        "local",
        description="local: in this process; openai: a server with the OpenAI routes; ngram: character n-grams "
        "(encoder only); scripted: a fake for trying a configuration.",
    )
    url: str = Field("", description="openai: the server, with or without /v1.")
    model: str = Field("", description="openai: the model's name there; empty: the registered or first listed one.")
    api: Literal["chat", "completions"] = Field("chat", description="openai: which route is asked.")
    api_key_env: str = Field("", description="openai: environment variable that holds the key; empty: none.")
    api_key_file: str = Field("", description="openai: mounted file that holds the key; empty: none.")
    in_flight_max: int = Field(64, ge=1, le=4096, description="openai: calls at once at most; the number adapts.")
    deadline_s: float = Field(300.0, gt=0, description="openai: seconds of silence after which a call has failed.")
    attempts_max: int = Field(4, ge=1, le=20, description="openai: failed tries of one call before the stage waits.")
    votes_count: int = Field(
        0, ge=0, le=100,
        description="openai evaluator: sampled answers that vote where there are no log-probabilities; 0: refuse.",
    )


class InferenceSettings(Settings):
    """One endpoint a role, and the shape of inference in process."""

    generator: RoleSettings = Field(RoleSettings(), description="Writes instructions.")
    evaluator: RoleSettings = Field(RoleSettings(), description="Labels pairs.")
    encoder: RoleSettings = Field(RoleSettings(kind="ngram"), description="Embeds instructions for diversification.")
    local_batch_rows: int = Field(16, ge=1, le=512, description="local: rows a batch; changes a score's last bits.")
    local_threads_count: int = Field(
        1, ge=1, le=256, description="local: threads. Above 1, a score's last bits depend on what else is in its batch."
    )
    local_models_max: int = Field(3, ge=1, le=32, description="local: models loaded at once.")
    local_warm_up_s: float = Field(
        0.0, ge=0, description="local: seconds without a question until libraries are loaded; 0: with the first one."
    )


def open_inference(
    settings: InferenceSettings, database: sa.Engine, *, resolve: Resolve, owner: str, clock: Callable[[], int]
) -> Mapping[str, Inference]:
    """Role → endpoint. Nothing is asked or loaded yet.

    Roles in process share one worker thread. Closing every endpoint closes everything. `owner` is the process's stable
    name in the journal.
    """
    roles = _roles(settings)
    local: LocalInference | None = None
    if any(chosen.kind == "local" for chosen in roles.values()):
        local = LocalInference(
            resolve, batch_rows=settings.local_batch_rows, threads_count=settings.local_threads_count,
            models_max=settings.local_models_max, warm_up_s=settings.local_warm_up_s,
        )
    opened: dict[str, Inference] = {}
    for role, chosen in roles.items():
        backend = local if local is not None and chosen.kind == "local" else open_backend(chosen)
        # n-gram vectors cost less than looking them up.
        journaled = not isinstance(backend, NgramInference)
        opened[role] = Journaled(backend, database, owner=owner, clock=clock) if journaled else backend
    return opened


def open_backend(chosen: RoleSettings) -> Inference:
    """The endpoint of one role, without a journal; not for models in process."""
    if chosen.kind == "openai":
        return OpenAIInference(
            chosen.url, model=chosen.model, api=chosen.api, api_key=_api_key(chosen), calls_max=chosen.in_flight_max,
            deadline_s=chosen.deadline_s, attempts_max=chosen.attempts_max, votes_count=chosen.votes_count,
        )
    return NgramInference() if chosen.kind == "ngram" else ScriptedInference()


def impossible(settings: InferenceSettings) -> Iterator[Mistake]:
    """What cannot work, by its place in the whole configuration."""
    for role, chosen in _roles(settings).items():
        if chosen.kind == "openai" and not chosen.url.startswith(("http://", "https://")):
            yield ("inference", role, "url"), "kind openai needs the server's URL, http:// or https://"
        if chosen.kind == "ngram" and role != "encoder":
            yield ("inference", role, "kind"), f"ngram only embeds; use local or openai for the {role}"
        if chosen.api_key_env and chosen.api_key_file:
            yield ("inference", role, "api_key_file"), "set api_key_env or api_key_file, not both"


def _roles(settings: InferenceSettings) -> dict[str, RoleSettings]:
    return {"generator": settings.generator, "evaluator": settings.evaluator, "encoder": settings.encoder}


def _api_key(chosen: RoleSettings) -> str:
    if chosen.api_key_file:
        try:
            return Path(chosen.api_key_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Invalid(f"cannot read the key file {chosen.api_key_file}: {error.strerror}") from error
    if not chosen.api_key_env:
        return ""
    key = os.environ.get(chosen.api_key_env, "")
    if not key:
        raise Invalid(f"the environment variable {chosen.api_key_env} with the endpoint's key is empty")
    return key
