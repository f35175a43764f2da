"""The payload of every topic as a frozen dataclass, and its bytes. The only importer of messages_pb2.

Field meanings, units and ranges stand once, in protos/xinstruct/v1/messages.proto; a test holds the two lists equal.
`encode` is deterministic: equal payloads give equal bytes within one protobuf version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum
from functools import cache
from typing import Any, ClassVar, Self, cast

from google.protobuf.message import DecodeError, Message

from xinstruct.spine.errors import Invalid
from xinstruct.spine.record import Record, slot_id
from xinstruct.v1 import messages_pb2


class CrawlAction(IntEnum):
    UNSPECIFIED = 0
    ADD = 1
    PAUSE = 2
    RESUME = 3
    REMOVE = 4


class SourceKind(IntEnum):
    UNSPECIFIED = 0
    URL = 1
    SITEMAP = 2
    FEED = 3
    JSONL = 4
    PARQUET = 5


class LabelReading(IntEnum):
    UNSPECIFIED = 0
    LOG_PROBABILITY = 1
    VOTE = 2
    CALIBRATED = 3


class TakedownKind(IntEnum):
    UNSPECIFIED = 0
    URL = 1
    HOST = 2
    DOCUMENT = 3


@dataclass(frozen=True)
class Payload:
    """Base of all payloads: bytes in, bytes out, and the key and id of its record. Not instantiated itself."""

    ID_FIELD: ClassVar[str]
    KEY_FIELD: ClassVar[str]

    def encode(self) -> bytes:
        """The wire form."""
        return _to_proto(self).SerializeToString(deterministic=True)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The payload in `raw`; Invalid when it is not one."""
        try:
            message = _message_class(cls.__name__).FromString(raw)
        except DecodeError as error:
            raise Invalid(f"not a {cls.__name__}: {error}") from error
        return cast(Self, _from_proto(cls, message))

    @property
    def id(self) -> str:
        """Record id."""
        return str(getattr(self, self.ID_FIELD))

    @property
    def key(self) -> str:
        """Record key: what orders and compacts it."""
        return str(getattr(self, self.KEY_FIELD))

    def record(self, topic: str, headers: Mapping[str, str] | None = None) -> Record:
        """This payload as an unplaced record of `topic`."""
        return Record(topic, self.key, self.id, self.encode(), headers or {})


@dataclass(frozen=True)
class CrawlRequested(Payload):
    ID_FIELD = "request_id"
    KEY_FIELD = "source_id"
    request_id: str
    action: CrawlAction
    kind: SourceKind
    source_id: str
    location: str
    hosts: tuple[str, ...] = ()
    pages_max: int = 0
    depth_max: int = 0
    text_field: str = ""
    url_field: str = ""
    licence: str = ""
    declared_language: str = ""
    poll_interval_s: int = 0
    request_time_ms: int = 0


@dataclass(frozen=True)
class OptOut:
    """One signal about use; part of FetchedPage."""

    signal: str
    directive: str
    evidence: str
    denies: bool


@dataclass(frozen=True)
class FetchedPage(Payload):
    ID_FIELD = "fetch_id"
    KEY_FIELD = "page_id"
    fetch_id: str
    page_id: str
    url: str
    host: str
    source_id: str
    fetch_number: int
    status: int
    failure: str = ""
    content_type: str = ""
    body_digest: str = ""
    body_bytes: int = 0
    fetch_time_ms: int = 0
    opt_outs: tuple[OptOut, ...] = ()
    policy_version: str = ""
    superseded_body_digest: str = ""
    declared_language: str = ""
    licence: str = ""
    content_encoding_text: str = ""
    detail: str = ""


@dataclass(frozen=True)
class AdmittedDocument(Payload):
    ID_FIELD = KEY_FIELD = "document_id"
    document_id: str
    page_id: str
    body_digest: str
    ordinal: int
    url: str
    host: str
    text: str
    language: str
    language_script: str
    language_confidence_ratio: float
    licence: str
    signature: bytes
    text_digest: str
    fetch_time_ms: int
    masked_count: int = 0
    title: str = ""
    source_id: str = ""


@dataclass(frozen=True)
class DraftedPair(Payload):
    ID_FIELD = KEY_FIELD = "pair_id"
    pair_id: str
    document_id: str
    page_id: str
    url: str
    host: str
    instruction: str
    response: str
    language: str
    language_script: str
    licence: str
    generator_digest: str
    prompt_version: str
    decoding: str
    mean_log_probability: float
    fetch_time_ms: int
    ordinal: int = 0


@dataclass(frozen=True)
class ScoredPair(Payload):
    ID_FIELD = KEY_FIELD = "score_id"
    score_id: str
    pair_id: str
    document_id: str
    p_best: float
    p_reasonable: float
    p_worst: float
    evaluator_digest: str
    reading: LabelReading
    votes_count: int = 0
    prompt_version: str = ""
    language: str = ""


@dataclass(frozen=True)
class ReviewedPair(Payload):
    ID_FIELD = KEY_FIELD = "review_id"
    review_id: str
    pair_id: str
    reviewer: str
    label: str
    tags: tuple[str, ...] = ()
    review_time_ms: int = 0


@dataclass(frozen=True)
class DroppedRecord(Payload):
    ID_FIELD = KEY_FIELD = "drop_id"
    drop_id: str
    stage: str
    stage_version: str
    subject_id: str
    reason: str
    evidence: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    language: str = ""
    ordinal: int = 0


