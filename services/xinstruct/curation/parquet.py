"""Rows as Parquet, byte for byte the same for the same rows and the same pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("instruction", pa.string()),
        ("response", pa.string()),
        ("language", pa.string()),
        ("language_script", pa.string()),
        ("url", pa.string()),
        ("host", pa.string()),
        ("fetch_time", pa.timestamp("ms", tz="UTC")),
        ("licence", pa.string()),
        ("document_id", pa.string()),
        ("cluster", pa.int32()),
        ("p_best", pa.float32()),
        ("generator", pa.string()),
        ("evaluator", pa.string()),
    ]
)
"""Columns of a release."""

ROWS_PER_GROUP = 1_000
BATCH_ROWS = 1_000


def dataset_row(row: Mapping[str, Any], *, cluster: int, evaluator_digest: str) -> dict[str, Any]:
    """A row of a release from a row of the catalog (PAIRS and p_best)."""
    same = ("instruction", "response", "language", "language_script", "url", "host", "licence", "document_id", "p_best")
    renamed = {"id": row["pair_id"], "fetch_time": row["fetch_time_ms"], "generator": row["generator_digest"]}
    return {name: row[name] for name in same} | renamed | {"cluster": cluster, "evaluator": evaluator_digest}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `rows`, sorted by id, to `path`. Every setting that reaches the bytes is given here."""
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    columns = [pa.array([row[field.name] for row in ordered], field.type) for field in SCHEMA]
    pq.write_table(
        pa.Table.from_arrays(columns, schema=SCHEMA), path, row_group_size=ROWS_PER_GROUP, version="2.6",
        data_page_version="1.0", compression="zstd", compression_level=3, use_dictionary=True, write_statistics=True,
        store_schema=True, coerce_timestamps="ms", write_page_index=False,
    )  # fmt: skip


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file in their order, fetch_time as a datetime in UTC."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield from batch.to_pylist()
