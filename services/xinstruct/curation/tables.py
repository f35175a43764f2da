"""Every table of the catalog. A projected table has one column a payload field, of its name, and a place.

Lists, maps and nested messages are canonical JSON text. A float that is not a number is stored as NULL, on both
databases alike. `log_partition` and `log_offset` say where a row was read (-1: written here, not read yet): an older
record never overwrites a newer one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any, TypeVar

import sqlalchemy as sa

from xinstruct.spine import messages, topics
from xinstruct.spine.messages import Payload
from xinstruct.spine.record import Record
from xinstruct.spine.sql import METADATA
from xinstruct.spine.topics import Topic

Engine = sa.Engine
Connection = sa.Connection
PayloadT = TypeVar("PayloadT", bound=Payload)

_TYPES: Mapping[str, type[sa.types.TypeEngine[Any]]] = {
    "str": sa.Text, "int": sa.BigInteger, "float": sa.Double, "bytes": sa.LargeBinary, "bool": sa.Boolean,
}  # fmt: skip


def _projected(name: str, payload: type[Payload], *, indexed: Sequence[str] = ()) -> sa.Table:
    """The table of `payload`: its fields, and where the row was read. The id field is the primary key."""
    columns: list[sa.Column[Any]] = []
    for item in fields(payload):
        kind = _TYPES.get(str(item.type), sa.Text)
        if str(item.type) in messages.__dict__ and issubclass(messages.__dict__[str(item.type)], IntEnum):
            kind = sa.BigInteger
        columns.append(
            sa.Column(item.name, kind, primary_key=item.name == payload.ID_FIELD, nullable=kind is sa.Double)
        )
    place = [sa.Column(column, sa.BigInteger, nullable=False) for column in ("log_partition", "log_offset")]
    indexes = [sa.Index(f"ix_{name}_{column}", column) for column in indexed]
    return sa.Table(name, METADATA, *columns, *place, *indexes)


PAGES = _projected("pages", messages.FetchedPage, indexed=("page_id", "url", "host", "body_digest"))
DOCUMENTS = _projected(
    "documents", messages.AdmittedDocument, indexed=("page_id", "url", "host", "language", "text_digest", "body_digest")
)
PAIRS = _projected("pairs", messages.DraftedPair, indexed=("document_id", "page_id", "url", "host", "generator_digest"))
SCORES = _projected("scores", messages.ScoredPair, indexed=("pair_id", "document_id", "evaluator_digest"))
REVIEWS = _projected("reviews", messages.ReviewedPair, indexed=("pair_id",))
DROPS = _projected("drops", messages.DroppedRecord, indexed=("subject_id", "url", "stage"))
DEAD_LETTERS = _projected("dead_letters", messages.DeadLetter, indexed=("stage", "input_id", "input_key"))
RELEASES = _projected("releases", messages.ReleasePublished, indexed=("request_id",))
TRAINED_MODELS = _projected("trained_models", messages.ModelTrained, indexed=("snapshot_digest",))

PROJECTION_OFFSETS = sa.Table(
    "projection_offsets", METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("next_offset", sa.BigInteger, nullable=False),
)  # fmt: skip
"""Where the projection reads next; stored in the transaction of the rows."""

SUPERSEDED = sa.Table(
    "superseded", METADATA,
    sa.Column("page_id", sa.Text, primary_key=True),
    sa.Column("body_digest", sa.Text, primary_key=True),
    sa.Column("supersede_time_ms", sa.BigInteger, nullable=False),
)  # fmt: skip
"""Bodies that a later fetch replaced. A document of one is gone when its own fetch is not later than the time here:
so a page that returns to an old body has live documents again, whatever is read first."""

SUPPRESSIONS = sa.Table(
    "suppressions", METADATA,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("suppress_time_ms", sa.BigInteger, nullable=False),
)  # fmt: skip
"""The permanent list of what may never come back. kind: "url", "host" or "document" (a page, document or pair id);
target: in the form of domain.normal_target. Read by admission, by the projection and by releases."""

TAKEDOWNS = sa.Table(
    "takedowns", METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.BigInteger, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("request_time_ms", sa.BigInteger, nullable=False),
    sa.Column("purge", sa.Boolean, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # "suppressed", then "erased"
    sa.Column("records_erased", sa.BigInteger, nullable=False),
    sa.Column("blobs_erased", sa.BigInteger, nullable=False),
    sa.Column("releases_affected", sa.Text, nullable=False),
    sa.Column("snapshots_affected", sa.Text, nullable=False),
    sa.Column("models_affected", sa.Text, nullable=False),
    sa.Column("reports_affected", sa.Text, nullable=False),
    sa.Column("change_time_ms", sa.BigInteger, nullable=False),
    sa.Column("change_number", sa.BigInteger, nullable=False),
)  # fmt: skip

TAKEDOWN_SUBJECTS = sa.Table(
    "takedown_subjects", METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),  # "url", "page", "document", "pair", "blob", "owner"
    sa.Column("subject", sa.Text, primary_key=True),
)  # fmt: skip
"""What a takedown that is not finished still has to erase outside SQL; emptied when it is. An owner is a page whose
reference does not keep a blob from being erased."""

ERASURES = sa.Table(
    "erasures", METADATA,
    sa.Column("subject_id", sa.Text, primary_key=True),
    sa.Column("until_time_ms", sa.BigInteger, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("page_id", sa.Text, nullable=False, index=True),
    sa.Column("document_id", sa.Text, nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False, index=True),
    sa.Column("host", sa.Text, nullable=False, index=True),
    sa.Column("text_digest", sa.Text, nullable=False),
    sa.Column("body_digest", sa.Text, nullable=False),
)  # fmt: skip
"""Pages, documents and pairs that were tombstoned: what still arrives of a fetch up to that time is tombstoned again.
`request_id`: the takedown that asked for it (the time is FOREVER_MS then); empty: an edit superseded it. The rest says
what it was: a later takedown finds it, and the releases that hold it, though the catalog has forgotten it; and a text
that was taken down is known when its page brings it again. Empty is what a page or a pair has not."""

FOREVER_MS = 1 << 62
"""Later than every fetch."""

TOMBSTONES = sa.Table(
    "tombstones", METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
)  # fmt: skip
"""Outbox: null values to append to the log, written in the transaction that erased the rows."""

RELEASE_REQUESTS = sa.Table(
    "release_requests", METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("publish_time_ms", sa.BigInteger, nullable=False),
)  # fmt: skip
"""Name and time of a release, reserved before its files are written: a repeated request goes on with the same."""

RELEASE_ROWS = sa.Table(
    "release_rows", METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("pair_id", sa.Text, primary_key=True),
    sa.Column("document_id", sa.Text, nullable=False),
    sa.Column("language", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),  # a member of domain.ReleaseOutcome
    sa.Column("cluster", sa.Integer, nullable=False),  # -1: not reached
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("ix_release_rows_pair_id", "pair_id"),
    sa.Index("ix_release_rows_document_id", "document_id"),
)  # fmt: skip
"""What each release decided about each labelled pair, published or not: the end of every pair's story."""