@dataclass(frozen=True)
class TakedownRequested(Payload):
    ID_FIELD = "request_id"
    KEY_FIELD = "takedown_key"
    request_id: str
    kind: TakedownKind
    target: str
    reason: str = ""
    request_time_ms: int = 0
    purge: bool = False

    @property
    def takedown_key(self) -> str:
        """Kind and target: a second request for the same target compacts the first away."""
        return f"{self.kind.name.lower()} {self.target}"


@dataclass(frozen=True)
class ReleasePublished(Payload):
    ID_FIELD = KEY_FIELD = "name"
    name: str
    manifest_digest: str
    location: str
    pairs_count: int
    generator_digest: str
    evaluator_digest: str
    publish_time_ms: int
    request_id: str = ""


@dataclass(frozen=True)
class TrainingRequested(Payload):
    ID_FIELD = "request_id"
    KEY_FIELD = "job_name"
    request_id: str
    job_name: str
    role: str
    base_model: str
    seeds_location: str
    round: int = 0
    evaluator_digest: str = ""
    generator_digest: str = ""
    recipe: str = "{}"
    languages: tuple[str, ...] = ()
    promote_when_done: bool = False
    request_time_ms: int = 0


@dataclass(frozen=True)
class ModelTrained(Payload):
    ID_FIELD = KEY_FIELD = "job_name"
    job_name: str
    role: str
    model_digest: str
    failure: str = ""
    base_digest: str = ""
    licence: str = "other"
    metrics: str = "{}"
    snapshot_digest: str = ""
    round: int = 0
    finish_time_ms: int = 0
    promote_when_done: bool = False


@dataclass(frozen=True)
class DeadLetter(Payload):
    ID_FIELD = KEY_FIELD = "dead_letter_id"
    dead_letter_id: str
    stage: str
    stage_version: str
    input_topic: str
    input_id: str
    input_key: str
    reason: str
    detail: str = ""
    attempts_count: int = 1
    input_digest: str = ""
    input_partition: int = -1
    input_offset: int = -1


PAYLOADS: dict[str, type[Payload]] = {
    cls.__name__: cls
    for cls in (
        CrawlRequested, FetchedPage, AdmittedDocument, DraftedPair, ScoredPair, ReviewedPair, DroppedRecord,
        TakedownRequested, ReleasePublished, TrainingRequested, ModelTrained, DeadLetter,
    )
}

_ENUMS = {enum.__name__: enum for enum in (CrawlAction, SourceKind, LabelReading, TakedownKind)}


def dropped(
    stage: str, version: str, subject_id: str, *, reason: str, ordinal: int = 0,
    evidence: Mapping[str, str] | None = None, url: str = "", language: str = "",
) -> DroppedRecord:
    """The drop record of slot `ordinal` of `subject_id`, with its id."""
    drop_id = slot_id(f"{stage}/drop", version, subject_id, ordinal)
    return DroppedRecord(drop_id, stage, version, subject_id, reason, evidence or {}, url, language, ordinal)


@cache
def _message_class(name: str) -> type[Message]:
    return cast(type[Message], getattr(messages_pb2, name))


@cache
def _plan(cls: type[Any]) -> tuple[tuple[str, str, str], ...]:
    """(field, kind, detail) of every field, decided once a class: plain, enum, strings, messages or map."""
    descriptors = _message_class(cls.__name__).DESCRIPTOR.fields_by_name
    return tuple((item.name, *_kind_of(descriptors[item.name])) for item in fields(cls))


def _kind_of(descriptor: Any) -> tuple[str, str]:
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        return "map", ""
    if descriptor.message_type is not None:
        return "messages", str(descriptor.message_type.name)
    if descriptor.is_repeated:
        return "repeated", ""
    if descriptor.enum_type is not None:
        return "enum", str(descriptor.enum_type.name)
    return "plain", ""


def _to_proto(payload: Any) -> Message:
    message = _message_class(type(payload).__name__)()
    for name, kind, _ in _plan(payload.__class__):
        value = getattr(payload, name)
        if kind in ("plain", "enum"):
            setattr(message, name, value)
        elif kind == "repeated":
            getattr(message, name).extend(value)
        elif kind == "map":
            getattr(message, name).update(value)
        else:
            getattr(message, name).extend(_to_proto(item) for item in value)
    return message


_NESTED: dict[str, type] = {"OptOut": OptOut}


def _from_proto(cls: type, message: Message) -> Any:
    values: dict[str, Any] = {}
    for name, kind, detail in _plan(cls):
        value = getattr(message, name)
        if kind == "enum":
            values[name] = _member(_ENUMS[detail], value)
        elif kind == "repeated":
            values[name] = tuple(value)
        elif kind == "map":
            values[name] = dict(sorted(value.items()))
        elif kind == "messages":
            values[name] = tuple(_from_proto(_NESTED[detail], item) for item in value)
        else:
            values[name] = value
    return cls(**values)


def _member(enum: type[IntEnum], number: int) -> IntEnum:
    """Invalid for a member that a newer version wrote: proto enums are open, ours are closed."""
    try:
        return enum(number)
    except ValueError as error:
        raise Invalid(f"{number} is no {enum.__name__} that this version knows") from error
