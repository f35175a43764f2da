"""services/Dockerfile and tools/cluster/images.py, which make the same images: what they share is the same in both."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from architecture.source import ROOT
from charts.rendering import CHARTS, read
from unit.tools.loading import loaded

store = loaded("image_store")
images = loaded("images")

UNUSED = ROOT / "tools" / "unused_files.txt"
RUNNING = ("light", "model")
"""Stages that are images."""


class Step(NamedTuple):
    """An instruction of a Dockerfile and the stage that it stands in; "" before the first."""

    stage: str
    name: str
    text: str


def read_steps(text: str) -> Iterator[Step]:
    """Every instruction, in one line each; comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    stage = ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        if name == "FROM":
            stage = rest.split()[-1]
        if name:
            yield Step(stage, name, rest.strip())


STEPS = list(read_steps((ROOT / "services" / "Dockerfile").read_text("utf-8")))


def said(stage: str, name: str) -> list[str]:
    """What a stage's instructions of that name say."""
    return [step.text for step in STEPS if (step.stage, step.name) == (stage, name)]


def cut(stage: str) -> Sequence[str]:
    """What a stage asks tools/cut_lock.py for."""
    (found,) = re.findall(r"tools/cut_lock\.py (.*?) ?>", " ".join(said(stage, "RUN")))
    return tuple(found.split())


def test_the_light_image_has_the_same_extras_whoever_makes_it() -> None:
    assert cut("packages") == images.LIGHT


def test_the_model_image_has_the_same_extras_beside_them_whoever_makes_it() -> None:
    assert cut("model-packages") == images.MODEL_EXTRAS


def test_both_leave_out_the_same_files_of_libraries_and_no_other(tmp_path: Path) -> None:
    (command,) = re.findall(r"&& (cd \S+/site-packages && xargs .*)$", " ".join(said("packages", "RUN")))
    left = []
    for name in ("dockerfile", "images"):
        place = tmp_path / name / "lib" / "python3.11" / "site-packages"
        for pattern in [*UNUSED.read_text("utf-8").split(), "kubernetes/client/models/[_]*", "pyarrow/lib*"]:
            file = place / re.sub(r"\[(!?).\]", lambda found: "v" if found[1] else "_", pattern).replace("*", "x.py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if name == "dockerfile":
            here = command.replace("/opt/xinstruct", str(tmp_path / name)).replace("/build", str(ROOT))
            subprocess.run(["sh", "-c", here], check=True)
        else:
            images._remove(place, images.NOT_ASKED)
        left.append(sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()))
    assert left[0] == left[1] == ["kubernetes/client/models/_x.py", "pyarrow/libx.py"]


def test_both_run_as_the_user_that_the_charts_name() -> None:
    users = [said(stage, "USER") for stage in RUNNING]
    assert users == [[images.OURS["User"]]] * 2 == [[f"{images.USER}:{images.USER}"]] * 2
    for chart in CHARTS:
        security = read(chart.folder / "values.yaml")["podSecurity"]
        assert security == {"runAsUser": images.USER, "fsGroup": images.USER}, chart.name


def test_both_start_the_same_program_in_the_same_folder_with_the_same_variables() -> None:
    words = [word for text in said("plain", "ENV") for word in shlex.split(text)]
    assert sorted(words) == sorted(images.OURS["Env"])
    assert said("plain", "WORKDIR") == [images.OURS["WorkingDir"]]
    (command,) = said("plain", "CMD")
    assert command == str(images.OURS["Cmd"]).replace("'", '"')
    assert "Entrypoint" not in images.OURS
    assert not [step for step in STEPS if step.name == "ENTRYPOINT"]
    assert not [step for step in STEPS if step.stage in RUNNING and step.name in ("ENV", "WORKDIR", "CMD")]


def test_both_put_the_small_base_model_where_it_is_looked_for(tmp_path: Path) -> None:
    (ours,) = [text.split()[1] for text in said("model", "COPY") if text.startswith("models ")]
    layer = images.base_model(store.Store(tmp_path))
    with tarfile.open(store.Store(tmp_path).path(layer.blob.digest)) as tar:
        assert f"{ours.removeprefix('/')}/tiny-base/config.json" in tar.getnames()
    # Beside the folder of libraries, where the demo looks (cli/demo/plan.py), and where a cluster's values say.
    assert Path(f"/{images.PACKAGES}").parent / "models" == Path(ours)
    assert read(ROOT / "k8s/local/tiny.yaml")["config"]["training"]["base_model"] == f"{ours}/tiny-base"


def test_both_have_their_packages_in_the_same_place_and_our_code_over_them() -> None:
    assert said("plain", "COPY") == [f"--from=packages /{images.PLACE} /{images.PLACE}"]
    for stage in RUNNING:
        assert said(stage, "COPY")[-1] == f"--from=code /code /{images.PLACE}"


def test_what_the_dockerfile_copies_is_there_and_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {
        source for step in STEPS if step.name == "COPY" and not step.text.startswith("--from")
        for source in step.text.split()[:-1]
    }
    assert copied == sent
    assert not [source for source in copied if not (ROOT / source).exists()]


# ── Another Python ────────────────────────────────────────────────────────────────────────────────────────────────────


def asked_first(tmp_path: Path, version: tuple[int, int] | None) -> subprocess.CompletedProcess[str]:
    """The first command of a build, over a base with that Python, or with none."""
    commands = tmp_path / "bin"
    commands.mkdir()
    if version is not None:
        code = f"import sys; sys.version_info = (*{version}, 0, 'final', 0); exec(sys.argv[2])"
        python3 = commands / "python3"
        python3.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && echo "Python {version[0]}.{version[1]}.0" && exit\n'
            f'exec {sys.executable} -c "{code}" "$@"\n', "utf-8")
        python3.chmod(0o755)
    first = next(step for step in STEPS if step.stage == "packages" and step.name != "FROM")
    assert first.name == "RUN"
    environment = os.environ | {"PATH": str(commands)}
    return subprocess.run(
        ["/bin/sh", "-c", first.text], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("version", "has"), [((3, 12), "Python 3.12.0"), ((3, 10), "Python 3.10.0"), ((4, 11), "Python 4.11.0"), (None, "")]
)
def test_a_base_of_another_python_is_refused_before_anything_is_made_of_it(
    version: tuple[int, int] | None, has: str, tmp_path: Path
) -> None:
    done = asked_first(tmp_path, version)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"BASE has {has}") and "name an image with 3.11" in done.stderr


def test_a_base_of_the_python_that_images_py_installs_is_taken(tmp_path: Path) -> None:
    (found,) = re.findall(r"/python3\.(\d+)/", images.PACKAGES)
    done = asked_first(tmp_path, (3, int(found)))
    assert (done.returncode, done.stderr) == (0, "")
    assert said("", "ARG") == [f"BASE=python:3.{found}-slim-{images.SUITE}"]
