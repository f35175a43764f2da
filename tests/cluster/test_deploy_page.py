"""docs/deploy.md, its way for this machine: the commands of its steps, of backup and restore and of the uninstallation,
literally and in one bash each time, until the release comes back out of the backup.

They name the namespace `xinstruct` and /var/lib/xinstruct-volumes: where somebody has these already, nothing is run.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.house import ROOT, Bed
from cluster.kubectl import Cluster

PAGE = ROOT / "docs" / "deploy.md"
NAMESPACE = "xinstruct"
VOLUMES = Path("/var/lib/xinstruct-volumes")
OURS = VOLUMES / ".made-by-a-test"
"""Says that the folder is left over from a test that was killed, and nobody's."""
TOP = "Deploying on Kubernetes"
CLUSTER, PLACE = "1. The cluster and the images", "2. Namespace, volumes, secrets"
STEPS = (PLACE, "3. The services", "4. Models", "5. The main job")
BACKUP, UNINSTALL = "Backup and restore", "Uninstall"
FOR_GOOD = "`kubectl delete -k k8s/local`, then `rm -rf /var/lib/xinstruct-volumes`"
KEPT = {"xinstruct-data", "data-xinstruct-kafka-0", "data-xinstruct-postgres-0"}
STEPS_S_MAX, RESTORE_S_MAX = 3000, 900
SITE_ROWS_MIN, TEXT_ROWS_MIN = 150, 60
"""Far below what the page says was seen: models of another machine judge a little otherwise."""

pytestmark = pytest.mark.timeout(STEPS_S_MAX + RESTORE_S_MAX + 300)


@pytest.fixture
def folder(bed: Bed, tmp_path: Path) -> Iterator[Path]:
    """Where the page's reader stands: a folder with what its commands read of a clone, and nothing of them in it."""
    if bed.volumes is None:
        pytest.skip("the way for this machine needs the cluster of make cluster-up")
    free(bed.cluster)
    for name in ("charts", "k8s"):
        (tmp_path / name).symlink_to(ROOT / name)
    VOLUMES.mkdir(parents=True)
    OURS.touch()
    try:
        yield tmp_path
    finally:
        removed(bed.cluster)


def free(cluster: Cluster) -> None:
    """Fail when somebody uses what the page names; remove what an earlier test has left of it."""
    there = VOLUMES.exists() or cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found")
    assert not there or OURS.exists(), f"{VOLUMES} or the namespace {NAMESPACE} is there, and no test made it"
    removed(cluster)


def removed(cluster: Cluster) -> None:
    """Everything that the page's commands make."""
    cluster.kubectl("delete", "-k", str(ROOT / "k8s/local"), "--ignore-not-found", within_s=300)
    shutil.rmtree(VOLUMES, ignore_errors=True)


def test_the_page_leads_from_nothing_to_a_published_dataset_and_back_to_it_from_its_backup(
    bed: Bed, folder: Path
) -> None:
    page = blocks()
    # As step 1: in a clone, with the cluster there already.
    run("\n".join(page[CLUSTER]), folder / "cluster.log", at=ROOT, within_s=STEPS_S_MAX)
    backup, restore = page[BACKUP]
    steps = [block for step in STEPS for block in page[step]]
    said = run("\n".join([*page[TOP], *steps, backup]), folder / "steps.log", at=folder, within_s=STEPS_S_MAX)
    assert "no generator is promoted yet" in said and "no slot has an evaluator yet" in said
    assert not [line for line in said.splitlines() if "does not answer" in line]
    published = rows(folder)
    of_the_site = [row for row in published if str(row["url"]).startswith("http")]
    print(f"{len(published)} rows published, {len(of_the_site)} of them of the invented site")
    assert len(of_the_site) >= SITE_ROWS_MIN and len(published) - len(of_the_site) >= TEXT_ROWS_MIN
    models = {str(row[role]) for row in published for role in ("generator", "evaluator")}
    assert len(models) == 2 and all(name.startswith("sha256:") for name in models), models

    said = run(page[UNINSTALL][0], folder / "uninstall.log", at=folder, within_s=180)
    claims = {word.partition("/")[2] for word in said.split() if word.startswith("persistentvolumeclaim/")}
    assert claims == KEPT, said

    assert FOR_GOOD in " ".join(PAGE.read_text("utf-8").split())
    run("\n".join(re.findall("`(.*?)`", FOR_GOOD)), folder / "for-good.log", at=folder, within_s=300)
    assert not VOLUMES.exists()
    VOLUMES.mkdir()
    OURS.touch()
    again = ["kubectl -n xinstruct rollout status statefulset/xinstruct-curation --timeout=5m",
             "rm -r first", "xinstruct release verify first", "xinstruct status",
             "kubectl -n xinstruct cp xinstruct-curation-0:/var/lib/xinstruct/releases/first ./first"]
    script = "\n".join([*page[TOP], *page[PLACE], restore, *again])
    run(script, folder / "restore.log", at=folder, within_s=RESTORE_S_MAX)
    assert rows(folder) == published


def blocks() -> dict[str, list[str]]:
    """Heading → its blocks of commands, as they stand."""
    made: dict[str, list[str]] = {}
    heading = ""
    for found in re.finditer(r"^#+ ([^\n]+)$|^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if found[1]:
            heading = found[1]
        else:
            made.setdefault(heading, []).append(found[2])
    return made


def run(script: str, log: Path, *, at: Path, within_s: float) -> str:
    """What one bash writes that does these commands in the folder `at`, and stops at the first that fails."""
    program = log.with_suffix(".sh")
    program.write_text(script, "utf-8")
    with log.open("w") as out:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", str(program)], cwd=at, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, timeout=within_s, check=False,
        )
    said = log.read_text("utf-8", errors="replace")
    assert done.returncode == 0, said[-6000:]
    return said


def rows(folder: Path) -> list[dict[str, object]]:
    """Rows of the release that the page copies out of the cluster, in the order of their ids."""
    files = sorted((folder / "first").rglob("*.parquet"))
    return sorted((row for file in files for row in pq.read_table(file).to_pylist()), key=lambda row: str(row["id"]))
