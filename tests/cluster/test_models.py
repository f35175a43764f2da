"""charts/inference on real pods: our predictor and Text Generation Inference's routes behind KServe, and without it.

The server of those routes is tests/contract/inference/tgi_server.py in the place of the archived launcher: from
a ConfigMap, by the model image, on our runtime `tgi`. The model is models/tiny-base, in both roles.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.house import (
    FULL_NAME,
    KSERVE,
    MODEL_POD,
    MODELS_CHART,
    ROOT,
    RUNS_AS,
    Bed,
    install,
    install_chart,
    namespace,
    probe,
    small,
)
from cluster.kubectl import Cluster, ready, until
from cluster.work import asked
from xinstruct.inference.local import LocalInference
from xinstruct.inference.model_folder import model_digest
from xinstruct.spine.inference import Classify, Decoding, Generate

BASE = ROOT / "models" / "tiny-base"
SERVER = ROOT / "tests" / "contract" / "inference" / "tgi_server.py"
CLAIM, RELEASE = "models", "models"
LABELS = (" best", " reasonable", " worst")
PROMPT = "Ziwa la Mara liko milimani."
READY_S_MAX = 240
WAIT_S = 60

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Served:
    """Both models at work in one namespace."""

    bed: Bed
    inside: Cluster
    by_kserve: bool


@pytest.fixture(scope="module", params=["KServe", "Deployments"])
def served(request: pytest.FixtureRequest, bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The release, with a generator on the runtime tgi and an evaluator on the predictor, every pod ready."""
    by_kserve = request.param == "KServe"
    if bed.volumes is None:
        pytest.skip("the models are put into a folder of this machine: the machine-local cluster only")
    if by_kserve and not bed.has(KSERVE):
        pytest.skip("KServe is not installed: ADDONS=kserve")
    with namespace(bed, claims=(CLAIM,)) as inside:
        put_models(bed.volumes / inside.namespace / CLAIM)
        inside.apply(claim(), {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tgi-server"},
            "data": {SERVER.name: SERVER.read_text("utf-8")},
        })
        install_chart(inside, RELEASE, MODELS_CHART, values(bed, by_kserve), tmp_path_factory.mktemp("values"))
        found = Served(bed, inside, by_kserve)
        seconds = until(lambda: all_ready(found), "both models are ready", within_s=READY_S_MAX)
        print(f"{request.param}: ready after {seconds:.1f} s")
        yield found


def put_models(folder: Path) -> None:
    for name in ("generator", "evaluator"):
        shutil.copytree(BASE, folder / name, copy_function=shutil.copyfile)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, RUNS_AS, RUNS_AS)


