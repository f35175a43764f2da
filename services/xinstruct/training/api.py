"""TrainingService: decode, call, encode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from xinstruct.inference.model_folder import model_digest
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Conflict, Invalid, NotFound, require
from xinstruct.spine.messages import TrainingRequested
from xinstruct.spine.prompts import Family
from xinstruct.spine.rpc import page_token, page_values
from xinstruct.spine.topics import TRAINING_REQUESTED
from xinstruct.training.config import TrainingSettings
from xinstruct.training.domain import OPEN_STATES, checked, job_name_of
from xinstruct.training.folders import calibration_of, licence_of
from xinstruct.training.job_log import read_piece, tail_offset
from xinstruct.training.loops import resolve_base
from xinstruct.training.promotion import SERVED_ELSEWHERE, answers_at, family_of, promote, waits_for
from xinstruct.training.serving import Serving
from xinstruct.training.snapshot import seeds_digest
from xinstruct.training.tables import end_job, job_named, job_of_request, jobs_after
from xinstruct.training.work_folder import OUTPUT, work_folder_of
from xinstruct.v1 import training_service_pb2 as pb
from xinstruct.v1 import training_service_pb2_grpc

PAGE_SIZE_MAX = 1000
PAGE_SIZE = 100
WATCH_POLL_S = 0.2
LAST_WORDS_LOOKS = 5
"""At the log of a job that has just ended: its last words may come after its result."""


class TrainingServicer(training_service_pb2_grpc.TrainingServiceServicer):
    """Jobs and models."""

    def __init__(
        self, config: TrainingSettings, deps: Deps, endpoint_models: Mapping[str, str],
        serving: Serving = SERVED_ELSEWHERE,
    ) -> None:
        """`endpoint_models`: role → configured model of its endpoint, "" for any; other roles are asked by digest."""
        self._config = config
        self._deps = deps
        self._endpoint_models = endpoint_models
        self._serving = serving

    def SubmitTraining(self, message: pb.SubmitTrainingRequest, context: Any) -> pb.SubmitTrainingResponse:
        """See training_service.proto."""
        if message.promote_when_done:
            self._require_answering(message.role, "")
        command = self._command(message)
        known = job_of_request(self._deps.database, message.request_id)
        if known:
            return pb.SubmitTrainingResponse(job_name=known)
        self._deps.log.append([command.record(TRAINING_REQUESTED.name)])
        return pb.SubmitTrainingResponse(job_name=command.job_name)

    def GetJob(self, message: pb.GetJobRequest, context: Any) -> pb.Job:
        """See training_service.proto."""
        return _job(self._row(message.job_name))

    def ListJobs(self, message: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """See training_service.proto."""
        size = _page_size(message.page_size)
        (after,) = page_values(message.page_token, "")
        rows = jobs_after(self._deps.database, after, rows_max=size + 1)
        token = page_token(rows[size - 1].job_name) if len(rows) > size else ""
        return pb.ListJobsResponse(jobs=[_job(row) for row in rows[:size]], next_page_token=token)

    def WatchJob(self, message: pb.WatchJobRequest, context: Any) -> Iterator[pb.JobEvent]:
        """See training_service.proto."""
        require(bool(message.job_name), "job_name must not be empty")
        (seen,) = page_values(message.page_token, 0)
        pause = _Pause(context)
        while context.is_active():
            row = job_named(self._deps.database, message.job_name)
            if row is not None and row.change_number > seen:
                seen = row.change_number
                yield pb.JobEvent(job=_job(row), page_token=page_token(seen))
            if row is not None and row.state not in OPEN_STATES:
                return
            pause.wait(WATCH_POLL_S)

    def WatchJobLog(self, message: pb.WatchJobLogRequest, context: Any) -> Iterator[pb.JobLogEvent]:
        """See training_service.proto."""
        tail = message.HasField("tail_lines")
        require(not (tail and message.offset), "offset and tail_lines both say where to begin: send one of them")
        row, pause, told = self._row(message.job_name), _Pause(context), 0
        file = work_folder_of(self._deps.home, row.job_name) / OUTPUT
        offset = tail_offset(file, message.tail_lines) if tail else message.offset
        looks_left = LAST_WORDS_LOOKS if row.state in OPEN_STATES else 0
        while context.is_active():
            row = self._row(message.job_name)
            piece = read_piece(file, offset)  # after the row: of a job that has ended, this is all
            offset, is_open = piece.next_offset, row.state in OPEN_STATES
            stays = message.follow and (is_open or looks_left > 0)
            # That a job has ended is told when all that it said has been sent.
            news = row.change_number > told and (is_open or not (piece.text or stays))
            if news or piece.text:
                told = row.change_number if news else told
                yield pb.JobLogEvent(
                    text=piece.text, offset=piece.offset, next_offset=offset, job=_job(row) if news else None)
            if piece.text:
                continue
            if not stays:
                if not is_open and not file.exists():
                    raise NotFound(f"{row.job_name} left no log: it never started, or {file.parent} was removed")
                return
            looks_left -= not is_open
            pause.wait(WATCH_POLL_S)

    def CancelJob(self, message: pb.CancelJobRequest, context: Any) -> pb.Job:
        """See training_service.proto."""
        self._row(message.job_name)
        if not end_job(self._deps.database, message.job_name, failure="cancelled", now_ms=self._deps.clock()):
            raise Conflict(f"the job {message.job_name} has ended")
        return _job(job_named(self._deps.database, message.job_name))

    def ListModels(self, message: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        """See training_service.proto."""
        size, (start,) = _page_size(message.page_size), page_values(message.page_token, 0)
        models = registry.models(self._deps.database, message.role)
        page = models[start : start + size]
        token = page_token(start + size) if len(models) > start + size else ""
        return pb.ListModelsResponse(models=[self._model(model) for model in page], next_page_token=token)

    def RegisterModel(self, message: pb.RegisterModelRequest, context: Any) -> pb.Model:
        """See training_service.proto."""
        roles = ("generator", "evaluator", "encoder")
        require(message.role in roles, f"no role {message.role!r}; there are: {', '.join(roles)}")
        location, now_ms = message.location, self._deps.clock()
        if location.startswith(registry.ENDPOINT):
            require(len(location) > len(registry.ENDPOINT), "endpoint: wants the model's name behind it")
            model = registry.Model(location, message.role, location, create_time_ms=now_ms)
        else:
            folder = Path(location).absolute()
            model = registry.Model(model_digest(folder), message.role, str(folder), licence=licence_of(folder),
                                   create_time_ms=now_ms, calibration=calibration_of(folder))
        return self._model(registry.register(self._deps.database, model))

    def PromoteModel(self, message: pb.PromoteModelRequest, context: Any) -> pb.Model:
        """See training_service.proto."""
        model = registry.get(self._deps.database, message.role, message.model_digest)
        self._require_answering(model.role, model.location)
        family = self._family(model)
        if not promote(self._deps, message.role, model.model_digest, family, serving=self._serving):
            raise Conflict(
                f"the {model.role} {model.model_digest[:19]} is not promoted yet: "
                f"{waits_for(self._deps, model, self._serving)}; promote it again when `xinstruct models list` shows "
                "it caught up"
            )
        return self._model(model)

    def _row(self, job_name: str) -> Any:
        row = job_named(self._deps.database, job_name)
        if row is None:
            raise NotFound(
                f"no job {job_name!r}; `xinstruct models jobs` lists what there is, and a command that was just "
                "submitted takes a moment to be read"
            )
        return row

    def _command(self, message: pb.SubmitTrainingRequest) -> TrainingRequested:
        """The command with every default filled in and its job's name."""
        role = message.role
        require(role in ("generator", "evaluator"), f"no role {role!r} can be trained; there are: generator, evaluator")
        evaluator = self._digest("evaluator", message.evaluator_digest) if message.round else ""
        # A first evaluator may learn from the promoted generator's mistakes; with no generator yet it does without.
        generator = self._digest("generator", message.generator_digest) if role == "evaluator" else ""
        command = checked(TrainingRequested(
            message.request_id, "", role, message.base_model or self._config.base_model,
            message.seeds_location or self._config.seeds_location, message.round, evaluator, generator,
            self._config.recipe_of(role, message.recipe), tuple(message.languages), message.promote_when_done,
            self._deps.clock(),
        ))
        base_digest = model_digest(Path(resolve_base(self._deps, command.base_model)))
        name = job_name_of(command, base_digest=base_digest, seeds_digest=seeds_digest(command.seeds_location))
        return replace(command, job_name=name)

    def _require_answering(self, role: str, location: str) -> None:
        """Invalid when the role's endpoint answers with another model than the one at `location`."""
        at_endpoint = self._endpoint_models.get(role)
        if at_endpoint is None or answers_at(at_endpoint, location):
            return
        raise Invalid(
            f"inference.{role}.url names a server: it would answer, and rows would name a model that did not write "
            f"them. To use this one, set inference.{role}.kind to local; or serve it there, then register and promote "
            f"{registry.ENDPOINT}{at_endpoint or 'NAME'}"
        )

    def _digest(self, role: str, asked: str) -> str:
        if asked:
            return registry.get(self._deps.database, role, asked).model_digest
        model = registry.promoted(self._deps.database, role)
        return model.model_digest if model else ""

    def _family(self, model: registry.Model) -> Family:
        row = job_named(self._deps.database, model.job_name) if model.job_name else None
        return self._config.evaluator.prompt_family if row is None else family_of(row.command)

    def _model(self, model: registry.Model) -> pb.Model:
        current = registry.promoted(self._deps.database, model.role)
        return pb.Model(
            model_digest=model.model_digest, role=model.role, location=model.location, base_digest=model.base_digest,
            licence=model.licence, job_name=model.job_name, round=model.round, create_time_ms=model.create_time_ms,
            promoted=current is not None and current.model_digest == model.model_digest,
        )


class _Pause:
    """Waits that end when the caller goes away."""

    def __init__(self, context: Any) -> None:
        self._gone = Event()
        context.add_callback(self._gone.set)

    def wait(self, seconds: float) -> None:
        self._gone.wait(seconds)


def _job(row: Any) -> pb.Job:
    return pb.Job(
        job_name=row.job_name, role=row.role, state=row.state, round=row.round, steps_done=row.steps_done,
        steps_count=row.steps_count, loss=math.nan if row.loss is None else row.loss, model_digest=row.model_digest,
        failure=row.failure, attempts_count=row.attempts_count, change_time_ms=row.change_time_ms, metrics=row.metrics,
        waiting_for=row.waiting_for,
    )


def _page_size(asked: int) -> int:
    require(asked <= PAGE_SIZE_MAX, f"page_size is at most {PAGE_SIZE_MAX}, not {asked}")
    return asked or PAGE_SIZE
