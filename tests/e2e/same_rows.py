"""Whether runs published the same rows, in every column but the time of fetching.

    .venv/bin/python tests/e2e/same_rows.py RUN RUN…     (folders that `xinstruct demo --out` wrote)

Prints what differs, at most a few rows of each, and exits with 1 when something does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from recompute import newest_release

TIME_COLUMNS = {"fetch_time"}
SHOWN = 3
Rows = Mapping[str, Mapping[str, Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare every run with the first one."""
    folders = [Path(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    if len(folders) < 2:
        sys.exit("name at least two folders of runs")
    first = rows_of(folders[0])
    differences = [line for folder in folders[1:] for line in compared(first, rows_of(folder), folder)]
    print("\n".join(differences) or f"the same {len(first)} rows in {len(folders)} runs")
    return 1 if differences else 0


def rows_of(folder: Path) -> Rows:
    """The rows of a run's newest release by their id, of all languages."""
    files = sorted(newest_release(folder / "home" / "releases").glob("data/*/*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows), f"an id occurs twice in {folder}"
    return {row["id"]: {name: value for name, value in row.items() if name not in TIME_COLUMNS} for row in rows}


def compared(first: Rows, other: Rows, folder: Path) -> list[str]:
    """Lines about rows that only one of the two has, and about columns that differ."""
    missing, added = sorted(first.keys() - other.keys()), sorted(other.keys() - first.keys())
    lines = [f"{folder}: {len(ids)} rows {what}: {', '.join(ids[:SHOWN])}" for ids, what in
             ((missing, "missing"), (added, "that the first run has not")) if ids]
    for column in sorted({name for row in first.values() for name in row}):
        changed = [key for key in first.keys() & other.keys() if first[key][column] != other[key].get(column)]
        for key in sorted(changed)[:SHOWN]:
            lines.append(f"{folder}: {column} of {key}: {first[key][column]!r} and {other[key].get(column)!r}")
        if len(changed) > SHOWN:
            lines.append(f"{folder}: {column} of {len(changed) - SHOWN} more rows differs")
    return lines


if __name__ == "__main__":
    sys.exit(main())
