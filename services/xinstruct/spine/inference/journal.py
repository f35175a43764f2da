"""The journal of answers: what was paid for once is never asked again, whatever is killed when.

    submit ──▶ [thread: look up a batch] ──known──▶ future
                        └─unknown──▶ backend ──answer──▶ [thread: store a batch, read it back] ──▶ future

An answer is in the database before its future is done. Equal requests in flight are one call. Not covered: an answer
that the backend gave while the process was killed or the database was away is asked for again; a Refused is not kept.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future, InvalidStateError
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
BATCH_MAX = 256
"""Look-ups or answers in one transaction."""


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
    answer: Answer


class Journaled(Inference):
    """`backend` with a memory in `database`. Owns one thread and the backend: close() closes both."""

    def __init__(self, backend: Inference, database: sa.Engine) -> None:
        self._backend = backend
        self._database = database
        self._waiting: dict[str, list[Future[Answer]]] = {}
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[_Asked | _Answered | None] = queue.SimpleQueue()
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
        with self._lock:
            abandoned = list(self._waiting)
        for digest in abandoned:
            self._fail(digest, Unavailable("the endpoint was closed before it answered"))

    def _work(self) -> None:
        """The thread: events in batches, until None arrives."""
        while True:
            events = [self._events.get()]
            while len(events) < BATCH_MAX and not self._events.empty():
                events.append(self._events.get())
            self._store([event for event in events if isinstance(event, _Answered)])
            self._look_up([event for event in events if isinstance(event, _Asked)])
            if None in events:
                return

    def _look_up(self, asked: Sequence[_Asked]) -> None:
        try:
            known = self._known([one.digest for one in asked])
        except XinstructError as error:
            for one in asked:
                self._fail(one.digest, error)
            return
        for one in asked:
            if one.digest in known:
                self._succeed(one.digest, known[one.digest])
            else:
                self._ask(one)

    def _ask(self, asked: _Asked) -> None:
        def done(future: Future[Answer]) -> None:
            error = future.exception()
            if error is not None:
                self._fail(asked.digest, error)
            elif isinstance(future.result(), Refused):
                self._succeed(asked.digest, future.result())
            else:
                self._events.put(_Answered(asked, future.result()))

        self._backend.submit(asked.request).add_done_callback(done)

    def _store(self, answered: Sequence[_Answered]) -> None:
        """Keep the answers; where another process was faster, its answer is the one that counts."""
        if not answered:
            return
        rows = [
            {
                "request_digest": one.asked.digest,
                "subject": one.asked.request.subject,
                "role": one.asked.request.role,
                "model": one.asked.request.model,
                "answer": answer_to_json(one.answer),
            }
            for one in answered
        ]
        try:
            with transaction(self._database) as connection:
                insert_new(connection, ANSWERS, rows, key=("request_digest",))
            kept = self._known([one.asked.digest for one in answered])
        except XinstructError as error:
            for one in answered:
                self._fail(one.asked.digest, error)
            return
        for one in answered:
            self._succeed(one.asked.digest, kept.get(one.asked.digest, one.answer))

    def _known(self, digests: Sequence[str]) -> dict[str, Answer]:
        if not digests:
            return {}
        query = sa.select(ANSWERS.c.request_digest, ANSWERS.c.answer).where(ANSWERS.c.request_digest.in_(digests))
        with transaction(self._database) as connection:
            return {row.request_digest: answer_from_json(row.answer) for row in connection.execute(query)}

    def _succeed(self, digest: str, answer: Answer) -> None:
        for future in self._take(digest):
            _settle(future, answer, None)

    def _fail(self, digest: str, error: BaseException) -> None:
        for future in self._take(digest):
            _settle(future, None, error)

    def _take(self, digest: str) -> list[Future[Answer]]:
        with self._lock:
            return self._waiting.pop(digest, [])


def _settle(future: Future[Answer], answer: Answer | None, error: BaseException | None) -> None:
    try:
        if error is None and answer is not None:
            future.set_result(answer)
        else:
            future.set_exception(error)
    except InvalidStateError:
        # The caller cancelled; the answer is in the journal for whoever asks next.
        return
