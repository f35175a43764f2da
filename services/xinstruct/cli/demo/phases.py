"""The demo's phases, each a conversation over gRPC: nothing here knows how a service does its work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xinstruct.cli.client import LONG_DEADLINE_S, Client
from xinstruct.cli.demo.plan import PAGES_MAX, Plan
from xinstruct.cli.factory import Factory
from xinstruct.cli.look import QUIET_LOOKS, refuse_stopped
from xinstruct.spine.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from xinstruct.cli.demo.progress import Phase
    from xinstruct.v1.crawler_service_pb2 import Source
    from xinstruct.v1.curation_service_pb2 import Funnel, Release
    from xinstruct.v1.training_service_pb2 import Job

LOOK_S = 0.5
PHASE_S_MAX = 1_800.0


def add_source(client: Client, plan: Plan) -> str:
    """Ask the crawler for the whole site by its sitemap; returns the source's id."""
    from xinstruct.v1 import crawler_service_pb2 as pb
    from xinstruct.v1 import messages_pb2

    request = pb.SubmitCrawlRequest(
        request_id="demo-site",
        action=messages_pb2.CRAWL_ACTION_ADD,
        kind=messages_pb2.SOURCE_KIND_SITEMAP,
        location=f"http://{plan.site}/sitemap.xml",
        pages_max=PAGES_MAX,
        licence="CC0-1.0",
    )
    return client.ask(client.crawler.SubmitCrawl, request).source_id


def await_crawl(client: Client, factory: Factory, source_id: str, phase: Phase) -> None:
    """Wait until every page of the source is fetched."""
    from xinstruct.v1.crawler_service_pb2 import GetSourceRequest

    for _ in _looks(factory, "the crawl"):
        try:
            source: Source = client.ask(client.crawler.GetSource, GetSourceRequest(source_id=source_id))
        except NotFound:
            continue  # the command is on its topic, and not read yet
        done = source.pages_fetched + source.pages_denied
        phase.at(done, source.pages_known, f"{source.pages_fetched:,} pages, {source.pages_denied} denied")
        if source.state == "done" or (source.pages_known and not source.pages_waiting and done >= source.pages_known):
            return


def submit_training(client: Client, plan: Plan, *, role: str, round_number: int, base: str = "") -> str:
    """Ask for a model of `role`, tuned from `base` (empty: the configured one); returns the job's name."""
    from xinstruct.v1.training_service_pb2 import SubmitTrainingRequest

    request = SubmitTrainingRequest(
        request_id=f"demo-{role}-{round_number}",
        role=role,
        round=round_number,
        base_model=base,
        promote_when_done=True,
        recipe=json.dumps(plan.recipe(role, round_number)),
    )
    return client.ask(client.training.SubmitTraining, request).job_name


def await_running(client: Client, factory: Factory, name: str) -> None:
    """Wait until the job has begun."""
    for _ in _looks(factory, name):
        job = _job(client, name)
        if job is not None and job.state != "queued":
            return


def await_job(client: Client, factory: Factory, name: str, phase: Phase) -> Job:
    """Wait until the job is done. Unavailable when it failed."""
    for _ in _looks(factory, name):
        job = _job(client, name)
        if job is None:
            continue
        phase.at(
            job.steps_done, job.steps_count, f"loss {job.loss:.2f}" if job.steps_done else "preparing its examples"
        )
        if job.state == "failed":
            raise Unavailable(f"training job {name} failed: {job.failure}")
        if job.state == "done":
            return job
    raise AssertionError("looks end with an error")


def _job(client: Client, name: str) -> Job | None:
    """The job; None while its command is on the topic and not read yet."""
    from xinstruct.v1.training_service_pb2 import GetJobRequest

    try:
        return client.ask(client.training.GetJob, GetJobRequest(job_name=name))
    except NotFound:
        return None


def await_promotion(client: Client, factory: Factory, *, role: str, digest: str, phase: Phase) -> None:
    """Wait until the model is its role's own; an evaluator first labels every pair in the idle slot."""
    from xinstruct.v1.scoring_service_pb2 import ListSlotsRequest
    from xinstruct.v1.training_service_pb2 import ListModelsRequest

    total = max(sum(row.pairs_drafted for row in funnel(client).languages), 1)
    for _ in _looks(factory, f"the {role}'s promotion"):
        models = client.ask(client.training.ListModels, ListModelsRequest(role=role, page_size=100)).models
        if any(model.promoted and model.model_digest == digest for model in models):
            return
        if role == "evaluator":
            slots = client.ask(client.scoring.ListSlots, ListSlotsRequest()).slots
            left = next((slot.lag_records for slot in slots if slot.evaluator_digest == digest), total)
            phase.at(max(total - left, 0), total)


def await_drafts(client: Client, factory: Factory, phase: Phase) -> None:
    """Wait until every fetched page is admitted or dropped and every admitted document drafted or dropped."""
    _await_idle(client, factory, phase, "pairs_drafted", "documents_admitted")


def await_scores(client: Client, factory: Factory, phase: Phase) -> None:
    """Wait until every pair is labelled and in the catalog."""
    _await_idle(client, factory, phase, "pairs_scored", "pairs_drafted")


def publish(client: Client, plan: Plan) -> Release:
    """Publish the release of this run."""
    from xinstruct.v1.curation_service_pb2 import PublishReleaseRequest

    request = PublishReleaseRequest(request_id="demo-release", name=f"demo-{plan.seed}")
    return client.ask(client.curation.PublishRelease, request, deadline_s=LONG_DEADLINE_S)


def funnel(client: Client) -> Funnel:
    """Counts of the catalog now."""
    from xinstruct.v1.curation_service_pb2 import GetFunnelRequest

    return client.ask(client.curation.GetFunnel, GetFunnelRequest())


def _await_idle(client: Client, factory: Factory, phase: Phase, done: str, total: str) -> None:
    quiet = 0
    for _ in _looks(factory, done):
        rows = funnel(client).languages
        reached, wanted = sum(getattr(row, done) for row in rows), sum(getattr(row, total) for row in rows)
        phase.at(min(reached, wanted), wanted, f"{reached:,}")
        quiet = quiet + 1 if _idle(client, factory) else 0
        if quiet >= QUIET_LOOKS:
            return


def _idle(client: Client, factory: Factory) -> bool:
    """Whether no process of the factory has anything to do."""
    from xinstruct.spine import rpc
    from xinstruct.v1.status_service_pb2 import GetStatusRequest
    from xinstruct.v1.status_service_pb2_grpc import StatusServiceStub

    for member in factory.members:
        with rpc.channel(f"127.0.0.1:{member.port}") as channel:
            status = client.ask(StatusServiceStub(channel).GetStatus, GetStatusRequest())
        refuse_stopped(status)
        if not status.idle:
            return False
    return True


def _looks(factory: Factory, what: str) -> Iterator[None]:
    """Look after look, while every process lives. Unavailable when `what` takes too long."""
    deadline = time.monotonic() + PHASE_S_MAX
    while time.monotonic() < deadline:
        factory.require_alive()
        yield
        time.sleep(LOOK_S)
    raise Unavailable(f"{what} did not end within {PHASE_S_MAX:g} s; `xinstruct status` says what it waits for")
