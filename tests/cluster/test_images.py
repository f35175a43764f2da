"""The two images of our code as pods have them: any user's, a root file system that nobody writes to, no compiler."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.conftest import House
from cluster.house import FULL_NAME, probe
from xinstruct.targets import TARGETS, TASKS

ANYBODY = 54321
"""A user that no image knows."""
COMPILERS = ("gcc", "g++", "cc", "c++", "clang", "tcc", "rustc", "go", "as", "ld", "make", "cmake")
START_S_MAX = 60
SEARCH = """
import importlib.util, json, os, shutil, stat, subprocess
from pathlib import Path

def lends(path):
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & (stat.S_ISUID | stat.S_ISGID))

places = [str(place) for place in Path("/").iterdir() if place.name not in ("proc", "sys", "dev")]
files = (f"{folder}/{name}" for place in places for folder, _, names in os.walk(place) for name in names)
try:
    Path("/opt/xinstruct/written").touch()
    written = "a file"
except OSError as error:
    written = error.strerror
print(json.dumps({
    "ids": [os.getuid(), os.getgid()],
    "written": written,
    "compilers": [name for name in COMPILERS if shutil.which(name)],
    "lending": [path for path in files if lends(path)],
    "torch": importlib.util.find_spec("torch") is not None,
    "version": subprocess.run(["xinstruct", "--version"], capture_output=True, text=True).stdout.split()[:1],
}))
"""
IMPORT = """
import json
import torch, transformers, trl
import xinstruct.predictor.model, xinstruct.predictor.server, xinstruct.training.job
print(json.dumps(torch.__name__))
"""
START = """
import json, subprocess, sys, threading
from pathlib import Path

def ended(name):
    Path("/tmp/config.yaml").write_text(json.dumps(SETTINGS | {"home": f"/tmp/{name}"}))
    command = [sys.executable, "-m", "xinstruct", name, "--config", "/tmp/config.yaml"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    timer = threading.Timer(START_S_MAX, process.kill)
    timer.start()
    said = []
    for line in process.stdout:
        said.append(line)
        event = json.loads(line).get("event") if line.startswith("{") else ""
        if event == "serving":
            process.terminate()
    timer.cancel()
    events = [event for event in ("serving", "done") if any(f'"event": "{event}"' in line for line in said)]
    return [events, process.wait()] if events else ["".join(said[-5:])]

print(json.dumps({name: ended(name) for name in NAMES}))
"""

pytestmark = pytest.mark.timeout(900)
IMAGES = ("xinstruct", "xinstruct-model")
Found = dict[str, dict[str, Any]]
images = pytest.mark.parametrize("image", IMAGES)


@pytest.fixture(scope="module")
def found(house: House) -> Found:
    """What a search of each image finds."""
    return {image: run(house, image, SEARCH, COMPILERS=COMPILERS) for image in IMAGES}


@images
def test_an_image_works_for_any_user_on_a_root_that_cannot_be_written_to(found: Found, image: str) -> None:
    assert found[image]["ids"] == [ANYBODY, ANYBODY]
    assert (found[image]["version"], found[image]["written"]) == (["xinstruct"], "Read-only file system")


@images
def test_an_image_has_no_compiler_and_no_program_that_lends_rights(found: Found, image: str) -> None:
    assert (found[image]["compilers"], found[image]["lending"]) == ([], [])


def test_torch_is_in_the_model_image_alone(house: House, found: Found) -> None:
    assert not found["xinstruct"]["torch"]
    assert run(house, "xinstruct-model", IMPORT) == "torch"


@images
def test_every_target_serves_in_it_and_every_task_is_done(house: House, image: str) -> None:
    wanted = {name: [["done"], 0] for name in TASKS} | {name: [["serving"], 0] for name in TARGETS}
    servers = {role: {"kind": "openai", "url": "http://127.0.0.1:9/v1"} for role in ("generator", "evaluator")}
    settings = {
        "rpc": {"port": 0}, "inference": servers, "database_url": "sqlite:////tmp/database.sqlite",
        # Topics of its own on the release's broker.
        "log": {"kind": "kafka", "bootstrap_servers": f"{FULL_NAME}-kafka:9092", "prefix": f"{image}-"},
        "crawler": {"fetch": {"contact_url": "https://example.org/bot"}},
    }
    assert run(house, image, START, SETTINGS=settings, NAMES=list(wanted), START_S_MAX=START_S_MAX) == wanted


def run(house: House, image: str, program: str, **values: object) -> Any:
    """What a program prints as JSON in a pod of an image, with `values` as its variables."""
    variables = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    pod = probe("image", house.bed, variables + program)
    # What makes topics may reach the broker where network policies are enforced.
    pod["metadata"]["labels"]["app.kubernetes.io/component"] = "topics"
    pod["spec"]["securityContext"] |= {"runAsUser": ANYBODY, "runAsGroup": ANYBODY}
    pod["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    (container,) = pod["spec"]["containers"]
    container |= {"image": house.bed.image(image), "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}]}
    succeeded, said = house.inside.output_of(pod, within_s=600)
    assert succeeded, said
    return json.loads(said.splitlines()[-1])
