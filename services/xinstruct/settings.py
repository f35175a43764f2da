"""The whole configuration of a process: one YAML file, one model. Only config differs from laptop to cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from xinstruct.backgen.config import BackgenSettings
from xinstruct.crawler.config import CrawlerSettings
from xinstruct.curation.config import CurationSettings
from xinstruct.scoring.config import ScoringSettings
from xinstruct.spine.config import Settings, load
from xinstruct.spine.errors import Invalid
from xinstruct.spine.inference.endpoint import InferenceSettings, require_possible
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
    instance: str = Field("0", pattern=r"^[a-z0-9-]{1,40}$", description="Name of this process among its replicas.")
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


def load_settings(path: Path) -> XinstructSettings:
    """The settings in the file at `path`, its home made relative to the file's folder. Invalid names every mistake."""
    settings = load(path, XinstructSettings)
    curation = _with_one_retention(settings, name=str(path))
    return settings.model_copy(update={"home": str(path.parent / settings.home), "curation": curation})


def _with_one_retention(settings: XinstructSettings, *, name: str) -> CurationSettings:
    """Curation's settings with the crawler's retention of bodies. Invalid when the file `name` gives it another."""
    days, own = settings.crawler.fetch.body_retention_days, settings.curation.body_retention_days
    if "body_retention_days" in settings.curation.model_fields_set and own != days:
        raise Invalid(
            f"{name}: curation.body_retention_days is {own}, crawler.fetch.body_retention_days is {days}: "
            "set the crawler's and leave the other out, which follows it"
        )
    return settings.curation.model_copy(update={"body_retention_days": days})


def refuse_impossible(settings: XinstructSettings, targets: list[str]) -> None:
    """Invalid, with a sentence that says what to change, for combinations that cannot work."""
    require_possible(settings.inference)
    for role, service in (("generator", "backgen"), ("evaluator", "scoring")):
        taught = getattr(settings.training, role).prompt_family
        asked = getattr(settings, service).prompt_family
        if taught != asked:
            raise Invalid(
                f"training.{role}.prompt_family is {taught}, {service}.prompt_family is {asked}: a model answers only "
                "the template that it was taught; set both to the same"
            )
    several = settings.addresses or targets != ["all"]
    if several and settings.log.kind == "sqlite":
        raise Invalid(
            "a process that runs only some services needs a log that others can reach: set log.kind to kafka, "
            'or run every service in one process with `xinstruct up`'
        )
    if several and not settings.database_url:
        raise Invalid(
            "services in several processes need a shared database: set database_url to a PostgreSQL URL, "
            "or run every service in one process with `xinstruct up`"
        )
