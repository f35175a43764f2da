"""What a predictor counts, for /metrics. `role` and `outcome` come from closed sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram

from xinstruct.inference.local import Batch
from xinstruct.spine.inference import Answer, Refused

OUTCOMES = ("answered", "too_long", "malformed", "labels_alike", "overloaded")

ROWS = Counter("xinstruct_predictor_rows", "Rows asked for, by what became of them.", ["role", "outcome"])
BATCH_ROWS = Histogram(
    "xinstruct_predictor_batch_rows", "Rows of each batch, without what fills it up.", ["role"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BATCH_SECONDS = Histogram("xinstruct_predictor_batch_seconds", "Time that the model took for a batch.", ["role"])
WAIT_SECONDS = Histogram("xinstruct_predictor_wait_seconds", "Time from a row's arrival to its batch.", ["role"])
WAITING = Gauge("xinstruct_predictor_waiting_rows", "Rows that wait for a batch now.", ["role"])


class Meter:
    """The figures of one role, from start(): the first batch, which warms, is no sign of anything."""

    def __init__(self, role: str) -> None:
        self._rows = {outcome: ROWS.labels(role, outcome) for outcome in OUTCOMES}
        self._batch_rows, self._batch_s = BATCH_ROWS.labels(role), BATCH_SECONDS.labels(role)
        self._wait_s, self._waiting = WAIT_SECONDS.labels(role), WAITING.labels(role)
        self._started = False

    def start(self, waiting: Callable[[], int]) -> None:
        """Count from now on; every scrape asks how many rows wait."""
        self._waiting.set_function(waiting)
        self._started = True

    def batch(self, batch: Batch) -> None:
        """A batch was answered."""
        if not self._started:
            return
        self._batch_rows.observe(len(batch.waits_s))
        self._batch_s.observe(batch.run_s)
        for wait_s in batch.waits_s:
            self._wait_s.observe(wait_s)

    def answers(self, answers: Sequence[Answer]) -> None:
        """A call was answered, row by row."""
        for answer in answers:
            self._rows[answer.reason if isinstance(answer, Refused) else "answered"].inc()

    def refused(self, outcome: str, rows: int) -> None:
        """A whole call was refused."""
        self._rows[outcome].inc(rows)
