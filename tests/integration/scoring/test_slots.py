"""Slots with a server each: the old evaluator is asked at one while the new one is asked at the other."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import pytest

from builders import NOW_MS, pair
from xinstruct.inference.config import InferenceSettings, RoleSettings
from xinstruct.inference.endpoint import open_inference
from xinstruct.inference.scripted import ScriptedInference
from xinstruct.scoring.app import build
from xinstruct.scoring.config import ScoringSettings
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.inference import Answer, Request
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.sql import METADATA, open_engine
from xinstruct.spine.topics import PAIR_DRAFTED
from xinstruct.training.promotion import promote
from xinstruct.v1.scoring_service_pb2 import ScorePairRequest

OLD, NEW = ("sha256:" + letter * 64 for letter in "ab")


class Server(ScriptedInference):
    """Remembers which models it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def submit(self, request: Request) -> Future[Answer]:
        self.asked.append(request.model)
        return super().submit(request)


class Context:
    """A call without a deadline."""

    def time_remaining(self) -> None:
        return None


def test_each_slot_asks_its_own_server_and_one_pair_is_asked_where_the_promoted_evaluator_is(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'db.sqlite'}")
    METADATA.create_all(engine)
    log = SqliteLog(tmp_path / "log.sqlite", clock=lambda: NOW_MS)
    servers = {f"evaluator-{slot}": Server() for slot in ("a", "b")}
    deps = Deps(log, engine, Blobs(str(tmp_path / "blobs")), servers, lambda: NOW_MS, tmp_path)
    log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    for digest in (OLD, NEW):
        registry.register(engine, registry.Model(digest, "evaluator", "/m"))
        promote(deps, "evaluator", digest, "chat")
    app = build(ScoringSettings(), deps)
    for stage in app.stages():
        stage.port.submit(stage.ask(next(log.read(PAIR_DRAFTED, {})), pair(pair_id="1"))[0]).result(9)
    assert {name: server.asked for name, server in servers.items()} == {"evaluator-a": [OLD], "evaluator-b": [NEW]}
    # A process of the other slot alone answers people, too.
    (servicer,) = build(ScoringSettings(), deps, slots=("b",)).servicers
    reply = servicer.servicer.ScorePair(
        ScorePairRequest(instruction="Describe it.", response="Ni ziwa.", language="sw"), Context()
    )
    assert (reply.evaluator_digest, servers["evaluator-a"].asked) == (OLD, [OLD, OLD])
    log.close()
    engine.dispose()


@pytest.mark.parametrize(("url", "roles"), [
    ("http://judge-{slot}:8080", {"generator", "evaluator-a", "evaluator-b", "encoder"}),
    ("http://judge:8080", {"generator", "evaluator", "encoder"}),
])
def test_a_url_that_names_the_slot_stands_for_two_endpoints(url: str, roles: set[str], tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'db.sqlite'}")
    scripted = RoleSettings(kind="scripted")
    settings = InferenceSettings(generator=scripted, evaluator=RoleSettings(kind="scripted", url=url))
    opened = open_inference(
        settings, engine, resolve=lambda role, digest: tmp_path, owner="try", clock=lambda: NOW_MS
    )
    assert set(opened) == roles
    for endpoint in opened.values():
        endpoint.close()
    engine.dispose()
