"""The journal of answers: what was paid for once is never asked again, whatever is killed when.

    submit ──▶ [thread: look up a batch] ──known──▶ future
                        ├─claimed by another process──▶ looked up again, until it answers or its claim lapses
                        └─unknown: claim──▶ backend ──answer──▶ [thread: store a batch, read it back] ──▶ future

An answer is in the database before its future is done. Equal requests in flight are one call, in one process or in
many: a partition may move while its requests are at the model, and the next owner waits for their answers. Not covered:
an answer that the backend gave while the process was killed or the database was away is asked for again; a Refused is
not kept; clocks of two machines that differ by more than a claim lasts.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from xinstruct.spine.errors import Unavailable, XinstructError
from xinstruct.spine.inference import (
    Answer,
    Features,
    Inference,
    Refused,
    Request,
    answer_from_json,
    answer_to_json,
    request_digest,
)
from xinstruct.spine.sql import METADATA, chunks, insert_new, transaction

ANSWERS = sa.Table(
    "answers",
    METADATA,
    sa.Column("request_digest", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
)
CLAIMS = sa.Table(
    "claims",
    METADATA,
    sa.Column("request_digest", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("lapses_at_ms", sa.BigInteger, nullable=False),
)
"""Requests at a model, each with the process that asked."""
BATCH_MAX = 256
"""Look-ups or answers in one transaction."""
CLAIM_S = 10.0
"""A claim that is not renewed this long has lapsed: its owner is dead. As long as a session of the log's group."""
RENEWAL_S = CLAIM_S / 4
LOOK_AGAIN_S = 0.25
"""How often requests that another process claimed are looked up."""


def erase(connection: sa.Connection, subjects: Collection[str]) -> int:
    """Erase every answer kept for one of `subjects`, within the caller's transaction; returns how many."""
    erased = 0
    for part in chunks(subjects):
        erased += connection.execute(sa.delete(ANSWERS).where(ANSWERS.c.subject.in_(part))).rowcount
    return erased


@dataclass(frozen=True, slots=True)
class _Asked:
    digest: str
    request: Request


@dataclass(frozen=True, slots=True)
class _Answered:
    asked: _Asked
    answer: Answer | BaseException


