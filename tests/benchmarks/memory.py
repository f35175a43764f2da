"""Peak memory of the extraction stage over ten times the input: each size in a process of its own.

    python -m benchmarks.memory PAGES FOLDER      works PAGES pages through and prints the peak in MiB
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.pages import PAGE_BYTES, InProcessPort, admit_stage, folder_blobs, store
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.runner import Runner, RunnerSettings

PAGES = 200
FACTOR = 10


def figures(folder: Path) -> Iterator[Figure]:
    """One figure: the ratio of the peaks."""
    peaks = [_peak_mib(count, folder / str(count)) for count in (PAGES, PAGES * FACTOR)]
    ratio = peaks[1] / peaks[0]
    yield Figure(
        "memory_over_ten_times_the_input", ratio, "<=", 1.10, [ratio],
        {"pages": [PAGES, PAGES * FACTOR], "page_bytes": PAGE_BYTES, "peak_mib": [round(peak) for peak in peaks]},
    )


def _peak_mib(pages: int, folder: Path) -> float:
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.memory", str(pages), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _work(pages: int, folder: Path) -> None:
    log, blobs = SqliteLog(folder / "log.sqlite", _now_ms), folder_blobs(folder)
    records = store(blobs, pages)
    while batch := list(islice(records, 100)):
        log.append(batch)
    stage = admit_stage(InProcessPort(blobs))
    runner = Runner(stage, log, blobs=blobs, clock=_now_ms, settings=RunnerSettings())
    while not runner.idle():
        runner.turn(wait_s=0.2)
    runner.close()
    log.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    _work(int(sys.argv[1]), Path(sys.argv[2]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
