"""What one process has at a model, no other process asks, while it lives: many journals on one database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import pytest
import sqlalchemy as sa

from xinstruct.inference.scripted import ScriptedInference, scripted_answer
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.inference import Answer, Decoding, Features, Generate, Inference, Refused, Request, request_digest
from xinstruct.spine.journal import CLAIM_S, CLAIMS, LOOK_AGAIN_S, RENEWAL_S, Journaled
from xinstruct.spine.sql import create_schema, transaction

WAIT_S = 30
LAPSE_MS = int(CLAIM_S * 1000)


class Model(Inference):
    """A backend that keeps its callers waiting until it is let go on."""

    def __init__(self, *, answers: bool) -> None:
        self.requests: list[Request] = []
        self.entered = threading.Event()
        self._answers = answers
        self._waiting: list[tuple[Request, Future[Answer]]] = []

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        future: Future[Answer] = Future()
        self.requests.append(request)
        self._waiting.append((request, future))
        self.entered.set()
        if self._answers:
            self.go_on()
        return future

    def go_on(self) -> None:
        """Answer what waits."""
        self._answers = True
        while self._waiting:
            request, future = self._waiting.pop(0)
            future.set_result(scripted_answer(request))

    def probe(self) -> Features:
        """See Inference."""
        return ScriptedInference().probe()

    def close(self) -> None:
        """See Inference: who still waits is told."""
        while self._waiting:
            self._waiting.pop(0)[1].set_exception(Unavailable("closed"))


class Machine:
    """Processes with a journal each, on one database and one clock."""

    def __init__(self, engine: sa.Engine, asked_max: int) -> None:
        self.engine = engine
        self.asked_max = asked_max
        self.now_ms = 1_000_000
        self._opened: list[Journaled] = []

    def journal(self, owner: str, *, answers: bool = True) -> tuple[Journaled, Model]:
        """A process's journal and its model, which is slow unless it answers."""
        model = Model(answers=answers)
        journal = Journaled(model, self.engine, owner=owner, clock=lambda: self.now_ms, asked_max=self.asked_max)
        self._opened.append(journal)
        return journal, model

    def claims(self) -> list[tuple[str, str, int]]:
        """What stands in the table."""
        with transaction(self.engine) as connection:
            return [tuple(row) for row in connection.execute(sa.select(CLAIMS))]

    def claim(self, request: Request, owner: str, *, for_ms: int = LAPSE_MS) -> None:
        """What a process left that was killed just now."""
        row = {"request_digest": request_digest(request), "owner": owner, "lapses_at_ms": self.now_ms + for_ms}
        with transaction(self.engine) as connection:
            connection.execute(CLAIMS.insert().values(**row))

    def close(self) -> None:
        """End every process."""
        for journal in self._opened:
            journal.close()


@pytest.fixture(params=[0, 2], ids=["all-at-once", "two-at-once"])
def machine(request: pytest.FixtureRequest, engine: sa.Engine) -> Iterator[Machine]:
    create_schema(engine)
    made = Machine(engine, request.param)
    yield made
    made.close()


def asked(prompt: str = "A text.") -> Generate:
    return Generate("generator", "sha256:0", prompt, Decoding(8), subject="document-1")


def still_waits(future: Future[Answer]) -> bool:
    """Whether it has no answer after it was looked up again more than once."""
    return not wait([future], timeout=3 * LOOK_AGAIN_S).done


def test_a_request_at_the_model_of_one_process_is_not_asked_by_another(machine: Machine) -> None:
    first, slow = machine.journal("a", answers=False)
    second, idle = machine.journal("b")
    here = first.submit(asked())
    assert slow.entered.wait(WAIT_S)
    there = second.submit(asked())
    assert still_waits(there)
    slow.go_on()
    assert there.result(WAIT_S) == here.result(WAIT_S)
    assert (len(slow.requests), len(idle.requests)) == (1, 0)
    assert machine.claims() == []


def test_what_waits_for_its_turn_in_one_process_is_asked_by_the_next_owner_at_once(machine: Machine) -> None:
    machine.asked_max = 2
    first, slow = machine.journal("a", answers=False)
    second, quick = machine.journal("b")
    here = [first.submit(asked(f"Text {number}")) for number in range(6)]
    assert slow.entered.wait(WAIT_S)
    there = [second.submit(asked(f"Text {number}")) for number in range(2, 6)]
    answers = [future.result(WAIT_S) for future in there]
    assert (len(slow.requests), len(quick.requests)) == (2, 4)
    slow.go_on()
    assert [future.result(WAIT_S) for future in here][2:] == answers
    assert (len(slow.requests), machine.claims()) == (2, [])


