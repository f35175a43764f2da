"""Builds the training service: the command reader, the job keepers and the servicer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xinstruct.spine.app import App, Deps, Loop, Servicer
from xinstruct.spine.errors import Invalid
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import TrainingSettings
from xinstruct.training.jobs import Jobs
from xinstruct.training.local_jobs import LocalJobs
from xinstruct.training.loops import JobKeeper, TrainingCommands
from xinstruct.training.promotion import SERVED_ELSEWHERE, EndpointModels, Promotions
from xinstruct.training.serving import Serving, SlotServers
from xinstruct.training.tables import open_jobs
from xinstruct.training.work_folder import JOBS
from xinstruct.v1 import training_service_pb2, training_service_pb2_grpc

if TYPE_CHECKING:
    from xinstruct.training.kubernetes_api import Cluster


def build(config: TrainingSettings, deps: Deps, *, endpoint_models: Mapping[str, str] | None = None) -> App:
    """The service, ready to run. `endpoint_models`: role → model of its endpoint, "" for its first."""
    at_endpoints = endpoint_models or {}
    serving = _serving(config, deps)
    keepers = [JobKeeper(config, deps, _jobs(config, deps), number=number) for number in range(config.jobs_max)]
    servicer = Servicer(
        training_service_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name,
        training_service_pb2_grpc.add_TrainingServiceServicer_to_server,
        TrainingServicer(config, deps, at_endpoints, serving),
    )
    endpoints = EndpointModels(deps, at_endpoints, config.evaluator.prompt_family)
    loops: list[Loop] = [TrainingCommands(deps), endpoints, *keepers, Promotions(deps, serving)]
    if config.serving.evaluator or config.serving.encoder:
        loops.append(SlotServers(deps, serving))
    loops += _tidying(config, deps)
    return App(loops=loops, servicers=[servicer])


def _jobs(config: TrainingSettings, deps: Deps) -> Jobs:
    folder = deps.home / JOBS
    if config.jobs.kind == "local":
        return LocalJobs(folder)
    from xinstruct.training.kubernetes_jobs import KubernetesJobs, read_manifest

    return KubernetesJobs(folder, _cluster(), read_manifest(Path(config.jobs.manifest_file)))


def _tidying(config: TrainingSettings, deps: Deps) -> list[Loop]:
    if config.jobs.kind == "local":
        return []
    from xinstruct.training.kubernetes_ended import EndedTrainJobs
    from xinstruct.training.kubernetes_jobs import read_manifest

    manifest = read_manifest(Path(config.jobs.manifest_file))
    return [EndedTrainJobs(_cluster(), manifest, partial(open_jobs, deps.database), deps.clock)]


def _serving(config: TrainingSettings, deps: Deps) -> Serving:
    if not (config.serving.evaluator or config.serving.encoder):
        return SERVED_ELSEWHERE
    from xinstruct.training.kubernetes_serving import InferenceServices

    return InferenceServices(config.serving, _cluster(), deps.inference, deps.home)


def _cluster() -> Cluster:
    try:  # loaded where it is used: it takes 40 MB, and a second
        from xinstruct.training.kubernetes_api import Cluster
    except ModuleNotFoundError as error:
        raise Invalid(
            "training.jobs and training.serving ask the Kubernetes API: install the extra `kubernetes`, or set "
            "training.jobs.kind to local and leave training.serving out"
        ) from error
    return Cluster.of_this_pod()
