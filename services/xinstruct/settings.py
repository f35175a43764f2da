"""The whole configuration of a process: one YAML file, one model. Only config differs from laptop to cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from xinstruct.backgen.config import BackgenSettings
from xinstruct.crawler.config import CrawlerSettings
from xinstruct.curation.config import CurationSettings
from xinstruct.inference.config import SLOT, InferenceSettings, impossible
from xinstruct.scoring.config import ScoringSettings
from xinstruct.spine.config import Mistake, Settings, in_words, load
from xinstruct.spine.errors import Invalid
from xinstruct.spine.log.kafka import KafkaSettings
from xinstruct.spine.process import ProcessSettings
from xinstruct.spine.rpc import RpcSettings
from xinstruct.spine.runner import RunnerSettings
from xinstruct.spine.telemetry import TelemetrySettings
from xinstruct.training.config import TrainingSettings


class SqliteLogSettings(Settings):
    """The log as one SQLite file under home."""

    kind: Literal["sqlite"] = "sqlite"


class KafkaLogSettings(KafkaSettings):
    """The log on a Kafka cluster."""

    kind: Literal["kafka"] = "kafka"


LogSettings = Annotated[SqliteLogSettings | KafkaLogSettings, Field(discriminator="kind")]


class XinstructSettings(Settings):
    """Everything. Paths are relative to the folder of the configuration file."""

    home: str = Field("var/xinstruct", description="Folder of local data: log, database, blobs, models, releases.")
    instance: str = Field(
        "0", pattern=r"^[a-z0-9-]{1,40}$",
        description="Name of this process among its replicas; the environment variable XINSTRUCT_INSTANCE wins.",
    )
    log: LogSettings = Field(SqliteLogSettings(), description="Where records stand.")
    database_url: str = Field("", description="SQLAlchemy URL of a PostgreSQL database; empty: SQLite under home.")
    database_password_file: str = Field("", description="Mounted file with the database password; empty: none.")
    blobs_url: str = Field("", description="fsspec URL of the blob store; empty: a folder under home.")
    addresses: dict[str, str] = Field(
        {}, description='Where other processes serve: target → "host:port"; a target that is absent is served here.'
    )
    rpc: RpcSettings = RpcSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    runner: RunnerSettings = RunnerSettings()
    process: ProcessSettings = ProcessSettings()
    inference: InferenceSettings = InferenceSettings()
    crawler: CrawlerSettings = CrawlerSettings()
    backgen: BackgenSettings = BackgenSettings()
    scoring: ScoringSettings = ScoringSettings()
    training: TrainingSettings = TrainingSettings()
    curation: CurationSettings = CurationSettings()

    def home_path(self) -> Path:
        """The data folder."""
        return Path(self.home)


def load_settings(path: Path, targets: Sequence[str] = ()) -> XinstructSettings:
    """The settings in the file at `path`, its home made relative to the file's folder, for a process that runs
    `targets` (none: one that only asks others). Invalid names every mistake with its line."""
    settings = load(path, XinstructSettings, partial(_impossible, targets=targets))
    days = settings.crawler.fetch.body_retention_days
    curation = settings.curation.model_copy(update={"body_retention_days": days})
    return settings.model_copy(update={"home": str(path.parent / settings.home), "curation": curation})


def named(settings: XinstructSettings, instance: str) -> XinstructSettings:
    """The settings with `instance` in place of their own; "" changes nothing. Invalid when it cannot be a name."""
    if not instance:
        return settings
    try:
        return XinstructSettings.model_validate({**dict(settings), "instance": instance})
    except ValidationError as error:
        raise Invalid(f"instance {instance!r} is no name: 1 to 40 lower-case letters, digits and hyphens") from error


def refuse_impossible(settings: XinstructSettings, targets: Sequence[str]) -> None:
    """Invalid for combinations that cannot work in a process that runs `targets`, whatever file they came from."""
    found = [in_words(place, what) for place, what in _impossible(settings, targets)]
    if found:
        raise Invalid("\n".join(found))


def _impossible(settings: XinstructSettings, targets: Sequence[str]) -> Iterator[Mistake]:
    """Combinations that cannot work, each at the key that is to be changed, with a sentence that says how."""
    yield from impossible(settings.inference)
    yield from _prompts_untaught(settings)
    served = settings.training.serving.evaluator
    if served and SLOT not in settings.inference.evaluator.url:
        yield ("inference", "evaluator", "url"), (
            f"training.serving.evaluator names a server for each slot of scoring: the URL must hold {SLOT}, too"
        )
    if settings.training.jobs.kind == "kubernetes" and not settings.training.jobs.manifest_file:
        yield ("training", "jobs", "manifest_file"), (
            "kind kubernetes needs the file with the Job that each job is made of; the chart writes and mounts one"
        )
    days, own = settings.crawler.fetch.body_retention_days, settings.curation.body_retention_days
    if "body_retention_days" in settings.curation.model_fields_set and own != days:
        yield ("curation", "body_retention_days"), (
            f"curation.body_retention_days is {own}, crawler.fetch.body_retention_days is {days}: "
            "set the crawler's and leave the other out, which follows it"
        )
    if targets and (settings.addresses or list(targets) != ["all"]):
        yield from _unshared(settings)


def _prompts_untaught(settings: XinstructSettings) -> Iterator[Mistake]:
    for role, service in (("generator", "backgen"), ("evaluator", "scoring")):
        recipe = getattr(settings.training, role)
        asked = getattr(settings, service).prompt_family
        if recipe.prompt_family != asked:
            told = "prompt_family" in recipe.model_fields_set
            yield ("training", role, "prompt_family") if told else (service, "prompt_family"), (
                f"training.{role}.prompt_family is {recipe.prompt_family}, {service}.prompt_family is {asked}: a model "
                "answers only the template that it was taught; set both to the same"
            )


def _unshared(settings: XinstructSettings) -> Iterator[Mistake]:
    if settings.log.kind == "sqlite":
        yield _wanted(settings, "log", "kind"), (
            "a process that runs only some services needs a log that others can reach: set log.kind to kafka, "
            "or run every service in one process with `xinstruct up`"
        )
    if not settings.database_url:
        yield _wanted(settings, "database_url"), (
            "services in several processes need a shared database: set database_url to a PostgreSQL URL, "
            "or run every service in one process with `xinstruct up`"
        )


def _wanted(settings: XinstructSettings, *key: str) -> tuple[str, ...]:
    """`key`, or, where only the addresses in the file ask for it, the addresses."""
    return ("addresses",) if settings.addresses and key[0] not in settings.model_fields_set else key