def test_what_is_known_does_not_wait_for_a_model_at_which_there_is_no_place(machine: Machine) -> None:
    machine.asked_max = 2
    before, _ = machine.journal("b")
    known = before.submit(asked("Known.")).result(WAIT_S)
    first, slow = machine.journal("a", answers=False)
    for number in range(6):
        first.submit(asked(f"Text {number}"))
    assert slow.entered.wait(WAIT_S)
    assert first.submit(asked("Known.")).result(WAIT_S) == known


def test_many_processes_that_ask_the_same_at_once_call_once_for_each(machine: Machine) -> None:
    journals = [machine.journal(f"process-{number}") for number in range(3)]
    prompts = [f"Text {number}" for number in range(100)]
    with ThreadPoolExecutor(len(journals)) as pool:
        def ask(item: tuple[int, tuple[Journaled, Model]]) -> list[Answer]:
            number, (journal, _) = item
            mine = prompts[number:] + prompts[:number]
            answers = dict(zip(mine, [journal.submit(asked(prompt)) for prompt in mine], strict=True))
            return [answers[prompt].result(WAIT_S) for prompt in prompts]

        found = list(pool.map(ask, enumerate(journals)))
    assert found[0] == found[1] == found[2]
    assert sum(len(model.requests) for _, model in journals) == len(prompts)


def test_what_a_killed_process_had_asked_is_asked_again_once_its_claim_has_lapsed(machine: Machine) -> None:
    machine.claim(asked(), "killed")
    journal, model = machine.journal("b")
    answer = journal.submit(asked())
    assert still_waits(answer)
    machine.now_ms += LAPSE_MS + 1
    answer.result(WAIT_S)
    assert len(model.requests) == 1


def test_a_process_that_starts_again_takes_its_predecessors_claims_at_once(machine: Machine) -> None:
    machine.claim(asked(), "backgen/0")
    journal, model = machine.journal("backgen/0")
    journal.submit(asked()).result(WAIT_S)
    assert len(model.requests) == 1


def test_a_claim_does_not_lapse_while_its_owner_lives(machine: Machine) -> None:
    journal, slow = machine.journal("a", answers=False)
    journal.submit(asked())
    assert slow.entered.wait(WAIT_S)
    machine.now_ms += LAPSE_MS
    end_s = time.monotonic() + WAIT_S
    while machine.claims()[0][2] <= machine.now_ms:
        assert time.monotonic() < end_s, "it was not renewed"
        time.sleep(RENEWAL_S / 10)
    assert machine.claims() == [(request_digest(asked()), "a", machine.now_ms + LAPSE_MS)]


@pytest.mark.parametrize("outcome", [Unavailable("down"), Refused("too_long")], ids=["failed", "refused"])
def test_a_request_without_a_lasting_answer_is_free_for_others(machine: Machine, outcome: Answer | Unavailable) -> None:
    def answer(_: Request) -> Answer:
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    first = Journaled(ScriptedInference(answer), machine.engine, owner="a", clock=lambda: machine.now_ms)
    future = first.submit(asked())
    found = future.exception(WAIT_S) or future.result()
    assert found == outcome
    assert machine.claims() == []
    first.close()
    second, model = machine.journal("b")
    second.submit(asked()).result(WAIT_S)
    assert len(model.requests) == 1


def test_an_answer_that_came_while_another_was_about_to_ask_is_used(machine: Machine) -> None:
    first, _ = machine.journal("a")
    answer = first.submit(asked()).result(WAIT_S)
    machine.claim(asked(), "gone", for_ms=-1)  # as if it had looked before, and claimed after
    second, model = machine.journal("b")
    assert second.submit(asked()).result(WAIT_S) == answer
    assert model.requests == []


def test_closing_frees_what_was_not_answered(machine: Machine) -> None:
    journal, slow = machine.journal("a", answers=False)
    future = journal.submit(asked())
    assert slow.entered.wait(WAIT_S)
    journal.close()
    with pytest.raises(Unavailable):
        future.result(0)
    assert machine.claims() == []
