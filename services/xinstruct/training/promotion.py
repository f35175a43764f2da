"""Promotion: which model a role uses from now on; an evaluator has to label all pairs in the idle slot first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Conflict, Unavailable
from xinstruct.spine.inference import UNNAMED
from xinstruct.spine.messages import TrainingRequested
from xinstruct.spine.prompts import EVALUATOR_PROMPT_VERSIONS, Family
from xinstruct.spine.stage import scoring_position_version
from xinstruct.spine.topics import PAIR_DRAFTED
from xinstruct.training import slots
from xinstruct.training.serving import LOOK_S, ServedElsewhere, Serving
from xinstruct.training.tables import change_job, jobs_to_promote

SERVED_ELSEWHERE = ServedElsewhere()


def family_of(command: bytes) -> Family:
    """Template family that a job's command (TrainingRequested on the wire) taught its model."""
    family: Family = json.loads(TrainingRequested.decode(command).recipe).get("prompt_family", "tiny")
    return family


def promote(
    deps: Deps, role: str, digest: str, family: Family, *, serving: Serving = SERVED_ELSEWHERE
) -> bool:
    """Make the model its role's own if that can be done now: when it is served, where `serving` sees to that.

    An evaluator first gets the idle slot and catches up.
    """
    if role != "evaluator":
        if serving.serve(registry.get(deps.database, role, digest)):
            return False
        registry.promote(deps.database, role, digest, now_ms=deps.clock())
        return True
    current = registry.promoted(deps.database, "evaluator")
    slot = _slot_of(deps, digest)
    if not slot:
        try:
            ends = json.dumps(deps.log.end_offsets(PAIR_DRAFTED), sort_keys=True)
            slot = slots.assign(deps.database, digest, ends)
        except Conflict:
            return False
    if serving.serve(registry.get(deps.database, role, digest), slot):
        return False
    if current is not None and not _caught_up(deps, digest, slot, family):
        return False
    registry.promote(deps.database, role, digest, now_ms=deps.clock())
    for other in registry.slots(deps.database):
        if other != slot:
            slots.rest(deps.database, other)
    return True


def promotable(deps: Deps, role: str, digest: str, family: Family) -> bool:
    """Whether promote() has something to do now that does not wait for scoring."""
    if role != "evaluator" or registry.promoted(deps.database, "evaluator") is None:
        return True
    slot = _slot_of(deps, digest)
    return not slot or _caught_up(deps, digest, slot, family)


def waits_for(deps: Deps, model: registry.Model, serving: Serving) -> str:
    """What a promotion that was asked for waits for, a sentence."""
    slot = _slot_of(deps, model.model_digest)
    if model.role == "evaluator" and not slot:
        return "both scoring slots are at work"
    return serving.serve(model, slot) or "it has a slot now, and labels all pairs first"


def _slot_of(deps: Deps, digest: str) -> str:
    return next((slot for slot, (held, _) in registry.slots(deps.database).items() if held == digest), "")


def _caught_up(deps: Deps, digest: str, slot: str, family: Family) -> bool:
    target = {int(p): int(o) for p, o in json.loads(registry.slots(deps.database)[slot][1]).items()}
    version = scoring_position_version(digest, EVALUATOR_PROMPT_VERSIONS[family])
    committed = deps.log.committed(f"scoring-{slot}", PAIR_DRAFTED, version)
    return all(committed.get(partition, 0) >= offset for partition, offset in target.items())


def answers_at(endpoint_model: str, location: str) -> bool:
    """Whether an endpoint whose configured model is `endpoint_model` ("": any) is the model at `location`."""
    return location.startswith(registry.ENDPOINT) and endpoint_model in ("", location.removeprefix(registry.ENDPOINT))


class Promotions:
    """Promotes the models of done jobs that were to be promoted. A loop of its own: a server that does not come must
    hold up no job."""

    name = "training-promotion"

    def __init__(self, deps: Deps, serving: Serving) -> None:
        self._deps = deps
        self._serving = serving

    def step(self) -> bool:
        """Promote what can be. Unavailable, when all were tried, with why that cannot be known of some."""
        promoted, waits = False, []
        for row in jobs_to_promote(self._deps.database):
            try:
                promoted |= self._promote(row)
            except Unavailable as error:  # another role's servers may be well
                waits.append(error)
        if waits:
            said = "; ".join(dict.fromkeys(error.message for error in waits))
            raise Unavailable(said, min(error.retry_after_s or LOOK_S for error in waits))
        return promoted

    def pending(self) -> bool:
        """Whether a promotion could be made now."""
        return any(
            promotable(self._deps, row.role, row.model_digest, family_of(row.command))
            for row in jobs_to_promote(self._deps.database)
        )

    def close(self) -> None:
        """Nothing is open."""

    def _promote(self, row: Any) -> bool:
        if not promote(self._deps, row.role, row.model_digest, family_of(row.command), serving=self._serving):
            return False
        change_job(self._deps.database, row.job_name, now_ms=self._deps.clock(), promotion_open=False)
        return True


class EndpointModels:
    """Puts the model of each configured endpoint to use, unless its role uses it already.

    Whatever else a role used stops there: its rows would name a model that did not write them.
    """

    name = "training-endpoints"

    def __init__(self, deps: Deps, models: Mapping[str, str], family: Family) -> None:
        """`family`: template family that evaluators without a job are asked by."""
        self._deps = deps
        self._family = family
        self._open = dict(models)
        """Role → name of the model at the endpoint; empty: the first that it lists."""

    def step(self) -> bool:
        """Put one model to use."""
        for role, name in self._open.items():
            current = registry.promoted(self._deps.database, role)
            if (current is not None and answers_at(name, current.location)) or self._put_to_use(role, name):
                del self._open[role]
                return True
        return False

    def pending(self) -> bool:
        """Whether something can be done for a role now."""
        return any(self._promotable(role, name) for role, name in self._open.items())

    def close(self) -> None:
        """Nothing is open."""

    def _put_to_use(self, role: str, name: str) -> bool:
        """False while an evaluator has to label all pairs first."""
        name = name or self._deps.inference[role].probe().model or UNNAMED
        self._open[role] = name
        if not self._promotable(role, name):
            return False
        location = f"{registry.ENDPOINT}{name}"
        known = registry.Model(location, role, location, create_time_ms=self._deps.clock())
        registry.register(self._deps.database, known)
        for slot, (digest, _) in registry.slots(self._deps.database).items():
            if role == "evaluator" and not answers_at(name, digest):
                slots.rest(self._deps.database, slot)
        return promote(self._deps, role, location, self._family)

    def _promotable(self, role: str, name: str) -> bool:
        return promotable(self._deps, role, f"{registry.ENDPOINT}{name}", self._family)
