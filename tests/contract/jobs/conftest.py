"""Jobs as processes of this machine."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from xinstruct.training.local_jobs import LocalJobs


class LocalBench:
    """See bench.Bench."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> LocalJobs:
        return LocalJobs(self.folder)

    def kill(self, job_name: str) -> None:
        """The process whose arguments name the job's folder."""
        found = [process for process in psutil.Process().children(recursive=True)
                 if any(job_name in argument for argument in process.cmdline())]
        assert found, f"nothing runs {job_name}"
        for process in found:
            process.kill()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> LocalBench:
    return LocalBench(tmp_path_factory.mktemp("jobs"))
