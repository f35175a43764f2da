"""What every backend asks of a record before it writes it, so that neither is nicer than the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from xinstruct.spine.errors import Invalid
from xinstruct.spine.record import RECORD_ID_HEADER, Record

RECORD_BYTES_MAX = 1_000_000
"""Key, id, headers and value together: below Kafka's default limit of 1,048,588 bytes a batch, in SQLite too."""

_ID_HEADER_BYTES = len(RECORD_ID_HEADER)


class Wire(NamedTuple):
    """A record as it travels. Its id is a header too where the backend has only headers."""

    key: bytes
    id: bytes
    headers: Sequence[tuple[str, bytes]]
    value: bytes | None


def wire(record: Record) -> Wire:
    """The bytes of `record`.

    Invalid when it cannot be written: no key or id, text that is no Unicode, the id's header given by the caller, or
    more than RECORD_BYTES_MAX bytes.
    """
    # Called for every record of every commit: plain conditions, and no message is formatted before it is needed.
    if not record.key or not record.id:
        _refuse(record, "it needs a key and an id")
    try:
        key, record_id = record.key.encode(), record.id.encode()
        headers = [(name, text.encode()) for name, text in record.headers.items()] if record.headers else []
        size_bytes = len(key) + len(record_id) + _ID_HEADER_BYTES + len(record.value or b"")
        for name, raw in headers:
            size_bytes += len(name.encode()) + len(raw)
    except UnicodeEncodeError as error:
        _refuse(record, f"its key, id or a header is no Unicode text: {error.reason}")
    if size_bytes > RECORD_BYTES_MAX:
        _refuse(record, f"it has {size_bytes} bytes, more than {RECORD_BYTES_MAX}")
    if RECORD_ID_HEADER in record.headers:
        _refuse(record, f"{RECORD_ID_HEADER} is the log's own header")
    return Wire(key, record_id, headers, record.value)


def record_of(topic: str, partition: int, offset: int, written: Wire) -> Record:
    """The record that was written. Never fails: a foreign program's record without our id gets its place as id."""
    record_id = written.id.decode(errors="replace") or f"{topic}/{partition}/{offset}"
    texts = {name: raw.decode(errors="replace") for name, raw in written.headers}
    return Record(topic, written.key.decode(errors="replace"), record_id, written.value, texts, partition, offset)


def _refuse(record: Record, why: str) -> NoReturn:
    raise Invalid(f"a record of {record.topic} cannot be written: {why}")
