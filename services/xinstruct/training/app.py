"""Builds the training service: the command reader, the job keepers and the servicer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xinstruct.spine.app import App, Deps, Loop, Servicer
from xinstruct.spine.errors import Invalid
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import TrainingSettings
from xinstruct.training.jobs import Jobs
from xinstruct.training.local_jobs import LocalJobs
from xinstruct.training.loops import JobKeeper, TrainingCommands
from xinstruct.training.promotion import EndpointModels
from xinstruct.v1 import training_service_pb2, training_service_pb2_grpc


def build(config: TrainingSettings, deps: Deps, *, endpoint_models: Mapping[str, str] | None = None) -> App:
    """The service, ready to run. `endpoint_models`: role → model of its endpoint, "" for its first."""
    at_endpoints = endpoint_models or {}
    keepers = [JobKeeper(config, deps, _jobs(config, deps), number=number) for number in range(config.jobs_max)]
    servicer = Servicer(
        training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name,
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server,
        TrainingServicer(config, deps, at_endpoints),
    )
    loops: list[Loop] = [TrainingCommands(deps), EndpointModels(deps, at_endpoints), *keepers]
    return App(loops=loops, servicers=[servicer])


def _jobs(config: TrainingSettings, deps: Deps) -> Jobs:
    folder = deps.home / "jobs"
    if config.jobs.kind == "local":
        return LocalJobs(folder)
    try:  # loaded where it is used: it takes 40 MB, and a second
        from xinstruct.training.kubernetes_api import Cluster
        from xinstruct.training.kubernetes_jobs import KubernetesJobs, read_manifest
    except ModuleNotFoundError as error:
        raise Invalid("training.jobs.kind is kubernetes: install the extra `kubernetes`, or set it to local") from error

    return KubernetesJobs(folder, Cluster.of_this_pod(), read_manifest(Path(config.jobs.manifest_file)))
