"""Promotion: the idle slot first, the role's model after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from builders import pair, training_request
from xinstruct.inference.scripted import ScriptedInference
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Conflict, Invalid, Unavailable
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.prompts import EVALUATOR_PROMPT_VERSIONS, Family
from xinstruct.spine.sql import METADATA, open_engine
from xinstruct.spine.stage import scoring_position_version
from xinstruct.spine.topics import PAIR_DRAFTED
from xinstruct.training.api import TrainingServicer
from xinstruct.training.config import Recipe, TrainingSettings
from xinstruct.training.promotion import EndpointModels, Promotions, promotable, promote
from xinstruct.training.serving import SlotServers
from xinstruct.training.tables import JOBS
from xinstruct.v1.training_service_pb2 import ListModelsRequest, PromoteModelRequest, SubmitTrainingRequest

FIRST, SECOND, THIRD = ("sha256:" + letter * 64 for letter in "abc")


@pytest.fixture
def deps(tmp_path: Path) -> Iterator[Deps]:
    engine = open_engine(f"sqlite:///{tmp_path / 'db.sqlite'}")
    METADATA.create_all(engine)
    log = SqliteLog(tmp_path / "log.sqlite", clock=lambda: 1)
    for digest in (FIRST, SECOND, THIRD):
        for role in ("evaluator", "generator"):
            registry.register(engine, registry.Model(digest, role, "/m"))
    yield Deps(log, engine, Blobs(str(tmp_path / "blobs")), {}, lambda: 1, tmp_path)
    log.close()
    engine.dispose()


def score_all(deps: Deps, slot: str, digest: str, family: Family = "tiny") -> None:
    """What the slot's runner does: read every pair, commit."""
    version = scoring_position_version(digest, EVALUATOR_PROMPT_VERSIONS[family])
    subscription = deps.log.subscribe(f"scoring-{slot}", PAIR_DRAFTED, version)
    while subscription.poll(100, 0.0):
        pass
    subscription.commit(subscription.positions(), [])
    subscription.close()


def current(deps: Deps, role: str = "evaluator") -> str:
    model = registry.promoted(deps.database, role)
    return model.model_digest if model else ""


def test_a_generator_is_promoted_at_once(deps: Deps) -> None:
    assert promote(deps, "generator", FIRST, "tiny")
    assert current(deps, "generator") == FIRST


def test_the_first_evaluator_is_promoted_at_once_and_gets_a_slot(deps: Deps) -> None:
    assert promote(deps, "evaluator", FIRST, "tiny")
    assert current(deps) == FIRST
    assert [digest for digest, _ in registry.slots(deps.database).values()] == [FIRST]


def test_a_second_evaluator_waits_in_the_idle_slot_until_it_has_labelled_all_pairs(deps: Deps) -> None:
    deps.log.append([pair(pair_id=str(n)).record(PAIR_DRAFTED.name) for n in range(5)])
    promote(deps, "evaluator", FIRST, "tiny")
    assert not promote(deps, "evaluator", SECOND, "tiny")
    assert (current(deps), len(registry.slots(deps.database))) == (FIRST, 2)
    assert not promotable(deps, "evaluator", SECOND, "tiny")
    slot = next(s for s, (digest, _) in registry.slots(deps.database).items() if digest == SECOND)
    score_all(deps, slot, SECOND)
    assert promotable(deps, "evaluator", SECOND, "tiny")
    assert promote(deps, "evaluator", SECOND, "tiny")
    assert current(deps) == SECOND
    assert list(registry.slots(deps.database)) == [slot]


def test_pairs_that_come_after_the_slot_started_are_not_waited_for(deps: Deps) -> None:
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    promote(deps, "evaluator", FIRST, "tiny")
    promote(deps, "evaluator", SECOND, "tiny")
    slot = next(s for s, (digest, _) in registry.slots(deps.database).items() if digest == SECOND)
    score_all(deps, slot, SECOND)
    deps.log.append([pair(pair_id=f"late {n}").record(PAIR_DRAFTED.name) for n in range(50)])
    assert promote(deps, "evaluator", SECOND, "tiny")


