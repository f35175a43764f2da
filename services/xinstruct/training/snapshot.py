"""Which pairs a job trains on: seeds from a file, kept pairs from the log; sorted by id, stored by content.

The whole snapshot is held in memory while it is built (about 3 KB a pair).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from xinstruct.spine.blobs import Blobs
from xinstruct.spine.errors import Invalid, NotFound, require
from xinstruct.spine.languages import language
from xinstruct.spine.log import Log
from xinstruct.spine.messages import DraftedPair, Payload, ScoredPair, TrainingRequested
from xinstruct.spine.record import slot_id
from xinstruct.spine.topics import PAIR_DRAFTED, PAIR_SCORED, Topic
from xinstruct.training.domain import PairRow

P_BEST_MIN = 0.5
SEED_FIELDS = ("instruction", "response", "language")
MISTAKES_MAX = 20

PayloadT = TypeVar("PayloadT", bound=Payload)


def build_snapshot(request: TrainingRequested, log: Log, blobs: Blobs) -> str:
    """Store the rows of `request` as JSONL, sorted by id; returns the blob's digest. Invalid when there are no rows."""
    rows = {row.id: row for row in read_seeds(request.seeds_location)}
    if request.round > 0:
        rows |= {row.id: row for row in kept_pairs(log, request.evaluator_digest)}
    wanted = set(request.languages)
    chosen = [rows[key] for key in sorted(rows) if not wanted or rows[key].language in wanted]
    require(bool(chosen), f"{request.seeds_location} holds no pair in {', '.join(request.languages) or 'any language'}")
    lines = [json.dumps(asdict(row), sort_keys=True, ensure_ascii=False) for row in chosen]
    return blobs.put(("\n".join(lines) + "\n").encode())


def seeds_digest(location: str) -> str:
    """Digest of the seed file's bytes; NotFound when it cannot be read."""
    return "sha256:" + hashlib.sha256(_content(location)).hexdigest()


def read_seeds(location: str) -> list[PairRow]:
    """The seed pairs of a JSONL or Parquet file. Invalid names every malformed line (the first 20)."""
    rows, mistakes = [], []
    for number, values in enumerate(_values(location), start=1):
        try:
            rows.append(_seed(values))
        except (Invalid, NotFound) as error:
            mistakes.append(f"{location}:{number}: {error.message}")
    if mistakes:
        more = f"\n… and {len(mistakes) - MISTAKES_MAX} more" if len(mistakes) > MISTAKES_MAX else ""
        raise Invalid("\n".join(mistakes[:MISTAKES_MAX]) + more)
    return rows


def kept_pairs(log: Log, evaluator_digest: str) -> Iterator[PairRow]:
    """Pairs that the evaluator labels best with P(best) ≥ 0.5, as the log holds them now."""
    kept = {
        score.pair_id
        for score in _latest(log, PAIR_SCORED, ScoredPair).values()
        if score.evaluator_digest == evaluator_digest and is_kept(score)
    }
    for pair in _latest(log, PAIR_DRAFTED, DraftedPair).values():
        if pair.pair_id in kept:
            yield PairRow(pair.pair_id, pair.instruction, pair.response, pair.language, "kept")


def is_kept(score: ScoredPair) -> bool:
    """The selection rule of training: "best" is the likeliest label, and at least as likely as not."""
    return score.p_best >= P_BEST_MIN and score.p_best >= max(score.p_reasonable, score.p_worst)


def _latest(log: Log, topic: Topic, payload: type[PayloadT]) -> dict[str, PayloadT]:
    """The newest value of every key; a tombstone removes it."""
    found: dict[str, PayloadT] = {}
    for record in log.read(topic, {}):
        if record.value is None:
            found.pop(record.key, None)
        else:
            found[record.key] = payload.decode(record.value)
    return found


def _seed(values: Any) -> PairRow:
    require(isinstance(values, Mapping), "expected an object with instruction, response and language")
    fields = []
    for name in SEED_FIELDS:
        value = values.get(name)
        require(isinstance(value, str) and bool(value.strip()), f"{name}: expected a text, found {str(value)[:40]!r}")
        fields.append(str(value))
    instruction, response, code = fields
    content = json.dumps(fields, ensure_ascii=False)
    return PairRow(slot_id("seed", "1", content, 0), instruction, response, language(code).code, "seed")


def _values(location: str) -> Iterator[Any]:
    content = _content(location)
    if location.endswith(".parquet"):
        try:
            yield from pq.read_table(pa.BufferReader(content)).to_pylist()
        except pa.ArrowInvalid as error:
            raise Invalid(f"{location} is no Parquet file: {error}") from error
        return
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError as error:
            raise Invalid(f"{location}:{number}: not JSON: {error}") from error


def _content(location: str) -> bytes:
    try:
        with fsspec.open(location, "rb") as handle:
            return bytes(handle.read())
    except (OSError, ValueError) as error:
        raise NotFound(f"cannot read the seed pairs {location}: {getattr(error, 'strerror', '') or error}") from error