_TRAINING_JOBS = sa.table("training_jobs", sa.column("job_name"), sa.column("snapshot_digest"))
"""Training's own table, read only. Absent where training never ran."""


@dataclass(frozen=True)
class Projection:
    """A topic and the table it fills. `key_column` is what a tombstone's key names."""

    topic: Topic
    table: sa.Table
    key_column: str


def training_snapshots(connection: Connection) -> dict[str, str]:
    """Training job → digest of its snapshot, whether it is done, failed or still at work."""
    if not sa.inspect(connection).has_table(_TRAINING_JOBS.name):
        return {}
    rows = connection.execute(_TRAINING_JOBS.select().where(_TRAINING_JOBS.c.snapshot_digest != ""))
    return {row.job_name: row.snapshot_digest for row in rows}


PROJECTIONS: tuple[Projection, ...] = (
    Projection(topics.PAGE_FETCHED, PAGES, "page_id"),
    Projection(topics.DOCUMENT_ADMITTED, DOCUMENTS, "document_id"),
    Projection(topics.PAIR_DRAFTED, PAIRS, "pair_id"),
    Projection(topics.PAIR_SCORED, SCORES, "score_id"),
    Projection(topics.PAIR_REVIEWED, REVIEWS, "review_id"),
    Projection(topics.RECORD_DROPPED, DROPS, "drop_id"),
    *(Projection(topic, DEAD_LETTERS, "dead_letter_id") for topic in topics.DEAD_LETTERS.values()),
    Projection(topics.RELEASE_PUBLISHED, RELEASES, "name"),
    Projection(topics.MODEL_TRAINED, TRAINED_MODELS, "job_name"),
)
"""In the order in which they are read: what a record refers to is read before it."""


def row_of(payload: Payload, record: Record) -> dict[str, Any]:
    """The row of `payload`, read at `record`'s place."""
    row = {item.name: _column_value(getattr(payload, item.name)) for item in fields(payload)}
    return row | {"log_partition": record.partition, "log_offset": record.offset}


def payload_of(payload: type[PayloadT], row: Mapping[str, Any]) -> PayloadT:
    """The payload that `row` was made of."""
    return payload(**{item.name: _field_value(str(item.type), row[item.name]) for item in fields(payload)})


def _column_value(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")  # PostgreSQL takes no NUL in a text
    if isinstance(value, tuple | Mapping):
        return canonical_json(dict(value) if isinstance(value, Mapping) else [_plain(item) for item in value])
    return value


def _plain(item: Any) -> Any:
    return asdict(item) if isinstance(item, messages.OptOut) else item


def _field_value(annotation: str, value: Any) -> Any:
    if annotation == "float":
        return math.nan if value is None else value
    if annotation.startswith("tuple[OptOut"):
        return tuple(messages.OptOut(**item) for item in json.loads(value))
    if annotation.startswith("tuple["):
        return tuple(json.loads(value))
    if annotation.startswith("Mapping["):
        return json.loads(value)
    kind = messages.__dict__.get(annotation)
    return kind(value) if isinstance(kind, type) and issubclass(kind, IntEnum) else value


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces, native scripts as they are, no NUL."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).replace("\\u0000", "\ufffd")
