"""How many calls may be in flight, and what to do when one fails: pure rules, no clock, no I/O.

In-flight calls follow AIMD: one more a full round of good answers, half after "too many requests" or a jump in latency,
between 1 and a ceiling. A 429 never consumes an attempt: it says "later", not "failed".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum

from xinstruct.spine.errors import Unavailable

LATENCY_JUMP_RATIO = 3.0
BACKOFF_FIRST_S = 0.25
BACKOFF_MAX_S = 30.0
OVERLOADS_MAX = 200
"""429s in a row for one request before it is handed back as Unavailable: hours, with the growing waits between."""
MISFIT_RETRY_S = 30.0
"""Seconds before a server that cannot be used as it is configured is looked at again."""
OF_THE_REQUEST = (400, 413, 422)
"""Statuses of servers that read a request and want none like it. Any other no speaks of the server, or its place."""


class Verdict(Enum):
    """What became of one attempt."""

    ANSWERED = "answered"
    REFUSED = "refused"
    OVERLOADED = "overloaded"
    FAILED = "failed"
    FORBIDDEN = "forbidden"
    UNPAID = "unpaid"
    MISFIT = "misfit"


NO_RECORD_TO_BLAME = {
    Verdict.FORBIDDEN: "{url} refuses our key: check api_key_env or api_key_file",
    Verdict.UNPAID: "{url} asks for payment (402): look at the account's credit there",
    Verdict.MISFIT: "{url} takes no request of ours (no such route or model, a redirect): check `url`, `kind`, `api` "
    "and `model`, and what is served behind that name now",
}
"""Whoever asks is told this, whatever is asked: a try that comes at once would be told it again."""


def verdict_of(status: int) -> Verdict:
    """HTTP status → verdict; 0 stands for no answer. 429 is "later"; 5xx, 408 and 409 are failures.

    REFUSED are only those of OF_THE_REQUEST: a 404 may come from an ingress whose server is away, or from a server that
    was started again with another model.
    """
    if status == 0:
        return Verdict.FAILED
    if status < 300:
        return Verdict.ANSWERED
    if status == 429:
        return Verdict.OVERLOADED
    if status in (401, 403):
        return Verdict.FORBIDDEN
    if status == 402:
        return Verdict.UNPAID
    if status in (408, 409) or status >= 500:
        return Verdict.FAILED
    return Verdict.REFUSED if status in OF_THE_REQUEST else Verdict.MISFIT


@dataclass
class InFlightLimit:
    """The adaptive ceiling on calls in flight. Used by one thread."""

    calls_max: int
    calls: float = 4.0
    _latency_s: float = field(default=0.0, repr=False)
    _cut_until: int = field(default=0, repr=False)
    _answers: int = field(default=0, repr=False)

    def allowed(self) -> int:
        """Calls that may be in flight now: 1 to calls_max."""
        return max(1, min(self.calls_max, int(self.calls)))

    def learn(self, verdict: Verdict, latency_s: float) -> None:
        """Learn from an attempt; refusals and failures teach nothing."""
        if verdict is Verdict.ANSWERED:
            self.answered(latency_s)
        elif verdict is Verdict.OVERLOADED:
            self.overloaded()

    def answered(self, latency_s: float) -> None:
        """Learn from a good answer."""
        self._answers += 1
        usual_s = self._latency_s or latency_s
        if latency_s > LATENCY_JUMP_RATIO * usual_s:
            self.overloaded()
        else:
            self.calls = min(float(self.calls_max), self.calls + 1.0 / max(1.0, self.calls))
        self._latency_s = 0.95 * usual_s + 0.05 * latency_s

    def forget_latency(self) -> None:
        """Compare with no answer so far: a probe's was of one token, and others need not be as fast."""
        self._latency_s = 0.0

    def overloaded(self) -> None:
        """Learn from a 429, or from a latency that says the same."""
        # One burst of refusals is one message: halve once for all calls that were in flight when it came.
        if self._answers >= self._cut_until:
            self.calls = max(1.0, self.calls / 2)
            self._cut_until = self._answers + self.allowed()


@dataclass
class Tries:
    """The tries of one call, named `name`, of the server at `url`: how often it failed, how often it said "later"."""

    url: str
    name: str
    attempts_max: int
    failures: int = 0
    overloads: int = 0

    def pause_s(self, verdict: Verdict, wait_s: float | None) -> float:
        """Seconds before the next try, `wait_s` if the server said so; Unavailable when there is to be none."""
        if verdict in NO_RECORD_TO_BLAME:
            raise Unavailable(NO_RECORD_TO_BLAME[verdict].format(url=self.url), MISFIT_RETRY_S)
        self.failures += verdict is Verdict.FAILED
        self.overloads += verdict is Verdict.OVERLOADED
        if self.failures >= self.attempts_max or self.overloads >= OVERLOADS_MAX:
            raise Unavailable(f"{self.url} does not answer ({self.failures} failures)", retry_after_s=wait_s or 1.0)
        return wait_s if wait_s is not None else backoff_s(self.name, self.failures + self.overloads)


def backoff_s(name: str, attempt: int) -> float:
    """Seconds before attempt `attempt` + 1 (from 1): doubling, with a spread by `name` that never changes."""
    spread = 0.5 + hashlib.blake2b(f"{name} {attempt}".encode(), digest_size=1).digest()[0] / 255
    return float(min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2 ** min(attempt - 1, 20)) * spread)


def retry_after_s(header: str | None) -> float | None:
    """Seconds of a Retry-After header, 0 to 3600; None for a date or anything else (then the backoff counts)."""
    try:
        return min(3_600.0, max(0.0, float(header or "")))
    except ValueError:
        return None
