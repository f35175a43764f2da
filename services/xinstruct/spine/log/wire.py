"""What every backend asks of a record before it writes it, so that neither is nicer than the other."""

from __future__ import annotations

from xinstruct.spine.errors import require
from xinstruct.spine.record import RECORD_ID_HEADER, Record

RECORD_BYTES_MAX = 1_000_000
"""Key, id, headers and value together: below Kafka's default limit of 1,048,588 bytes a batch, in SQLite too."""

Headers = list[tuple[str, bytes]]


def wire_headers(record: Record) -> Headers:
    """The record's headers as they travel: its id first, then its own in their order.

    Invalid when the record cannot be written: no key or id, text that is no Unicode, the id's header given by the
    caller, or more than RECORD_BYTES_MAX bytes.
    """
    require(bool(record.key and record.id), f"a record of {record.topic} needs a key and an id")
    require(RECORD_ID_HEADER not in record.headers, f"{RECORD_ID_HEADER} is the log's own header")
    try:
        headers = [(RECORD_ID_HEADER, record.id.encode())]
        for name, text in record.headers.items():
            name.encode()
            headers.append((name, text.encode()))
        size_bytes = len(record.key.encode()) + len(record.value or b"") + sum(len(n) + len(v) for n, v in headers)
    except UnicodeEncodeError as error:
        require(False, f"a key, id or header of {record.topic} is no Unicode text: {error.reason}")
        raise
    require(size_bytes <= RECORD_BYTES_MAX, f"{record.topic}: a record of {size_bytes} bytes, over {RECORD_BYTES_MAX}")
    return headers


def record_of(topic: str, partition: int, offset: int, *, key: bytes, value: bytes | None, headers: Headers) -> Record:
    """The record that was written. Never fails: a foreign program's record without our id gets its place as id."""
    texts = {name: raw.decode(errors="replace") for name, raw in headers}
    record_id = texts.pop(RECORD_ID_HEADER, f"{topic}/{partition}/{offset}")
    return Record(topic, key.decode(errors="replace"), record_id, value, texts, partition, offset)
