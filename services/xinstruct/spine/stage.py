"""What a stage is: a pure question, a pure decision, and the port that answers in between.

    record ──ask()──▶ requests ──port──▶ answers ──decide()──▶ outcomes, one a slot

A stage neither counts, logs, retries nor commits: spine/runner.py does, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from xinstruct.spine.messages import Payload
from xinstruct.spine.record import Record
from xinstruct.spine.topics import Topic


@dataclass(frozen=True, slots=True)
class Emit:
    """Good: `payload` goes to `topic` under its own key and id."""

    topic: Topic
    payload: Payload


@dataclass(frozen=True, slots=True)
class Drop:
    """Rightly filtered. `evidence` holds numbers and rule names, never text of the web."""

    reason: StrEnum
    subject_id: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    language: str = ""
    ordinal: int = 0


@dataclass(frozen=True, slots=True)
class Reject:
    """This record's fault and retrying is useless: a dead letter in the same commit."""

    reason: StrEnum
    detail: str = ""


Outcome = Emit | Drop | Reject


class Port(Protocol):
    """Answers requests; owns concurrency, retries, deadlines and rate limits."""

    def submit(self, request: Any) -> Future[Any]:
        """Take `request` at once. The future holds the answer, or raises Unavailable (the world's fault: the runner
        keeps the record and asks again) or Invalid (the record's fault). A server's refusal is an answer."""

    def close(self) -> None:
        """Stop taking requests; abandon what is in flight."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A streaming stage, ready to run.

    name: group, metric label and log field. version: goes into ids and drop records (code constant + digest of the
    config fields that change data + model digest). position_version: stored with every commit; a change replays the
    topic (scoring: holds the evaluator's digest; others: constant).
    """

    name: str
    version: str
    position_version: str
    source: Topic
    payload: Callable[[bytes], Payload]
    ask: Callable[[Record, Payload], Sequence[Any]]
    decide: Callable[[Record, Payload, Sequence[Any]], Sequence[Outcome]]
    port: Port


def scoring_position_version(evaluator_digest: str, prompt_version: str) -> str:
    """What a scoring slot stores with its positions: another evaluator or template reads all pairs anew."""
    return f"{prompt_version}/{evaluator_digest}"