def test_a_third_evaluator_waits_while_both_slots_are_at_work(deps: Deps) -> None:
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    promote(deps, "evaluator", FIRST, "tiny")
    promote(deps, "evaluator", SECOND, "tiny")
    assert not promote(deps, "evaluator", THIRD, "tiny")
    assert THIRD not in {digest for digest, _ in registry.slots(deps.database).values()}


def test_labels_of_another_template_do_not_count(deps: Deps) -> None:
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    promote(deps, "evaluator", FIRST, "chat")
    promote(deps, "evaluator", SECOND, "chat")
    slot = next(s for s, (digest, _) in registry.slots(deps.database).items() if digest == SECOND)
    score_all(deps, slot, SECOND)
    assert not promote(deps, "evaluator", SECOND, "chat")


def test_a_model_that_is_not_registered_is_not_promoted(deps: Deps) -> None:
    with pytest.raises(Exception, match="no generator model"):
        promote(deps, "generator", "sha256:" + "0" * 64, "tiny")
    assert isinstance(deps.database, sa.Engine)


def served(role: str, model: str) -> registry.Model:
    return registry.Model(f"endpoint:{model}", role, f"endpoint:{model}")


@pytest.mark.parametrize(("configured", "location", "refused"), [
    ("", FIRST, True), ("a", FIRST, True), ("a", "endpoint:b", True),
    ("a", "endpoint:a", False), ("", "endpoint:b", False), (None, FIRST, False),
])
def test_a_model_that_its_roles_endpoint_does_not_answer_with_is_not_promoted(
    deps: Deps, configured: str | None, location: str, refused: bool
) -> None:
    registry.register(deps.database, served("generator", "a"))
    registry.register(deps.database, served("generator", "b"))
    at_endpoints = {} if configured is None else {"generator": configured}
    servicer = TrainingServicer(TrainingSettings(), deps, at_endpoints)
    request = PromoteModelRequest(role="generator", model_digest=location)
    if refused:
        said = r"inference\.generator\.url names a server.*set .* to local.*promote endpoint:"
        with pytest.raises(Invalid, match=said):
            servicer.PromoteModel(request, None)
        assert current(deps, "generator") == ""
    else:
        assert servicer.PromoteModel(request, None).promoted
        assert current(deps, "generator") == location


def test_a_job_whose_model_an_endpoint_would_stand_for_is_refused_when_it_is_asked_to_promote(deps: Deps) -> None:
    servicer = TrainingServicer(TrainingSettings(), deps, {"generator": ""})
    request = SubmitTrainingRequest(request_id="r", role="generator", promote_when_done=True)
    with pytest.raises(Invalid, match=r"inference\.generator\.url names a server"):
        servicer.SubmitTraining(request, None)


def test_models_are_listed_in_pages_and_a_number_that_no_page_gave_is_refused(deps: Deps) -> None:
    servicer = TrainingServicer(TrainingSettings(), deps, {})
    first = servicer.ListModels(ListModelsRequest(role="generator", page_size=2), None)
    rest = servicer.ListModels(ListModelsRequest(role="generator", page_token=first.next_page_token), None)
    assert sorted(x.model_digest for x in (*first.models, *rest.models)) == [FIRST, SECOND, THIRD]
    assert not rest.next_page_token
    for token in ("²", "9" * 5000):
        with pytest.raises(Invalid, match="page_token"):
            servicer.ListModels(ListModelsRequest(page_token=token), None)


def test_an_endpoint_without_a_configured_model_is_named_by_the_first_that_it_lists(deps: Deps) -> None:
    models = EndpointModels(replace(deps, inference={"generator": ScriptedInference()}), {"generator": ""}, "chat")
    assert models.pending() and models.step() and not models.pending()
    assert current(deps, "generator") == f"endpoint:{ScriptedInference().probe().model}"


