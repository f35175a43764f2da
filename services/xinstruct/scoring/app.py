"""Builds the scoring service: a stage for each slot that has an evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from xinstruct.scoring.api import ScoringServicer
from xinstruct.scoring.config import ScoringSettings
from xinstruct.scoring.domain import Calibration
from xinstruct.scoring.stage import stage
from xinstruct.spine import registry
from xinstruct.spine.app import App, Deps, Servicer
from xinstruct.spine.inference import Inference, of_slot
from xinstruct.spine.stage import Stage
from xinstruct.spine.topics import SLOT_NAMES
from xinstruct.v1 import scoring_service_pb2, scoring_service_pb2_grpc


def build(config: ScoringSettings, deps: Deps, *, slots: Sequence[str] = SLOT_NAMES) -> App:
    """The service with the given slots (one process may run one slot only, or both)."""

    def endpoint(slot: str) -> Inference:
        return of_slot(deps.inference, "evaluator", slot)

    def evaluator() -> str:
        model = registry.promoted(deps.database, "evaluator")
        return model.model_digest if model else ""

    def endpoint_of(digest: str) -> Inference:
        running = registry.slots(deps.database)
        return endpoint(next((slot for slot, (held, _) in running.items() if held == digest), slots[0]))

    @cache  # stages() is asked several times a second, and the digest covers the calibration
    def calibration(digest: str) -> Calibration | None:
        return Calibration.parse(registry.get(deps.database, "evaluator", digest).calibration)

    def stages() -> Sequence[Stage]:
        running = registry.slots(deps.database)
        return [
            stage(config, slot=slot, evaluator_digest=running[slot][0], port=endpoint(slot),
                  calibration=calibration(running[slot][0]))
            for slot in slots if slot in running
        ]

    def ready() -> str:
        none = "no slot has an evaluator yet: train one, or register an endpoint's model"
        return "" if registry.slots(deps.database) else none

    servicer = Servicer(
        scoring_service_pb2.DESCRIPTOR.services_by_name["ScoringService"].full_name,
        scoring_service_pb2_grpc.add_ScoringServiceServicer_to_server,
        ScoringServicer(config, deps, evaluator, endpoint_of),
    )
    return App(stages=stages, servicers=[servicer], ready=ready)
