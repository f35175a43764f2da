"""xinstruct models and xinstruct train: what models there are, which one each role uses, and making new ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xinstruct.cli.client import Work, connect
from xinstruct.cli.jobs import follow_job, follow_log, jobs, logs
from xinstruct.cli.options import ConfigOption, JsonOption, RequestIdOption, absolute, request_id, split_list
from xinstruct.cli.output import cell_text, minute, print_json, print_line, print_note, print_table, short_digest

if TYPE_CHECKING:
    from xinstruct.v1.training_service_pb2 import Model

group = typer.Typer(name="models", help="Models and which one each role uses.", no_args_is_help=True)
RoleArgument = Annotated[str, typer.Argument(help="generator, evaluator or encoder.")]


def mount(app: typer.Typer) -> None:
    """Add the group and `train` to the command line."""
    app.add_typer(group)
    group.command()(jobs)
    group.command()(logs)
    app.command()(train)


@group.command("list")
def list_models(
    role: Annotated[str, typer.Option(help="Only this role; default: all.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Registered models, newest first."""
    from xinstruct.v1.training_service_pb2 import ListModelsRequest

    with connect(config) as client:
        request = ListModelsRequest(role=role, page_size=1000)
        models = list(client.pages(client.training.ListModels, request, items="models"))
    if as_json:
        for model in models:
            print_json(model)
        return
    print_table(
        ("role", "model", "promoted", "round", "licence", "registered", "location"),
        (_row(model) for model in models),
        empty="No models yet; `xinstruct train` makes one, `xinstruct models register` adds one.",
    )


@group.command()
def promote(
    role: RoleArgument,
    digest: Annotated[str, typer.Argument(help="Model's digest, or its first 8 digits or more.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a model its role's own. An evaluator has to have scored every pair first."""
    from xinstruct.v1.training_service_pb2 import PromoteModelRequest

    with connect(config) as client:
        model = client.ask(client.training.PromoteModel, PromoteModelRequest(role=role, model_digest=digest))
    _say(model, f"{short_digest(model.model_digest)} is the {role} now.", as_json)


@group.command()
def register(
    role: RoleArgument,
    location: Annotated[str, typer.Argument(help="Folder with safetensors, tokenizer and config; or endpoint:NAME.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a model folder, or a model that an endpoint serves. `models promote` puts it to use."""
    from xinstruct.v1.training_service_pb2 import RegisterModelRequest

    where = location if location.startswith("endpoint:") else str(Path(location).resolve())
    with connect(config) as client:
        model = client.ask(client.training.RegisterModel, RegisterModelRequest(role=role, location=where))
    _say(model, f"registered {short_digest(model.model_digest)} as {role}", as_json)


@group.command()
def cancel(
    job: Annotated[str, typer.Argument(help="Name of the training job.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a training job that waits or runs. Its checkpoints stay."""
    from xinstruct.v1.training_service_pb2 import CancelJobRequest

    with connect(config, Work.CHANGE) as client:
        ended = client.ask(client.training.CancelJob, CancelJobRequest(job_name=job))
    if as_json:
        print_json(ended)
    else:
        print_line(f"{job} is cancelled")


def train(
    role: Annotated[str, typer.Argument(help="generator or evaluator.")],
    seeds: Annotated[str, typer.Option(help="JSONL or Parquet of seed pairs; default: the configured ones.")] = "",
    base: Annotated[str, typer.Option(help="Folder or digest, never downloaded; default: training.base_model.")] = "",
    round_: Annotated[int, typer.Option("--round", min=0, help="0: seeds only; above: seeds and kept pairs.")] = 0,
    languages: Annotated[str, typer.Option(metavar="TAG,…", help="Default: all in the seeds.")] = "",
    recipe: Annotated[str, typer.Option(metavar="JSON", help="Over the configured recipe.")] = "",
    promote_when_done: Annotated[bool, typer.Option("--promote", help="Promote the model when the job ends.")] = False,
    with_logs: Annotated[bool, typer.Option("--logs", help="Show what the job says, on stderr.")] = False,
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model and wait for it.

    From seed pairs, and in later rounds from kept pairs too. The same job again is not run twice.
    """
    from xinstruct.v1.training_service_pb2 import SubmitTrainingRequest

    request = SubmitTrainingRequest(
        request_id=request_id(id_),
        role=role,
        base_model=base,
        round=round_,
        recipe=recipe,
        seeds_location=absolute(seeds),
        languages=split_list(languages),
        promote_when_done=promote_when_done,
    )
    with connect(config, Work.CHANGE) as client:
        name = client.ask(client.training.SubmitTraining, request).job_name
        print_note(f"job {name}; while `xinstruct up` runs it needs this command no longer")
        job = follow_log(client, name) if with_logs else follow_job(client, name)
    if as_json:
        print_json(job)
    else:
        print_line(f"{role} {short_digest(job.model_digest)}, loss {job.loss:.3f}, held out: {job.metrics}")


def _row(model: Model) -> tuple[object, ...]:
    registered = minute(model.create_time_ms)
    return (
        model.role,
        short_digest(model.model_digest),
        bool(model.promoted),
        model.round,
        model.licence,
        registered,
        cell_text(model.location),
    )


def _say(model: Model, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(model)
    else:
        print_line(sentence)