def test_an_endpoint_takes_the_place_of_a_model_that_would_be_named_for_its_answers(deps: Deps) -> None:
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    promote(deps, "generator", FIRST, "chat")
    promote(deps, "evaluator", FIRST, "chat")
    models = EndpointModels(deps, {"generator": "a", "evaluator": "a"}, "chat")
    assert models.step() and not models.step() and not models.pending()
    assert (current(deps, "generator"), current(deps)) == ("endpoint:a", FIRST)
    ((slot, (digest, _)),) = registry.slots(deps.database).items()
    assert digest == "endpoint:a"
    score_all(deps, slot, digest, "chat")
    assert models.pending() and models.step() and not models.pending()
    assert current(deps) == "endpoint:a"


def test_an_endpoint_model_that_is_in_use_stays(deps: Deps) -> None:
    registry.register(deps.database, served("generator", "b"))
    promote(deps, "generator", "endpoint:b", "chat")
    assert EndpointModels(deps, {"generator": ""}, "chat").step()
    assert current(deps, "generator") == "endpoint:b"


class Servers:
    """Says of every model what it was told to say, and records what was asked."""

    def __init__(self) -> None:
        self.waits_for = "no pod is ready"
        self.served: list[tuple[str, str]] = []
        self.resting: list[str] = []

    def serve(self, model: registry.Model, slot: str = "") -> str:
        self.served.append((model.model_digest, slot))
        return self.waits_for

    def rest(self, role: str, slot: str) -> None:
        self.resting.append(slot)

    def first(self, role: str, model: registry.Model | None) -> str:
        if model is None:
            self.resting.append(role)
            return ""
        return self.serve(model)

    def close(self) -> None:
        return


