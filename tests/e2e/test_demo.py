"""The main job end to end, as `make demo LANGUAGES=sw` runs it, with a seed that no other test uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from servers import free_port

SEED = 90_210
RECOMPUTE = Path(__file__).with_name("recompute.py")
KEYS = ["seed", "languages", "funnel", "truth", "rounds", "seconds", "wall_s", "peak_memory_mb", "release", "drafts"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished demo in Swahili."""
    out = tmp_path_factory.mktemp("demo") / "out"
    choices = ("--languages", "sw", "--seed", str(SEED), "--site-port", str(free_port()))
    done = xinstruct("demo", "--out", str(out), *choices)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


def xinstruct(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "xinstruct.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def figures(run: Path) -> dict[str, dict[str, object]]:
    """Every figure by its name, recomputed from truth, Parquet, catalog and access log."""
    command = [sys.executable, str(RECOMPUTE), str(run), "--seed", str(SEED), "--languages", "sw"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr
    return {line["figure"]: line for line in lines}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [
    "extraction_f1", "admitted_recall", "language_accuracy", "policy_violations", "pii_leaked", "draft_right_before",
    "duplicate_several", "duplicate_none", "published_least",
])
def test_what_needs_no_trained_model_holds_when_recomputed(figures: dict[str, dict[str, object]], name: str) -> None:
    assert figures[name]["holds"], figures[name]


@pytest.mark.slow
def test_every_figure_holds_when_it_is_recomputed(figures: dict[str, dict[str, object]]) -> None:
    assert [figure for figure in figures.values() if not figure["holds"]] == []


@pytest.mark.slow
def test_the_report_says_what_was_recomputed(run: Path) -> None:
    report = json.loads((run / "report.json").read_text("utf-8"))
    assert list(report) == KEYS
    assert report["truth"]["policy_violations"] == report["truth"]["pii_leaked"] == 0
    assert report["peak_memory_mb"] < 4096
    html = (run / "report.html").read_text("utf-8")
    assert len(html) < 3_000_000
    assert "<script" not in html


@pytest.mark.slow
def test_the_dataset_loads_with_the_datasets_library(run: Path) -> None:
    import datasets

    release = json.loads((run / "report.json").read_text("utf-8"))["release"]
    loaded = datasets.load_dataset(str(run / "home" / "releases" / release), "sw", split="train")
    assert len(loaded) > 0
    assert set(loaded["language"]) == {"sw"}


@pytest.mark.slow
def test_the_release_verifies_rebuilds_and_tells_every_story(run: Path, tmp_path: Path) -> None:
    config = ["--config", str(run / "config" / "all.yaml")]
    release = json.loads((run / "report.json").read_text("utf-8"))["release"]
    assert xinstruct("release", "verify", release, *config).returncode == 0
    rebuilt = tmp_path / "rebuilt"
    assert xinstruct("release", "rebuild", release, "--out", str(rebuilt), *config).returncode == 0
    original = run / "home" / "releases" / release
    for file in sorted(path for path in original.rglob("*") if path.is_file()):
        assert (rebuilt / file.relative_to(original)).read_bytes() == file.read_bytes(), file
    truth = [json.loads(line) for line in (run / "truth.jsonl").read_text("utf-8").splitlines()]
    short = next(page["url"] for page in truth if page["reason"] == "too_short")
    story = xinstruct("why", short, *config)
    assert story.returncode == 0
    assert "too_short" in story.stdout
