"""A training job as the one process of a pod. `python -m xinstruct.training.job_pod --spec FILE`

What it says stands in the pod's output, and in job.log beside the spec when the pod is gone. It holds the lock of the
folder, and waits for it: a pod whose node does not answer may still be at work there. At SIGTERM it ends at once, for
the next one goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import atexit
import io
import os
import sys
import threading
from pathlib import Path

from xinstruct.spine.signals import leave_at_sigterm
from xinstruct.training.domain import JobSpec
from xinstruct.training.work_folder import OUTPUT, held, variables

_PIECE_BYTES = 64 * 1024
OUTPUT_END_S = 5.0
"""A child that outlives the job keeps the pipe open."""


def main(arguments: list[str]) -> int:
    """Run the job of the spec file. Exit code 0 also when it failed for a reason that result.json names."""
    parser = argparse.ArgumentParser(prog="python -m xinstruct.training.job_pod", description="Run one training job.")
    parser.add_argument("--spec", type=Path, required=True, help="JSON file with a JobSpec")
    file = parser.parse_args(arguments).spec
    leave_at_sigterm()
    spec = JobSpec.from_json(file.read_text(encoding="utf-8"))
    with held(file.parent):
        _copy_output(file.parent / OUTPUT)
        os.environ.update(variables(spec))
        from xinstruct.training.job import main as run_job

        return int(run_job(["--spec", str(file)]))


def _copy_output(file: Path) -> None:
    """From now on, whatever this process writes to its output and errors is appended to `file` as well."""
    output = os.dup(1)
    reader, writer = os.pipe()
    for descriptor in (1, 2):
        os.dup2(writer, descriptor)
    os.close(writer)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # as on a terminal: somebody may be reading

    def copy() -> None:
        with file.open("ab", buffering=0) as kept:
            while piece := os.read(reader, _PIECE_BYTES):
                os.write(output, piece)
                kept.write(piece)

    copying = threading.Thread(target=copy, name="output", daemon=True)
    copying.start()

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(output, descriptor)  # the pipe's last writers are gone, and the thread ends
        copying.join(OUTPUT_END_S)

    atexit.register(end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
