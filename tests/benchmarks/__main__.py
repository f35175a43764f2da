"""Benchmarks: `make bench`, or `python -m benchmarks NAME…` with tests/ on the path. One JSON line a figure.

A ratio is taken within a round, rounds are interleaved, and the worst of five counts. Nothing here is part of the
tests: on a busy machine the figures mean nothing, but for those of CPU time (capacity).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import capacity, exactly_once, lengths, memory, overhead, predictor, sqlite_append
from benchmarks.figure import Figure, Measured

BENCHMARKS: Mapping[str, Callable[[Path], Iterator[Figure | Measured]]] = {
    "sqlite_append": sqlite_append.figures,
    "exactly_once": exactly_once.figures,
    "overhead": overhead.figures,
    "memory": memory.figures,
    "predictor": predictor.figures,
    "capacity": capacity.figures,
    "lengths": lengths.figures,
}


def main() -> int:
    """Run what is named, all by default; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"any of: {', '.join(BENCHMARKS)}")
    names = parser.parse_args().name or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}")
    missed = False
    for name in names:
        with tempfile.TemporaryDirectory(prefix="xinstruct-bench-") as folder:
            for figure in BENCHMARKS[name](Path(folder)):
                print(json.dumps(figure.line()), flush=True)
                missed |= not figure.holds()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