def claim() -> dict[str, Any]:
    asked = {"accessModes": ["ReadWriteMany"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": asked}


def values(bed: Bed, by_kserve: bool) -> dict[str, Any]:
    return {
        "imageRegistry": bed.registry, "kserve": {"enabled": "always" if by_kserve else "never"},
        "images": {"model": {"tag": bed.tag}, "tgi": {"repository": "xinstruct-model", "tag": bed.tag}},
        "networkPolicy": {"clients": {"from": [{"namespaceSelector": {}}]}},  # backgen asks from another one
        "defaults": {"resources": MODEL_POD, "startupS": READY_S_MAX, "graceS": 10},
        "models": {
            "generator": {
                "runtime": "tgi", "storageUri": f"pvc://{CLAIM}/generator", "filesConfigMap": "tgi-server",
                "command": ["python", f"/etc/inference/{SERVER.name}"],
            },
            "evaluator": {"storageUri": f"pvc://{CLAIM}/evaluator", "modelDigest": model_digest(BASE)},
        },
    }


def all_ready(served: Served) -> bool:
    if served.by_kserve:
        items = served.inside.all("inferenceservice")
        if len(items) != 2 or not all(ready(item) for item in items):
            return False
    pods = served.inside.all("pod")
    return len(pods) == 2 and all(ready(pod) for pod in pods)


def test_a_pod_of_xinstruct_gets_the_answers_of_the_models_in_process(served: Served) -> None:
    local = LocalInference(lambda _role, _digest: BASE, batch_rows=16)
    written = local.submit(Generate("generator", "m", PROMPT, Decoding(8))).result(WAIT_S)
    labelled = local.submit(Classify("evaluator", "m", PROMPT, LABELS)).result(WAIT_S)
    local.close()
    code = f"""
import json
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.inference import Classify, Decoding, Generate
writer, judge = TgiInference("http://xinstruct-generator"), KServeInference("http://xinstruct-evaluator")
digest = judge.probe().model
asked = Classify("evaluator", digest, {PROMPT!r}, {LABELS!r})
print(json.dumps({{
    "model": writer.probe().model, "digest": digest,
    "text": writer.submit(Generate("generator", "m", {PROMPT!r}, Decoding(8))).result({WAIT_S}).text,
    "shares": judge.submit(asked).result({WAIT_S}).probabilities,
}}))
writer.close(); judge.close()
"""
    pod = probe("asks", served.bed, code)
    pod["metadata"]["labels"]["app.kubernetes.io/part-of"] = "xinstruct"
    good, said = served.inside.output_of(pod, within_s=120)
    assert good, said
    answers = json.loads(said.splitlines()[-1])
    assert answers["model"] == "/mnt/models" and answers["digest"] == model_digest(BASE)
    assert answers["text"] == written.text
    assert answers["shares"] == pytest.approx(labelled.probabilities, abs=1e-6)


def test_backgen_drafts_through_text_generation_inference(served: Served, tmp_path: Path) -> None:
    # Another namespace: what Services are for.
    address = f"http://xinstruct-generator.{served.inside.namespace}.svc"
    with namespace(served.bed) as inside:
        roles = {"config": {"inference": {"generator": {"kind": "tgi", "url": address}}}}
        install(inside, small(served.bed, roles), tmp_path)
        until(lambda: inside.pod_ready(f"{FULL_NAME}-backgen-0"), "backgen has a generator", within_s=READY_S_MAX)
        assert json.loads(asked(inside, "draft", PROMPT, "--language", "sw", "--json", within_s=110))


def test_an_upgrade_that_changes_nothing_replaces_no_pod(served: Served, tmp_path: Path) -> None:
    before = {pod["metadata"]["uid"] for pod in served.inside.all("pod")}
    install_chart(served.inside, RELEASE, MODELS_CHART, values(served.bed, served.by_kserve), tmp_path)
    assert {pod["metadata"]["uid"] for pod in served.inside.all("pod")} == before
    assert all_ready(served)


def test_a_wrong_digest_is_refused_at_the_start(served: Served, tmp_path: Path) -> None:
    wrong = values(served.bed, served.by_kserve)
    wrong["models"]["evaluator"]["modelDigest"] = f"sha256:{'0' * 64}"
    install_chart(served.inside, RELEASE, MODELS_CHART, wrong, tmp_path)

    def refused() -> bool:
        logs = [served.inside.kubectl("logs", pod["metadata"]["name"], "--all-containers", "--ignore-errors")
                for pod in served.inside.all("pod", labels="app.kubernetes.io/component=evaluator")]
        return any("--model-digest asks for" in log for log in logs)

    until(refused, "the new pod says which digest it found", within_s=120)
    old = [pod for pod in served.inside.all("pod", labels="app.kubernetes.io/component=evaluator") if ready(pod)]
    assert len(old) == 1  # the model that was served is served on
    served.inside.helm("rollback", RELEASE)


def test_an_uninstalled_release_leaves_the_claim_and_nothing_of_its_own(served: Served) -> None:
    served.inside.helm("uninstall", RELEASE, "--wait")
    until(lambda: not served.inside.all("pod"), "every pod is gone", within_s=120)
    for kind in ("deployment", "service", "serviceaccount", "poddisruptionbudget", "networkpolicy"):
        names = {item["metadata"]["name"] for item in served.inside.all(kind)}
        assert not {name for name in names if name.startswith("xinstruct-")}, kind
    assert [item["metadata"]["name"] for item in served.inside.all("persistentvolumeclaim")] == [CLAIM]
