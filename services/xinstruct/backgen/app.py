"""Builds the backgen service: one stage, as soon as a generator is promoted."""

from __future__ import annotations

from collections.abc import Sequence

from xinstruct.backgen.api import BackgenServicer
from xinstruct.backgen.config import BackgenSettings
from xinstruct.backgen.stage import stage
from xinstruct.spine import registry
from xinstruct.spine.app import App, Deps, Servicer
from xinstruct.spine.stage import Stage
from xinstruct.v1 import backgen_service_pb2, backgen_service_pb2_grpc

NO_GENERATOR = (
    "no generator is promoted yet: `xinstruct train generator --promote` trains one, `xinstruct models register` and"
    " `xinstruct models promote` put another to use"
)


def build(config: BackgenSettings, deps: Deps) -> App:
    """The service, ready to run."""
    inference = deps.inference["generator"]

    def generator() -> str:
        model = registry.promoted(deps.database, "generator")
        return model.model_digest if model else ""

    def stages() -> Sequence[Stage]:
        digest = generator()
        return [stage(config, generator_digest=digest, port=inference)] if digest else []

    def ready() -> str:
        return "" if generator() else NO_GENERATOR

    servicer = Servicer(
        backgen_service_pb2.DESCRIPTOR.services_by_name["BackgenService"].full_name,
        backgen_service_pb2_grpc.add_BackgenServiceServicer_to_server,
        BackgenServicer(config, inference, generator),
    )
    return App(stages=stages, servicers=[servicer], ready=ready)
