"""Every target, and what it is built of. With settings.py the only module that knows every service."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from xinstruct.home import Home
from xinstruct.settings import XinstructSettings, refuse_impossible
from xinstruct.spine import registry
from xinstruct.spine.app import App, Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, Unavailable
from xinstruct.spine.log import Log
from xinstruct.spine.process import Process
from xinstruct.spine.sql import AWAY, await_answer, create_schema, open_engine


def _crawler(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.crawler.app import build

    return build(settings.crawler, deps)


def _backgen(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.backgen.app import build

    return build(settings.backgen, deps)


def _scoring(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.scoring.app import build

    return build(settings.scoring, deps)


def _scoring_a(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.scoring.app import build

    return build(settings.scoring, deps, slots=("a",))


def _scoring_b(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.scoring.app import build

    return build(settings.scoring, deps, slots=("b",))


def _training(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.inference.config import ENDPOINT_KINDS
    from xinstruct.training.app import build

    roles = {"generator": settings.inference.generator, "evaluator": settings.inference.evaluator}
    own = {name: role for name, role in roles.items() if role.kind in ENDPOINT_KINDS and not role.by_digest}
    at_endpoints = {name: role.model for name, role in own.items()}
    return build(settings.training, deps, endpoint_models=at_endpoints)


def _curation(settings: XinstructSettings, deps: Deps) -> App:
    from xinstruct.curation.app import build

    return build(settings.curation, deps)


TARGETS: Mapping[str, Callable[[XinstructSettings, Deps], App]] = {
    "crawler": _crawler,
    "backgen": _backgen,
    "scoring": _scoring,
    "scoring-a": _scoring_a,
    "scoring-b": _scoring_b,
    "training": _training,
    "curation": _curation,
}
DATABASE_S_MAX = 60.0
"""How long a process that starts waits for its database: in a cluster both start at once."""
EVERYTHING = ("crawler", "backgen", "scoring", "training", "curation")
"""What the target "all" stands for."""


def migrate(settings: XinstructSettings) -> None:
    """Bring the shared database to this version's schema, before any process of it starts.

    Invalid without a shared database: a file is migrated by the one process that opens it. Unavailable when it does not
    answer.
    """
    if not settings.database_url:
        raise Invalid("migrate is for a shared database: set database_url; a SQLite file is migrated when it is opened")
    database = open_engine(database_url(settings))
    try:
        create_schema(database)
    except AWAY as error:
        raise Unavailable(f"the database does not answer or cannot write: {error.orig}") from error
    finally:
        database.dispose()


def make_topics(settings: XinstructSettings) -> None:
    """Make the topics that are missing on the cluster, also where log.topics expects them to be there.

    Invalid without Kafka; Unavailable when no broker answers.
    """
    if settings.log.kind != "kafka":
        raise Invalid("topics is for Kafka: set log.kind to kafka; a SQLite log makes them when it is opened")
    from xinstruct.spine.log.kafka import KafkaLog

    KafkaLog(settings.log.model_copy(update={"topics": "create"}), instance=settings.instance).close()


TASKS: Mapping[str, Callable[[XinstructSettings], None]] = {"migrate": migrate, "topics": make_topics}
"""What is done once and ends, in the place of targets: by a Job before an installation or upgrade."""


@dataclass(frozen=True)
class Built:
    """A process that can be started, and what has to be closed after it."""

    process: Process
    apps: Mapping[str, App]
    deps: Deps
    home: Home | None

    def close(self) -> None:
        """Release log, models and home; the process is stopped before."""
        for endpoint in self.deps.inference.values():
            endpoint.close()
        self.deps.log.close()
        self.deps.database.dispose()
        if self.home is not None:
            self.home.close()


def build(names: list[str], settings: XinstructSettings) -> Built:
    """The process that runs the targets `names` ("all" for every service). Invalid for an unknown target."""
    wanted = list(EVERYTHING) if names == ["all"] else names
    unknown = [name for name in wanted if name not in TARGETS]
    if unknown or not wanted:
        raise Invalid(f"no target {', '.join(unknown) or '(none given)'}; there are: all, {', '.join(TARGETS)}")
    refuse_impossible(settings, names)
    home = Home(settings.home_path()) if settings.log.kind == "sqlite" else None
    deps = build_deps(settings, process="+".join(names))
    apps = {name: TARGETS[name](settings, deps) for name in wanted}
    process = Process(apps, deps, rpc=settings.rpc, runner=settings.runner, process=settings.process)
    return Built(process, apps, deps, home)


def build_deps(settings: XinstructSettings, *, process: str) -> Deps:
    """Log, database, blobs and inference as configured; creates or migrates the schema. `process` says what it runs."""
    from xinstruct.inference.endpoint import open_inference

    path = settings.home_path()
    path.mkdir(parents=True, exist_ok=True)
    database = open_engine(database_url(settings))
    await_answer(database, within_s=DATABASE_S_MAX)
    create_schema(database)
    blobs = Blobs(settings.blobs_url or str(path / "blobs"))

    def folder_of(role: str, digest: str) -> Path:
        return Path(registry.get(database, role, digest).location)

    owner = f"{process}/{settings.instance}"
    inference = open_inference(settings.inference, database, resolve=folder_of, owner=owner, clock=now_ms)
    return Deps(open_log(settings), database, blobs, inference, now_ms, path, settings.instance)


def open_log(settings: XinstructSettings) -> Log:
    """The configured log."""
    if settings.log.kind == "kafka":
        from xinstruct.spine.log.kafka import KafkaLog

        return KafkaLog(settings.log, instance=settings.instance)
    from xinstruct.spine.log.sqlite import SqliteLog

    return SqliteLog(settings.home_path() / "log.sqlite", clock=now_ms)


def database_url(settings: XinstructSettings) -> str:
    """The database's URL, with the password from its mounted file put in."""
    if not settings.database_url:
        return f"sqlite:///{settings.home_path() / 'database.sqlite'}"
    url = sa.make_url(settings.database_url)
    if settings.database_password_file:
        url = url.set(password=Path(settings.database_password_file).read_text("utf-8").strip())
    return url.render_as_string(hide_password=False)


def now_ms() -> int:
    """Unix milliseconds. The one place where the clock is read."""
    return time.time_ns() // 1_000_000
