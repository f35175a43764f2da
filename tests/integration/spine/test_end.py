"""The end of a whole process, as its own process: what hangs at the end is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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

settings = {"home": sys.argv[2], "rpc": {"port": 0}, "process": {"drain_s": 4}}
built = build(["all"], XinstructSettings.model_validate(settings))
built = replace(built, deps=replace(built.deps, inference={"encoder": Busy()}))
built.process.start()
end(built)
print("closed", flush=True)
"""


@pytest.mark.parametrize(("busy", "said"), [("not", ["closing", "closed"]), ("for ever", ["closing"])])
def test_a_model_that_never_closes_does_not_keep_the_process_from_ending(
    busy: str, said: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", ENDING, busy, str(tmp_path / "home")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.split()) == (0, said), ended.stderr


HANGING = """
import sys, threading
from dataclasses import replace
from builders import document
from xinstruct.__main__ import end
from xinstruct.settings import XinstructSettings
from xinstruct.spine.app import App
from xinstruct.spine.process import Process
from xinstruct.spine.stage import Stage
from xinstruct.spine.topics import DOCUMENT_ADMITTED
from xinstruct.targets import build

def decode(value):  # as a library does on a text that it is slow with
    print("hanging", file=sys.stderr, flush=True)
    threading.Event().wait(30)

settings = XinstructSettings.model_validate(
    {"home": sys.argv[1], "rpc": {"port": 0}, "process": {"drain_s": DRAIN_S}})
built = build(["all"], settings)
built.deps.log.append([document().record(DOCUMENT_ADMITTED.name)])
stage = Stage("backgen", "1", "1", DOCUMENT_ADMITTED, decode, lambda *_: [], lambda *_: [], None)
app = App(stages=lambda: [stage], close=lambda: threading.Event().wait(30))
built = replace(built, process=Process({"backgen": app}, built.deps, rpc=settings.rpc, runner=settings.runner,
                                       process=settings.process))
built.process.start()
sys.stdin.readline()
end(built)
"""


@pytest.mark.parametrize("drain_s", [1.0, 3.0])
def test_a_stage_and_a_service_that_do_not_end_are_left_a_second_after_the_drain(
    drain_s: float, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", HANGING.replace("DRAIN_S", str(drain_s)), str(tmp_path / "home")]
    pipes: dict[str, int] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        assert process.stdin is not None and process.stderr is not None
        assert process.stderr.readline() == "hanging\n"
        begin = time.monotonic()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0
        took_s = time.monotonic() - begin
    assert drain_s <= took_s < drain_s + 1 + 0.4


DYING = """
import sys, threading
from xinstruct.__main__ import serve
from xinstruct.settings import XinstructSettings

def die():
    raise ValueError("no library is without a bug")

settings = XinstructSettings.model_validate({"home": sys.argv[1], "rpc": {"port": 0}, "process": {"drain_s": 2}})
sys.exit(serve(["all"], settings, started=lambda _: threading.Thread(target=die, name="journal").start()))
"""


def test_a_thread_that_dies_of_a_bug_ends_the_process_instead_of_being_waited_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", DYING, str(tmp_path / "home")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (said,) = [line for line in ended.stderr.splitlines() if '"crashed"' in line]
    assert '"thread": "journal"' in said and "no library is without a bug" in said
