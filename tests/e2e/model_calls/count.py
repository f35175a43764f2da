"""Calls at the models' entry of one run ≤ distinct requests + those that a process took into its death?

    python tests/e2e/model_calls/count.py calls.txt        (see sitecustomize.py, which writes the file)

A request was in flight at a kill when its process handed it to a model and never stored the answer. Prints a line of
JSON for each kind of request, and exits with 1 when there were more calls.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path


def main() -> int:
    """Count one file."""
    handed: dict[str, list[tuple[str, str]]] = defaultdict(list)
    stored: set[tuple[str, str]] = set()
    for line in Path(sys.argv[1]).read_text("utf-8").splitlines():
        process, what, kind, digest = line.split()
        if what == "submit":
            handed[kind].append((process, digest))
        else:
            stored.add((process, digest))
    too_many = 0
    for kind, calls in sorted(handed.items()):
        distinct = len({digest for _, digest in calls})
        in_flight = sum(call not in stored for call in calls)
        excess = len(calls) - distinct - in_flight
        too_many += max(excess, 0)
        figure = {"requests": kind, "calls": len(calls), "distinct": distinct, "in_flight_at_kills": in_flight}
        print(json.dumps(figure | {"beyond": excess}))
    return 1 if too_many else 0


if __name__ == "__main__":
    sys.exit(main())
