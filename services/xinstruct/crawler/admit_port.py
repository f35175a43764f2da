"""The port of the admit stage: who claimed a fetch first, what a takedown covers, and the measurements of its body.

Claims are taken in batches, one short transaction each, by one thread; bodies go from there to the worker processes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

import sqlalchemy as sa

from xinstruct.crawler import frontier
from xinstruct.crawler.extract_worker import WorkerPool
from xinstruct.crawler.stage import MeasureRequest, PageMeasures
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, NotFound, Unavailable
from xinstruct.spine.sql import transaction

BATCH_MAX = 256

_Asked = tuple[MeasureRequest, "Future[PageMeasures]"]


class AdmitPort:
    """Answers MeasureRequest with PageMeasures."""

    def __init__(self, database: sa.Engine, blobs: Blobs, pool: WorkerPool) -> None:
        self._database = database
        self._blobs = blobs
        self._pool = pool
        self._queue: SimpleQueue[_Asked | None] = SimpleQueue()
        self._suppressions = sa.inspect(database).has_table("suppressions")
        self._thread = threading.Thread(target=self._serve, name="admit-port", daemon=True)
        self._thread.start()

    def submit(self, request: MeasureRequest) -> Future[PageMeasures]:
        """Take the request at once; Unavailable when database or blob store do not answer."""
        future: Future[PageMeasures] = Future()
        self._queue.put((request, future))
        return future

    def close(self) -> None:
        """Stop taking requests; those in flight stay unanswered."""
        self._queue.put(None)

    def _serve(self) -> None:
        while True:
            batch = self._batch()
            if batch is None:
                return
            try:
                refusals = self._refusals([request for request, _ in batch])
            except Unavailable as error:
                for _, future in batch:
                    _fail(future, error)
                continue
            for request, future in batch:
                self._measure(request, future, refusals.get(request, ""))

    def _batch(self) -> list[_Asked] | None:
        """What is waiting, at most BATCH_MAX; None when the port was closed."""
        first = self._queue.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < BATCH_MAX and not self._queue.empty():
            item = self._queue.get()
            if item is None:
                return None
            batch.append(item)
        return batch

    def _refusals(self, requests: Sequence[MeasureRequest]) -> dict[MeasureRequest, str]:
        """Requests that get no measurement, and why."""
        refusals: dict[MeasureRequest, str] = {}
        with transaction(self._database) as connection:
            claiming = [request for request in requests if request.fetch_id]
            places = [(request.fetch_id, request.partition, request.offset) for request in claiming]
            first = frontier.claim(connection, places)
            refusals |= {r: "repeated" for r, claimed in zip(claiming, first, strict=True) if not claimed}
            if self._suppressions:
                gone = frontier.suppressed(connection, sorted({request.url for request in requests}))
                refusals |= {r: "suppressed" for r in requests if r.url in gone and r not in refusals}
        return refusals

    def _measure(self, request: MeasureRequest, future: Future[PageMeasures], refusal: str) -> None:
        if refusal or not request.body_digest:
            _answer(future, PageMeasures(refusal))
            return
        try:
            body = self._blobs.get(request.body_digest)
        except NotFound:
            _answer(future, PageMeasures("body_expired"))
        except (Unavailable, Invalid) as error:
            _fail(future, error)
        else:
            arguments = {"content_type": request.content_type, "plain": request.plain}
            measured = self._pool.submit("measure", arguments, body)
            measured.add_done_callback(lambda done: _pass_on(done, future))


def _pass_on(done: Future[dict[str, Any]], future: Future[PageMeasures]) -> None:
    with suppress(CancelledError):  # the pool was closed
        _answer(future, _measures_of(done.result()))


def _measures_of(answer: dict[str, Any]) -> PageMeasures:
    if "failure" in answer:
        return PageMeasures("parser_died", str(answer["failure"]))
    return PageMeasures(
        passages=tuple(answer["passages"]), agreement_ratio=float(answer["agreement_ratio"]),
        visible_chars=int(answer["visible_chars"]), licence=str(answer["licence"])[:200],
    )


def _answer(future: Future[PageMeasures], answer: PageMeasures) -> None:
    with suppress(InvalidStateError):  # cancelled: the runner has lost the partition
        future.set_result(answer)


def _fail(future: Future[PageMeasures], error: Exception) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)