class OneRoleAway(Servers):
    """Cannot be asked about one role: its webhook is down."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.waits_for, self.away = "", role

    def serve(self, model: registry.Model, slot: str = "") -> str:
        if model.role == self.away:
            raise Unavailable(f"no endpoints for the webhook of {model.role}s", 3.0)
        return super().serve(model, slot)


def done(deps: Deps, role: str, digest: str, round_: int) -> None:
    """A job that has made a model, which is to be promoted."""
    name = f"{role}-r{round_}"
    with deps.database.begin() as connection:
        connection.execute(sa.insert(JOBS).values(
            job_name=name, request_id=name, role=role, round=round_, state="done", snapshot_digest="", steps_done=1,
            command=training_request(job_name=name, role=role, round=round_, recipe="{}").encode(), steps_count=1,
            model_digest=digest, failure="", metrics="", attempts_count=1, promotion_open=True, owner="",
            owned_until_ms=0, change_time_ms=0, change_number=1,
        ))


def waiting(deps: Deps) -> list[str]:
    """Jobs whose models are still to be promoted."""
    with deps.database.begin() as connection:
        return list(connection.execute(sa.select(JOBS.c.job_name).where(JOBS.c.promotion_open)).scalars())


@pytest.mark.parametrize(("away", "other"), [("evaluator", "generator"), ("generator", "evaluator")])
def test_a_role_that_cannot_be_served_now_holds_up_no_other_and_is_said(deps: Deps, away: str, other: str) -> None:
    done(deps, away, FIRST, 0)
    done(deps, other, SECOND, 1)
    servers = OneRoleAway(away)
    loop = Promotions(deps, servers)
    for _ in range(2):
        with pytest.raises(Unavailable, match=f"webhook of {away}s") as waits:
            loop.step()
        assert waits.value.retry_after_s == 3.0
        assert (current(deps, other), current(deps, away), waiting(deps)) == (SECOND, "", [f"{away}-r0"])
    servers.away = ""
    assert loop.pending() and loop.step() and not loop.step() and not loop.pending()
    assert (current(deps, away), waiting(deps)) == (FIRST, [])


@pytest.mark.parametrize("role", ["evaluator", "generator"])
def test_a_model_is_promoted_only_when_it_is_served(deps: Deps, role: str) -> None:
    servers = Servers()
    assert not promote(deps, role, FIRST, "tiny", serving=servers)
    assert current(deps, role) == ""
    servers.waits_for = ""
    assert promote(deps, role, FIRST, "tiny", serving=servers)
    assert current(deps, role) == FIRST


def test_the_old_evaluator_labels_on_in_its_slot_while_the_new_one_is_served_in_the_other(deps: Deps) -> None:
    servers = Servers()
    servers.waits_for = ""
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    promote(deps, "evaluator", FIRST, "tiny", serving=servers)
    servers.waits_for = "no pod is ready"
    assert not promote(deps, "evaluator", SECOND, "tiny", serving=servers)
    assert servers.served[-2:] == [(FIRST, "a"), (SECOND, "b")]
    score_all(deps, "b", SECOND)
    assert not promote(deps, "evaluator", SECOND, "tiny", serving=servers)  # caught up, but its server went away
    assert (current(deps), sorted(registry.slots(deps.database))) == (FIRST, ["a", "b"])
    servers.waits_for = ""
    assert promote(deps, "evaluator", SECOND, "tiny", serving=servers)
    assert (current(deps), list(registry.slots(deps.database))) == (SECOND, ["b"])


def test_each_slots_server_has_the_slots_evaluator_and_that_of_a_resting_slot_rests(deps: Deps) -> None:
    servers, now_ms = Servers(), [100_000]
    loop = SlotServers(replace(deps, clock=lambda: now_ms[0]), servers)
    servers.waits_for = ""
    assert not loop.step() and servers.resting == ["encoder", "a", "b"]
    promote(deps, "evaluator", FIRST, "tiny")
    assert not loop.step() and servers.served == []  # it has just looked
    now_ms[0] += 5_000
    loop.step()
    assert (servers.served, servers.resting) == ([(FIRST, "a")], ["encoder", "a", "b", "encoder", "b"])
    servers.waits_for = "no pod is ready"
    now_ms[0] += 5_000
    with pytest.raises(Unavailable, match="no pod is ready"):
        loop.step()
    assert not loop.pending()


def test_an_encoders_server_without_a_model_gets_the_promoted_one(deps: Deps) -> None:
    servers = Servers()
    servers.waits_for = ""
    registry.register(deps.database, registry.Model(FIRST, "encoder", "/models/encoder"))
    promote(deps, "encoder", FIRST, "tiny")
    SlotServers(replace(deps, clock=lambda: 100_000), servers).step()
    assert servers.served == [(FIRST, "")] and "encoder" not in servers.resting


@pytest.mark.parametrize("family", ["tiny", "chat"])
def test_a_registered_evaluator_is_promoted_when_it_has_labelled_all_pairs_by_the_configured_family(
    deps: Deps, family: Family
) -> None:
    servicer = TrainingServicer(TrainingSettings(evaluator=Recipe(prompt_family=family)), deps, {})
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    first, second = (PromoteModelRequest(role="evaluator", model_digest=digest) for digest in (FIRST, SECOND))
    assert servicer.PromoteModel(first, None).promoted
    with pytest.raises(Conflict, match="labels all pairs first"):
        servicer.PromoteModel(second, None)
    score_all(deps, "b", SECOND, family)
    assert servicer.PromoteModel(second, None).promoted


def test_a_person_who_promotes_too_early_is_told_what_it_waits_for(deps: Deps) -> None:
    servers = Servers()
    servicer = TrainingServicer(TrainingSettings(), deps, {}, servers)
    request = PromoteModelRequest(role="evaluator", model_digest=FIRST)
    with pytest.raises(Conflict, match="is not promoted yet: no pod is ready; promote it again"):
        servicer.PromoteModel(request, None)
    servers.waits_for = ""
    deps.log.append([pair(pair_id="1").record(PAIR_DRAFTED.name)])
    assert servicer.PromoteModel(request, None).promoted
    with pytest.raises(Conflict, match="labels all pairs first"):
        servicer.PromoteModel(PromoteModelRequest(role="evaluator", model_digest=SECOND), None)
    with pytest.raises(Conflict, match="both scoring slots are at work"):
        servicer.PromoteModel(PromoteModelRequest(role="evaluator", model_digest=THIRD), None)
