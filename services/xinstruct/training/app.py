"""Builds the training service: the command reader, the job keepers and the servicer."""

from __future__ import annotations

from xinstruct.spine.app import App, Deps, Servicer
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import TrainingSettings
from xinstruct.training.local_jobs import LocalJobs
from xinstruct.training.loops import JobKeeper, TrainingCommands
from xinstruct.v1 import training_service_pb2, training_service_pb2_grpc


def build(config: TrainingSettings, deps: Deps) -> App:
    """The service, ready to run."""
    folder = deps.home / "jobs"
    keepers = [JobKeeper(config, deps, LocalJobs(folder), number=number) for number in range(config.jobs_max)]
    servicer = Servicer(
        training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name,
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server,
        TrainingServicer(config, deps),
    )
    return App(loops=[TrainingCommands(deps), *keepers], servicers=[servicer])
