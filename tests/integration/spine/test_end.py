"""The end of a whole process, as its own process: what hangs at the end is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENDING = """
import sys, threading
from dataclasses import replace
from xinstruct.__main__ import end
from xinstruct.settings import XinstructSettings
from xinstruct.inference.ngram import NgramInference
from xinstruct.targets import build

class Busy(NgramInference):
    def close(self):
        print("closing", flush=True)
        if sys.argv[1] == "for ever":  # as a local model does in the middle of a long batch
            threading.Event().wait()

built = build(["all"], XinstructSettings.model_validate({"home": sys.argv[2], "rpc": {"port": 0}}))
built = replace(built, deps=replace(built.deps, inference={"encoder": Busy()}))
built.process.start()
end(built, within_s=5.0)
print("closed", flush=True)
"""


@pytest.mark.parametrize(("busy", "said"), [("not", ["closing", "closed"]), ("for ever", ["closing"])])
def test_a_model_that_never_closes_does_not_keep_the_process_from_ending(
    busy: str, said: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", ENDING, busy, str(tmp_path / "home")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.split()) == (0, said), ended.stderr
