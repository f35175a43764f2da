"""Builds the training service: the command reader, the job keepers and the servicer."""

from __future__ import annotations

from collections.abc import Mapping

from xinstruct.spine.app import App, Deps, Loop, Servicer
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import TrainingSettings
from xinstruct.training.local_jobs import LocalJobs
from xinstruct.training.loops import JobKeeper, TrainingCommands
from xinstruct.training.promotion import EndpointModels
from xinstruct.v1 import training_service_pb2, training_service_pb2_grpc


def build(config: TrainingSettings, deps: Deps, *, endpoint_models: Mapping[str, str] | None = None) -> App:
    """The service, ready to run. `endpoint_models`: role → model of its endpoint, "" for its first."""
    at_endpoints = endpoint_models or {}
    folder = deps.home / "jobs"
    keepers = [JobKeeper(config, deps, LocalJobs(folder), number=number) for number in range(config.jobs_max)]
    servicer = Servicer(
        training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name,
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server,
        TrainingServicer(config, deps, at_endpoints),
    )
    loops: list[Loop] = [TrainingCommands(deps), EndpointModels(deps, at_endpoints), *keepers]
    return App(loops=loops, servicers=[servicer])
