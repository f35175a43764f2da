"""Where each role's model answers, and the shape of inference in process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from xinstruct.spine.config import Mistake, Settings
from xinstruct.spine.topics import SLOT_NAMES

ENDPOINT_KINDS = ("openai", "tgi")
"""Kinds whose server holds one model of its own, which is registered by its name there."""
SLOT = "{slot}"
"""In a URL: "a" or "b", the slot of scoring that asks."""


class RoleSettings(Settings):
    """Where one role's model answers."""

    kind: Literal["local", "openai", "kserve", "tgi", "ngram", "scripted"] = Field(
        "local",
        description="local: in this process; openai: a server with the OpenAI routes; kserve: a predictor, asked for "
        "models by digest (evaluator and encoder); tgi: Text Generation Inference's own routes (generator and "
        "evaluator); ngram: character n-grams (encoder only); scripted: a fake for trying a configuration.",
    )
    url: str = Field(
        "", description="openai: the server, with or without /v1; kserve: http://, https:// or grpc:// host:port, "
        "with {slot} in the name for one server each of the scoring slots a and b; tgi: the server."
    )
    model: str = Field(
        "", description="openai: the model's name there; empty: the registered or first listed one. tgi: the model_id "
        "that it must serve; empty: any."
    )
    by_digest: bool = Field(
        False, description="openai, tgi: the server has the role's promoted model, and rows name its digest; false: "
        "one of its own, which is put to use and named by its name there. Where that name is a digest it has to be the "
        "one that is asked for; else who serves it answers for it."
    )
    api: Literal["chat", "completions"] = Field("chat", description="openai: which route is asked.")
    api_key_env: str = Field(
        "", description="openai, kserve, tgi: environment variable that holds the key; empty: none."
    )
    api_key_file: str = Field("", description="openai, kserve, tgi: mounted file that holds the key; empty: none.")
    in_flight_max: int = Field(
        64, ge=1, le=4096, description="openai, kserve, tgi: calls at once at most; the number adapts. Above 64 in one "
        "process the client of tgi gains nothing."
    )
    deadline_s: float = Field(
        300.0, gt=0, description="openai, kserve, tgi: seconds of silence after which a call has failed."
    )
    attempts_max: int = Field(
        4, ge=1, le=20, description="openai, kserve, tgi: failed tries of one call before the stage waits."
    )
    votes_count: int = Field(
        0, ge=0, le=100,
        description="openai, tgi evaluator: sampled answers that vote where there are no log-probabilities; 0: refuse.",
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


def impossible(settings: InferenceSettings) -> Iterator[Mistake]:
    """What cannot work, by its place in the whole configuration."""
    for role, chosen in roles_of(settings).items():
        if chosen.kind in ENDPOINT_KINDS and not chosen.url.startswith(("http://", "https://")):
            yield ("inference", role, "url"), f"kind {chosen.kind} needs the server's URL, http:// or https://"
        if chosen.kind == "tgi" and role == "encoder":
            yield ("inference", role, "kind"), "tgi only writes text; use openai, local or ngram for the encoder"
        if chosen.kind == "kserve" and not chosen.url.startswith(("http://", "https://", "grpc://")):
            yield ("inference", role, "url"), "kind kserve needs the predictor's URL, http://, https:// or grpc://"
        if chosen.kind == "kserve" and role == "generator":
            yield ("inference", role, "kind"), "a predictor labels and embeds; use local or openai for the generator"
        if chosen.kind == "ngram" and role != "encoder":
            yield ("inference", role, "kind"), f"ngram only embeds; use local or openai for the {role}"
        if chosen.by_digest and chosen.kind not in ENDPOINT_KINDS:
            yield ("inference", role, "by_digest"), f"kind {chosen.kind} asks by digest or by nothing: leave it out"
        if SLOT in chosen.url and (role, chosen.kind) != ("evaluator", "kserve"):
            yield ("inference", role, "url"), f"only an evaluator of kind kserve has a server for each {SLOT}"
        if chosen.api_key_env and chosen.api_key_file:
            yield ("inference", role, "api_key_file"), "set api_key_env or api_key_file, not both"


def slotted(roles: Mapping[str, RoleSettings]) -> dict[str, RoleSettings]:
    """The same with two endpoints, "<role>-a" and "<role>-b", in the place of one whose URL says {slot}."""
    made: dict[str, RoleSettings] = {}
    for role, chosen in roles.items():
        if SLOT not in chosen.url:
            made[role] = chosen
            continue
        for slot in SLOT_NAMES:
            made[f"{role}-{slot}"] = chosen.model_copy(update={"url": chosen.url.replace(SLOT, slot)})
    return made


def roles_of(settings: InferenceSettings) -> dict[str, RoleSettings]:
    """Role → its endpoint."""
    return {"generator": settings.generator, "evaluator": settings.evaluator, "encoder": settings.encoder}
