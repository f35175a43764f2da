"""The only loop there is: poll, ask, wait for answers, decide, commit.

    poll ─▶ window ─▶ ask() ─▶ port (futures) ─▶ decide() ─▶ contiguous finished prefix ─▶ one short transaction

Guarantee: each input record affects each output topic exactly once, under kill -9 at any point.
Not covered: effects outside the log (at least once, idempotent), power loss with fsync off, a lost broker disk with
replication 1, a server that bills an answer which never reached us.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, wait

from xinstruct.spine import telemetry
from xinstruct.spine.app import Clock
from xinstruct.spine.blobs import Blobs
from xinstruct.spine.config import Settings
from xinstruct.spine.errors import Fenced, Invalid, Unavailable
from xinstruct.spine.log import Log, Subscription
from xinstruct.spine.messages import DeadLetter, dropped
from xinstruct.spine.record import FOR_GROUP_HEADER, Record, slot_id
from xinstruct.spine.stage import Drop, Emit, Outcome, Stage
from xinstruct.spine.topics import DEAD_LETTERS, RECORD_DROPPED
from xinstruct.spine.window import Flight, Window

DETAIL_CHARS_MAX = 500
WINDOWS_MAX = 8
"""Finished records that wait behind an unfinished one for their commit, in windows. They ask nobody, and as long as
others are read, their answers tell a record that cannot be answered from a port that is down."""


class RunnerSettings(Settings):
    """Bounds of the loop. The defaults suit a laptop and a pod alike."""

    window_records_max: int = 512
    """Records that wait for answers at most; a full window pauses polling but keeps membership alive."""
    window_bytes_max: int = 64 * 1024 * 1024
    """Bytes of record values in flight at most."""
    commit_interval_s: float = 0.5
    """Longest time that finished records wait for their commit."""
    commit_records_max: int = 256
    """Finished records that make a commit due at once."""
    attempts_max: int = 5
    """Failures of one record, while others are answered, before it is rejected as unanswerable."""
    alone_s_max: float = 3600.0
    """Time after which failures also count of a record that is the last one: nothing else is left to be answered."""
    backoff_s_max: float = 10.0
    """Longest pause between two tries while the port does not answer."""
    rejected_ratio_max: float = 0.5
    """The stage stops when more than this share of the last rejected_window_records ended as dead letters."""
    rejected_window_records: int = 200
    """Records over which the share of dead letters is taken."""


class TooManyRejected(RuntimeError):
    """More dead letters than the limit: a bug or a wrong input, not bad luck. The stage stops, committing no more."""


class Runner:
    """Runs one stage on one subscription. One thread calls `turn` (or `run`); `stop` may be called by any."""

    def __init__(self, stage: Stage, log: Log, *, blobs: Blobs, clock: Clock, settings: RunnerSettings) -> None:
        self.stage = stage
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._settings = settings
        self._window = Window()
        self._committed: dict[int, int] = {}
        self._last_commit_ms = clock()
        self._last_answer_ms = 0
        self._healthy_answers = self._failures_running = 0
        self._recent: deque[bool] = deque(maxlen=settings.rejected_window_records)
        self._stopping = threading.Event()
        self._drain_ms = 0
        self.waiting_for = ""
        """Why nothing moves now, a sentence; empty when nothing hinders it. Read by health and status."""
        self.stopped = False
        """Whether run() has ended for too many dead letters, and a person has to look."""
        self._subscription: Subscription = log.subscribe(stage.name, stage.source, stage.position_version)
        telemetry.watch(stage.name, self.in_flight, lambda: log.lag(stage.name, stage.source, stage.position_version))

    def run(self) -> None:
        """Turn until stop(); then finish what is in flight if it ends soon, commit, leave the group.

        Ends too, with `stopped`, when nearly everything becomes a dead letter. Raises Fenced when another process took
        this one's place: to join again would fence that one in turn, for ever.
        """
        try:
            while not self._stopping.is_set():
                try:
                    self.turn(wait_s=0.2)
                except Unavailable as error:
                    self._start_over(error)
                except Fenced:
                    if self._stopping.is_set():
                        return
                    raise
            self.drain(deadline_ms=self._clock() + self._drain_ms)
        except TooManyRejected as stopped:
            self.waiting_for, self.stopped = str(stopped), True
            telemetry.logger().error("stage_stopped", stage=self.stage.name, reason=self.waiting_for)
        finally:
            self.close()

    def stop(self, drain_s: float = 5.0) -> None:
        """Ask run() to end, which gives what is in flight so many seconds; returns at once."""
        self._drain_ms = int(drain_s * 1000)
        self._stopping.set()

    def close(self) -> None:
        """Leave the group without committing."""
        telemetry.unwatch(self.stage.name)
        self._subscription.close()

    def turn(self, wait_s: float) -> bool:
        """One round of the loop; True when a record was read, decided or committed."""
        read = self._poll(0.0 if self._window.records else wait_s)
        decided = self._decide_answered()
        if self._window.records and not read and not decided:
            self._await_answer(wait_s)
            decided = self._decide_answered()
        committed = self._commit_if_due()
        return bool(read or decided or committed)

    def drain(self, deadline_ms: int) -> None:
        """Decide and commit what is in flight until nothing is left or the deadline (clock) has passed."""
        while self._window.records and self._clock() < deadline_ms:
            try:
                self._decide_answered()
                self._commit(self._window.finished())
            except Unavailable as error:
                self.waiting_for = error.message
                return  # the next start reads it again
            if self._window.records:
                self._await_answer(0.05)

    def idle(self) -> bool:
        """Nothing in flight and nothing left to read."""
        return not self._window.records and self._subscription.lag() == 0

    def in_flight(self) -> int:
        """Records between poll and commit."""
        return self._window.records

    def _start_over(self, error: Unavailable) -> None:
        """The log or the blob store does not answer: wait, then read again from what is committed."""
        while True:
            self.waiting_for = error.message
            self._stopping.wait(error.retry_after_s or 1.0)
            if self._stopping.is_set():
                return
            try:
                self._forget_all()
            except Unavailable as again:
                error = again
            else:
                self.waiting_for = ""
                return

    # ── poll ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _poll(self, wait_s: float) -> int:
        records_max, room = self._settings.window_records_max, 0
        if self._window.bytes < self._settings.window_bytes_max:
            asked = sum(1 for _ in self._window.unfinished())
            room = min(records_max - asked, WINDOWS_MAX * records_max - self._window.records)
        records = self._subscription.poll(max(room, 0), wait_s)
        for partition in self._subscription.lost():
            self._forget(partition)
        for record in records:
            self._take(record)
        return len(records)

    def _take(self, record: Record) -> None:
        flight = self._window.add(record, self._clock())
        if record.value is None or record.headers.get(FOR_GROUP_HEADER, self.stage.name) != self.stage.name:
            flight.outputs = []  # a tombstone, or a dead letter replayed for another group: commit past it
            return
        try:
            flight.payload = self.stage.payload(record.value)
            self._ask(flight)
        except Invalid as error:
            self._reject(flight, "invalid", error.message)

    def _ask(self, flight: Flight) -> None:
        assert flight.payload is not None
        flight.attempts += 1
        requests = self.stage.ask(flight.record, flight.payload)
        flight.futures = [self.stage.port.submit(request) for request in requests]

    # ── decide ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _decide_answered(self) -> int:
        now_ms = self._clock()
        decided = 0
        for flight in self._window.unfinished():
            if flight.retry_at_ms:
                if now_ms >= flight.retry_at_ms:
                    flight.retry_at_ms = 0
                    self._ask(flight)
            elif all(future.done() for future in flight.futures):
                decided += self._decide(flight, now_ms)
        return decided

    def _decide(self, flight: Flight, now_ms: int) -> int:
        """Turn answers into outputs; 1 when the record is finished, 0 when it has to be asked again."""
        assert flight.payload is not None
        try:
            answers = [future.result() for future in flight.futures]
            outcomes = self.stage.decide(flight.record, flight.payload, answers)
        except Unavailable as error:
            self._retry_later(flight, error, now_ms)
            return int(flight.outputs is not None)
        except CancelledError:
            self._retry_later(flight, Unavailable("the port was closed"), now_ms)
            return int(flight.outputs is not None)
        except Invalid as error:
            self._reject(flight, "invalid", error.message)
            return 1
        if flight.futures:
            self._healthy_answers += 1
            self._failures_running = 0
            self._last_answer_ms = now_ms
            self.waiting_for = ""
        self._finish(flight, outcomes)
        return 1

    def _retry_later(self, flight: Flight, error: Unavailable, now_ms: int) -> None:
        """The world's fault: keep the record, back off. A record that alone keeps failing is rejected in the end."""
        self.waiting_for = error.message
        if self._healthy_answers == 0 and not self._alone_too_long(flight, now_ms):
            flight.attempts -= 1  # nobody gets answers: the port is down, no record is to blame
        elif flight.attempts >= self._settings.attempts_max:
            self._reject(flight, "unanswerable", error.message)
            return
        self._healthy_answers = 0
        self._failures_running += 1
        backoff_s = min(0.1 * 2 ** min(self._failures_running, 20), self._settings.backoff_s_max)
        flight.retry_at_ms = now_ms + int((error.retry_after_s or backoff_s) * 1000)
        telemetry.RETRIES.labels(self.stage.name).inc()

    def _alone_too_long(self, flight: Flight, now_ms: int) -> bool:
        """Whether others were answered since the record was read, and it alone has been left for very long."""
        too_long = now_ms - flight.taken_ms >= self._settings.alone_s_max * 1000
        return too_long and self._last_answer_ms >= flight.taken_ms and sum(1 for _ in self._window.unfinished()) == 1

    def _finish(self, flight: Flight, outcomes: Sequence[Outcome]) -> None:
        flight.outputs = [self._output(flight, outcome, ordinal) for ordinal, outcome in enumerate(outcomes)]

    def _output(self, flight: Flight, outcome: Outcome, ordinal: int) -> Record:
        headers = telemetry.carry(flight.record.headers)
        if isinstance(outcome, Emit):
            flight.counts.append(("emitted", ""))
            return outcome.payload.record(outcome.topic.name, headers)
        if isinstance(outcome, Drop):
            flight.counts.append(("dropped", outcome.reason.value))
            payload = dropped(
                self.stage.name, self.stage.version, outcome.subject_id, reason=outcome.reason.value,
                ordinal=outcome.ordinal, evidence=outcome.evidence, url=outcome.url, language=outcome.language,
            )
            return payload.record(RECORD_DROPPED.name, headers)
        return self._dead_letter(flight, outcome.reason.value, outcome.detail, ordinal)

    def _reject(self, flight: Flight, reason: str, detail: str) -> None:
        flight.outputs = [self._dead_letter(flight, reason, detail, 0)]

    def _dead_letter(self, flight: Flight, reason: str, detail: str, ordinal: int) -> Record:
        flight.rejected = True
        flight.counts.append(("rejected", reason))
        record, stage = flight.record, self.stage
        letter = DeadLetter(
            slot_id(f"{stage.name}/dlq", stage.version, record.id, ordinal), stage.name, stage.version,
            record.topic, record.id, record.key, reason, detail[:DETAIL_CHARS_MAX], max(flight.attempts, 1),
            self._blobs.put(record.value or b""), record.partition, record.offset,
        )
        return letter.record(DEAD_LETTERS[stage.name].name, telemetry.carry(record.headers))

    def _await_answer(self, wait_s: float) -> None:
        """Block until some answer is there, at most `wait_s` (clamped, so that membership and commits stay alive)."""
        pending = [f for flight in self._window.unfinished() for f in flight.futures if not f.done()]
        if pending:
            wait(pending, timeout=min(wait_s, 0.05), return_when="FIRST_COMPLETED")
        else:
            threading.Event().wait(min(wait_s, 0.02))  # not the event of stop(): drain() would spin on it

    # ── commit ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _commit_if_due(self) -> bool:
        finished = self._window.finished()
        if not finished:
            return self._commit_positions()
        count = sum(map(len, finished.values()))
        due = self._clock() - self._last_commit_ms >= self._settings.commit_interval_s * 1000
        if due or count >= self._settings.commit_records_max or count == self._window.records:
            return self._commit(finished)
        return False

    def _commit(self, finished: Mapping[int, Sequence[Flight]]) -> bool:
        """Commit the contiguous finished prefix of every partition, if there is any, in one short transaction."""
        if not finished:
            return False
        flights = [flight for prefix in finished.values() for flight in prefix]
        self._stop_if_too_many_rejected(flights)
        outputs = [output for flight in flights for output in flight.outputs or ()]
        offsets = self._next_offsets(finished)
        try:
            self._subscription.commit(offsets, outputs)
        except Fenced as fenced:
            self._forget_fenced(fenced)
            return False
        self._committed.update(offsets)
        for partition, prefix in finished.items():
            self._window.release(partition, len(prefix))
        self._count(flights)
        self._last_commit_ms = self._clock()
        return True

    def _next_offsets(self, finished: Mapping[int, Sequence[Flight]]) -> dict[int, int]:
        positions = self._subscription.positions()
        offsets = {}
        for partition, prefix in finished.items():
            drained = len(prefix) == self._window.holds(partition) and partition in positions
            offsets[partition] = positions[partition] if drained else prefix[-1].record.offset + 1
        return offsets

    def _commit_positions(self) -> bool:
        """When nothing of a partition is in flight, commit past transaction markers, so that lag can reach 0."""
        positions = self._subscription.positions()
        moved = {p: o for p, o in positions.items() if not self._window.holds(p) and self._committed.get(p) != o}
        if not moved or self._clock() - self._last_commit_ms < self._settings.commit_interval_s * 1000:
            return False
        try:
            self._subscription.commit(moved, [])
        except Fenced as fenced:
            self._forget_fenced(fenced)
            return False
        self._committed.update(moved)
        self._last_commit_ms = self._clock()
        return False  # nothing happened that anyone waits for

    def _stop_if_too_many_rejected(self, flights: Sequence[Flight]) -> None:
        self._recent.extend(flight.rejected for flight in flights)
        share = sum(self._recent) / max(len(self._recent), 1)
        if len(self._recent) == self._recent.maxlen and share > self._settings.rejected_ratio_max:
            raise TooManyRejected(
                f"{self.stage.name}: {share:.0%} of the last {len(self._recent)} records ended as dead letters; "
                f"see `xinstruct dlq list {self.stage.name}`, mend the cause, then start its process again"
            )

    def _count(self, flights: Sequence[Flight]) -> None:
        for outcome, reason in (count for flight in flights for count in flight.counts):
            telemetry.OUTCOMES.labels(self.stage.name, outcome, reason).inc()
        telemetry.COMMITTED.labels(self.stage.name).inc(len(flights))

    # ── forgetting ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _forget_fenced(self, fenced: Fenced) -> None:
        if fenced.partitions:
            for partition in fenced.partitions:
                self._forget(partition)
            self._subscription.rewind([p for p in fenced.partitions if p in self._subscription.positions()])
        else:
            self._forget_all()

    def _forget_all(self) -> None:
        for partition in self._window.partitions():
            self._forget(partition)
        self._subscription.close()
        self._subscription = self._log.subscribe(self.stage.name, self.stage.source, self.stage.position_version)
        self._committed.clear()

    def _forget(self, partition: int) -> None:
        """Drop the window of a partition; answers already paid for are in the journal."""
        self._window.forget(partition)
        self._committed.pop(partition, None)