class Journaled(Inference):
    """`backend` with a memory in `database`. Owns one thread and the backend: close() closes both.

    `owner` is the process's stable name: one that starts takes over what its predecessor left claimed. `clock` gives
    Unix milliseconds. `asked_max`: requests at the backend at most, the others wait here unclaimed, so that a partition
    that moves takes them along; 0: all that come, for a backend that no other process shares.
    """

    def __init__(
        self, backend: Inference, database: sa.Engine, *, owner: str, clock: Callable[[], int], asked_max: int = 0
    ) -> None:
        self._backend = backend
        self._asked_max = asked_max
        self._database = database
        self._owner = owner
        self._clock = clock
        self._waiting: dict[str, list[Future[Answer]]] = {}
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[_Asked | _Answered | None] = queue.SimpleQueue()
        self._asked: set[str] = set()
        self._elsewhere: list[_Asked] = []
        self._queued: deque[_Asked] = deque()
        """Looked up, unknown, and not claimed by anybody then."""
        self._look_again_s = self._renew_s = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Answer]:
        """See Inference."""
        future: Future[Answer] = Future()
        digest = request_digest(request)
        with self._lock:
            if self._closed:
                future.set_exception(Unavailable("the endpoint is closed"))
                return future
            waiting = self._waiting.setdefault(digest, [])
            waiting.append(future)
            if len(waiting) == 1:
                self._events.put(_Asked(digest, request))
        return future

    def probe(self) -> Features:
        """See Inference."""
        return self._backend.probe()

    def close(self) -> None:
        """See Inference."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._events.put(None)
        self._thread.join()
        self._backend.close()
        with suppress(XinstructError), transaction(self._database) as connection:
            _release(connection, self._asked, self._owner)
        for digest in list(self._waiting):
            self._settle(digest, Unavailable("the endpoint was closed before it answered"))

    def _work(self) -> None:
        """The thread: events in batches, until None arrives."""
        while True:
            events = self._next_events()
            self._store([event for event in events if isinstance(event, _Answered)])
            self._look_up([event for event in events if isinstance(event, _Asked)])
            self._renew()
            if None in events:
                return

    def _next_events(self) -> list[_Asked | _Answered | None]:
        wait_s = LOOK_AGAIN_S if self._elsewhere else RENEWAL_S if self._asked else None
        try:
            events = [self._events.get(timeout=wait_s)]
        except queue.Empty:
            return []
        while len(events) < BATCH_MAX and not self._events.empty():
            events.append(self._events.get())
        return events

    def _look_up(self, asked: list[_Asked]) -> None:
        """What is new, what waits for another process when it is time to look again, and what is next in the queue."""
        if self._elsewhere and time.monotonic() >= self._look_again_s:
            asked, self._elsewhere = asked + self._elsewhere, []
        if not self._asked_max:
            self._claim(asked)
            return
        self._queue(asked)
        while self._queued and (room := self._asked_max - len(self._asked)) > 0:
            self._claim([self._queued.popleft() for _ in range(min(room, BATCH_MAX, len(self._queued)))])

    def _queue(self, asked: list[_Asked]) -> None:
        """Give what is known; the rest waits for its turn, or for the process that has it at the model."""
        self._divide(asked, self._known_or_free, self._queued.append)

    def _claim(self, asked: list[_Asked]) -> None:
        """Give what is known, ask what nobody asked; the rest is at the model of another process."""
        self._divide(asked, self._known_or_claimed, self._ask)

    def _divide(
        self,
        asked: list[_Asked],
        look: Callable[[sa.Connection, list[str]], tuple[dict[str, Answer], set[str]]],
        act: Callable[[_Asked], None],
    ) -> None:
        """Give what `look` knows and `act` on what it says is free; another process has the rest at the model."""
        if not asked:
            return
        try:
            with transaction(self._database) as connection:
                known, free = look(connection, [one.digest for one in asked])
        except XinstructError as error:
            self._give_up(asked, error)
            return
        for one in asked:
            if one.digest in known:
                self._settle(one.digest, known[one.digest])
            elif one.digest in free:
                act(one)
            else:
                self._elsewhere.append(one)
                self._look_again_s = time.monotonic() + LOOK_AGAIN_S

    def _give_up(self, asked: list[_Asked], error: XinstructError) -> None:
        """The database is away: whoever asked asks again."""
        for one in (*asked, *self._queued):
            self._settle(one.digest, error)
        self._queued.clear()

    def _known_or_free(self, connection: sa.Connection, digests: list[str]) -> tuple[dict[str, Answer], set[str]]:
        """Answers that are there, and the requests that no other process has at the model now."""
        held = (CLAIMS.c.owner != self._owner) & (CLAIMS.c.lapses_at_ms >= self._clock())
        query = sa.select(CLAIMS.c.request_digest).where(held)
        elsewhere = {
            digest for part in chunks(digests)
            for digest in connection.execute(query.where(CLAIMS.c.request_digest.in_(part))).scalars()
        }
        return _answers(connection, digests), set(digests) - elsewhere

    def _known_or_claimed(self, connection: sa.Connection, digests: list[str]) -> tuple[dict[str, Answer], set[str]]:
        """Answers that are there, and the requests that are ours to ask."""
        known = _answers(connection, digests)
        # In order: two processes that claim the same requests never wait for each other.
        unknown = sorted(set(digests) - known.keys())
        lapse_ms = self._clock() + int(CLAIM_S * 1000)
        rows = [{"request_digest": digest, "owner": self._owner, "lapses_at_ms": lapse_ms} for digest in unknown]
        insert_new(connection, CLAIMS, rows, key=("request_digest",))
        listed = CLAIMS.c.request_digest.in_(unknown)
        free = listed & ((CLAIMS.c.lapses_at_ms < self._clock()) | (CLAIMS.c.owner == self._owner))
        query = sa.update(CLAIMS).where(free).values(owner=self._owner, lapses_at_ms=lapse_ms)
        ours = set(connection.execute(query.returning(CLAIMS.c.request_digest)).scalars())
        # The other may have answered since we looked: its claim went with the answer.
        late = _answers(connection, ours)
        _release(connection, late, self._owner)
        return known | late, ours

    def _ask(self, asked: _Asked) -> None:
        def done(future: Future[Answer]) -> None:
            self._events.put(_Answered(asked, future.exception() or future.result()))

        self._asked.add(asked.digest)
        self._backend.submit(asked.request).add_done_callback(done)

    def _store(self, answered: Sequence[_Answered]) -> None:
        """Keep the answers; where another process was faster, its answer is the one that counts."""
        if not answered:
            return
        outcomes: dict[str, Answer | BaseException] = {one.asked.digest: one.answer for one in answered}
        self._asked -= outcomes.keys()
        rows = [
            {"request_digest": one.asked.digest, "subject": one.asked.request.subject, "role": one.asked.request.role,
             "model": one.asked.request.model, "answer": answer_to_json(one.answer)}
            for one in answered if not isinstance(one.answer, BaseException | Refused)
        ]
        try:
            with transaction(self._database) as connection:
                insert_new(connection, ANSWERS, rows, key=("request_digest",))
                _release(connection, outcomes, self._owner)
                outcomes |= _answers(connection, outcomes)
        except XinstructError as error:
            outcomes = dict.fromkeys(outcomes, error)
        for digest, outcome in outcomes.items():
            self._settle(digest, outcome)

    def _renew(self) -> None:
        """Say that what we asked is still at work. When the database is away, the next turn says it."""
        if not self._asked or time.monotonic() < self._renew_s:
            return
        lapse_ms = self._clock() + int(CLAIM_S * 1000)
        with suppress(XinstructError), transaction(self._database) as connection:
            for part in chunks(self._asked):
                ours = CLAIMS.c.request_digest.in_(part) & (CLAIMS.c.owner == self._owner)
                connection.execute(sa.update(CLAIMS).where(ours).values(lapses_at_ms=lapse_ms))
        self._renew_s = time.monotonic() + RENEWAL_S

    def _settle(self, digest: str, outcome: Answer | BaseException) -> None:
        """Tell everybody who asked."""
        with self._lock:
            waiting = self._waiting.pop(digest, [])
        for future in waiting:
            # Where the caller has cancelled, the answer is in the journal for whoever asks next.
            with suppress(InvalidStateError):
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)


def _answers(connection: sa.Connection, digests: Iterable[str]) -> dict[str, Answer]:
    query = sa.select(ANSWERS.c.request_digest, ANSWERS.c.answer)
    return {
        row.request_digest: answer_from_json(row.answer)
        for part in chunks(digests)
        for row in connection.execute(query.where(ANSWERS.c.request_digest.in_(part)))
    }


def _release(connection: sa.Connection, digests: Iterable[str], owner: str) -> None:
    for part in chunks(digests):
        connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.request_digest.in_(part), CLAIMS.c.owner == owner))
