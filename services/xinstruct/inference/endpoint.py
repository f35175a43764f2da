"""Binds roles to endpoints as the configuration says, each behind the journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import sqlalchemy as sa

from xinstruct.inference.config import InferenceSettings, RoleSettings, roles_of, slotted
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.local import LocalInference, Resolve
from xinstruct.inference.ngram import NgramInference
from xinstruct.inference.openai_api import OpenAIInference
from xinstruct.inference.scripted import ScriptedInference
from xinstruct.spine.errors import Invalid
from xinstruct.spine.inference import Inference
from xinstruct.spine.journal import Journaled


def open_inference(
    settings: InferenceSettings, database: sa.Engine, *, resolve: Resolve, owner: str, clock: Callable[[], int]
) -> Mapping[str, Inference]:
    """Role, or "evaluator-a" and "-b" where scoring's slots have servers of their own, → endpoint. Nothing is asked or
    loaded yet.

    Roles in process share one worker thread. Closing every endpoint closes everything. `owner` is the process's stable
    name in the journal.
    """
    roles = roles_of(settings)
    local: LocalInference | None = None
    if any(chosen.kind == "local" for chosen in roles.values()):
        local = LocalInference(
            resolve, batch_rows=settings.local_batch_rows, threads_count=settings.local_threads_count,
            models_max=settings.local_models_max, warm_up_s=settings.local_warm_up_s,
        )
    opened: dict[str, Inference] = {}
    for role, chosen in slotted(roles).items():
        backend = local if local is not None and chosen.kind == "local" else open_backend(chosen)
        # n-gram vectors cost less than looking them up.
        if isinstance(backend, NgramInference):
            opened[role] = backend
            continue
        # The next calls stand ready when places become free. In process, batches are cut from all that is asked.
        asked_max = 0 if backend is local else 2 * chosen.in_flight_max
        opened[role] = Journaled(backend, database, owner=owner, clock=clock, asked_max=asked_max)
    return opened


def open_backend(chosen: RoleSettings) -> Inference:
    """The endpoint of one role, without a journal; not for models in process."""
    if chosen.kind == "tgi":
        from xinstruct.inference.tgi import TgiInference  # two seconds that only those who ask it need to spend

        return TgiInference(
            chosen.url, model=chosen.model, api_key=_api_key(chosen), calls_max=chosen.in_flight_max,
            deadline_s=chosen.deadline_s, attempts_max=chosen.attempts_max, votes_count=chosen.votes_count,
        )
    if chosen.kind == "openai":
        return OpenAIInference(
            chosen.url, model=chosen.model, api=chosen.api, api_key=_api_key(chosen), calls_max=chosen.in_flight_max,
            deadline_s=chosen.deadline_s, attempts_max=chosen.attempts_max, votes_count=chosen.votes_count,
        )
    if chosen.kind == "kserve":
        return KServeInference(
            chosen.url, api_key=_api_key(chosen), calls_max=chosen.in_flight_max, deadline_s=chosen.deadline_s,
            attempts_max=chosen.attempts_max,
        )
    return NgramInference() if chosen.kind == "ngram" else ScriptedInference()


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
