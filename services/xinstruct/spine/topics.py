"""Every topic of the system: this screen is the system.

A test fails when a row has no golden example, no producer, or neither a consumer nor `terminal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY_MS = 24 * 3600 * 1000
FOREVER_MS = -1

Cleanup = Literal["compact", "delete"]


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's name, payload (class name in messages.py), key, writers and readers, partitions and retention."""

    name: str
    payload: str
    key: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    partitions: int
    cleanup: Cleanup
    retention_ms: int = FOREVER_MS
    terminal: bool = False
    """Read by no stage: for people (why, dlq) and projections of other systems."""


SLOT_NAMES = ("a", "b")
"""Scoring's slots."""
_SLOTS = tuple(f"scoring-{slot}" for slot in SLOT_NAMES)

# fmt: off
CRAWL_REQUESTED = Topic(
    "crawl-requested-v1", "CrawlRequested", "source_id", ("crawler",), ("fetch",), 6, "delete", 90 * DAY_MS)
PAGE_FETCHED = Topic(
    "page-fetched-v1", "FetchedPage", "page_id", ("fetch",), ("admit", "curation"), 12, "delete", 90 * DAY_MS)
DOCUMENT_ADMITTED = Topic(
    "document-admitted-v1", "AdmittedDocument", "document_id", ("admit",), ("backgen", "curation"), 12, "compact")
PAIR_DRAFTED = Topic(
    "pair-drafted-v1", "DraftedPair", "pair_id", ("backgen",), (*_SLOTS, "training", "curation"), 12, "compact")
PAIR_SCORED = Topic("pair-scored-v1", "ScoredPair", "score_id", _SLOTS, ("training", "curation"), 12, "compact")
PAIR_REVIEWED = Topic("pair-reviewed-v1", "ReviewedPair", "review_id", ("curation",), ("curation",), 6, "compact")
RECORD_DROPPED = Topic(
    "record-dropped-v1", "DroppedRecord", "drop_id", ("admit", "backgen", *_SLOTS), ("curation",), 12, "compact")
TAKEDOWN_REQUESTED = Topic(
    "takedown-requested-v1", "TakedownRequested", "kind + target", ("curation", "fetch"), ("curation",), 6, "compact")
RELEASE_PUBLISHED = Topic(
    "release-published-v1", "ReleasePublished", "name", ("curation",), ("curation",), 1, "compact")
TRAINING_REQUESTED = Topic(
    "training-requested-v1", "TrainingRequested", "job_name", ("training",), ("training",), 3, "compact")
MODEL_TRAINED = Topic("model-trained-v1", "ModelTrained", "job_name", ("training",), ("curation",), 3, "compact")
# fmt: on

STAGES = ("fetch", "admit", "backgen", "scoring-a", "scoring-b", "training", "curation")
"""Names of everything that subscribes: consumer groups, metric labels, targets of dead letters."""

DEAD_LETTERS: dict[str, Topic] = {
    stage: Topic(
        f"{stage}-dlq-v1", "DeadLetter", "dead_letter_id", (stage,), ("curation",), 3, "delete", 365 * DAY_MS,
    )
    for stage in STAGES
}

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        CRAWL_REQUESTED, PAGE_FETCHED, DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED, PAIR_REVIEWED, RECORD_DROPPED,
        TAKEDOWN_REQUESTED, RELEASE_PUBLISHED, TRAINING_REQUESTED, MODEL_TRAINED, *DEAD_LETTERS.values(),
    )
}
