"""The SQLite log against bare `executemany` of the same bytes, at the same commit size and fsync.

The bar holds for CPU time; the wall time of both, most of it waiting for the disk, is told beside it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figure import Figure, interleaved, worst
from builders import document
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.record import Record
from xinstruct.spine.topics import DOCUMENT_ADMITTED

RECORDS = 20_000
COMMIT_RECORDS = 256
VALUE_BYTES = 1_500


def figures(folder: Path) -> Iterator[Figure]:
    """Costs of whole runs."""
    batches = [records[i : i + COMMIT_RECORDS] for records in [_records()] for i in range(0, RECORDS, COMMIT_RECORDS)]
    costs = interleaved({
        "log": lambda number: _cost(lambda: _log(folder / f"log-{number}.sqlite", batches)),
        "bare": lambda number: _cost(lambda: _bare(folder / f"bare-{number}.sqlite", batches)),
    })
    pairs = list(zip(costs["log"], costs["bare"], strict=True))
    facts = {"records": RECORDS, "commit_records": COMMIT_RECORDS, "value_bytes": VALUE_BYTES}
    yield worst(
        "sqlite_log_over_bare_executemany", [bare.cpu_s / log.cpu_s for log, bare in pairs], ">=", 0.5, **facts,
        log_us_per_record=round(min(log.cpu_s for log, _ in pairs) / RECORDS * 1e6, 1),
        wall_ratios=[round(bare.wall_s / log.wall_s, 3) for log, bare in pairs],
    )


def _records() -> list[Record]:
    text = "x" * (VALUE_BYTES - 1_100)  # the rest of a document is its signature
    made = (document(document_id=f"{number:032x}", text=text) for number in range(RECORDS))
    return [payload.record(DOCUMENT_ADMITTED.name) for payload in made]


@dataclass(frozen=True)
class _Cost:
    cpu_s: float
    wall_s: float


def _cost(run: Callable[[], None]) -> _Cost:
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    run()
    return _Cost(time.process_time() - cpu_s, time.perf_counter() - wall_s)


def _log(path: Path, batches: list[list[Record]]) -> None:
    log = SqliteLog(path, lambda: 0)
    for batch in batches:
        log.append(batch)
    log.close()


def _bare(path: Path, batches: list[list[Record]]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE t (number INTEGER PRIMARY KEY, key BLOB, headers BLOB, time INTEGER, value BLOB)")
    for batch in batches:
        connection.execute("BEGIN IMMEDIATE")
        rows = [(record.key.encode(), record.id.encode(), 0, record.value) for record in batch]
        connection.executemany("INSERT INTO t (key, headers, time, value) VALUES (?, ?, ?, ?)", rows)
        connection.execute("COMMIT")
    connection.close()
