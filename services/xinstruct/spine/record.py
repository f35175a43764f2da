"""A record of the log, its id and its partition: the three facts that every backend shares."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

RECORD_ID_HEADER = "xinstruct-id"
"""Header that carries a record's id on the wire, in both backends."""

FOR_GROUP_HEADER = "xinstruct-for-group"
"""Set on a replayed dead letter: only this group handles it, others commit past it."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `value` None is a tombstone. `partition` and `offset` are -1 until the log has placed it.

    `topic` is the bare name of the table in topics.py; a configured prefix exists only inside the Kafka adapter.
    """

    topic: str
    key: str
    id: str
    value: bytes | None
    headers: Mapping[str, str] = field(default_factory=dict)
    partition: int = -1
    offset: int = -1


def slot_id(stage: str, version: str, source_id: str, ordinal: int) -> str:
    """Id of the record that `stage` at `version` writes for slot `ordinal` of `source_id`: 32 hex digits.

    A hash of names only, so a replay writes the same ids; never of generated text. The parts are length-prefixed:
    no two different quadruples give the same bytes.
    """
    parts = (stage, version, source_id, str(ordinal))
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return digest.hexdigest()[:32]


def partition_of(key: str, partitions: int) -> int:
    """Partition of `key` among `partitions`: ours, handed to Kafka too, so that both backends order alike."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") % partitions
