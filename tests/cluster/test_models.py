"""charts/inference on real pods: our predictor and Text Generation Inference's routes behind KServe, and without it.

The server of those routes is tests/contract/inference/tgi_server.py in the place of the archived launcher: from
a ConfigMap, by the model image, on our runtime `tgi`. The generator is one that a demo trained, so that what it drafts
passes backgen's guard; evaluator and encoder are models/tiny-base.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
    Bed,
    claim,
    install,
    install_chart,
    merged,
    namespace,
    probe,
    put,
    small,
)
from cluster.kubectl import Cluster, ready, until
from cluster.main_job import TINY, chosen_models
from cluster.test_uninstall import MADE_BEFORE, MADE_BY_KUBERNETES, objects
from cluster.work import asked, feed, rows
from xinstruct.inference.local import LocalInference
from xinstruct.inference.model_folder import model_digest
from xinstruct.spine.inference import Classify, Decoding, Embed, Generate

BASE = ROOT / "models" / "tiny-base"
SERVER = ROOT / "tests" / "contract" / "inference" / "tgi_server.py"
CLAIM, RELEASE = "models", "models"
LABELS = (" best", " reasonable", " worst")
PROMPT = "Ziwa la Mara liko milimani."
INSTRUCTION_CHARS_MIN = 10
"""A shorter one is no instruction: backgen drops it."""
ENDPOINT = "endpoint:/mnt/models"
"""What pairs name as their generator: the model as TGI's server calls it."""
READY_S_MAX = 240
WAIT_S = 60

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Served:
    """A model of each role at work in one namespace."""

    bed: Bed
    inside: Cluster
    by_kserve: bool
    folders: Mapping[str, Path]
    """Role → the model on this machine."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Role → folder of its model."""
    return {"generator": chosen_models(tmp_path_factory.mktemp("trained")) / "generator", "evaluator": BASE,
            "encoder": BASE}


@pytest.fixture(scope="module", params=["KServe", "Deployments"])
def served(
    request: pytest.FixtureRequest, bed: Bed, folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The release: a generator on the runtime tgi, evaluator and encoder on the predictor, every pod ready."""
    by_kserve = request.param == "KServe"
    if by_kserve and not bed.has(KSERVE):
        pytest.skip("KServe is not installed: ADDONS=kserve")
    with namespace(bed, claims=(CLAIM,)) as inside:
        inside.apply(claim(bed, CLAIM), {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tgi-server"},
            "data": {SERVER.name: SERVER.read_text("utf-8")},
        })
        for role, folder in folders.items():
            put(bed, inside, folder, below=role, claim=CLAIM)
        install_chart(inside, RELEASE, MODELS_CHART, values(bed, by_kserve), tmp_path_factory.mktemp("values"))
        found = Served(bed, inside, by_kserve, folders)
        seconds = until(lambda: all_ready(found), "every model is ready", within_s=READY_S_MAX)
        print(f"{request.param}: ready after {seconds:.1f} s")
        yield found


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
            **{role: {"enabled": True, "storageUri": f"pvc://{CLAIM}/{role}", "modelDigest": model_digest(BASE)}
               for role in ("evaluator", "encoder")},
        },
    }


def all_ready(served: Served) -> bool:
    if served.by_kserve:
        items = served.inside.all("inferenceservice")
        if len(items) != len(served.folders) or not all(ready(item) for item in items):
            return False
    pods = served.inside.all("pod")
    return len(pods) == len(served.folders) and all(ready(pod) for pod in pods)


def test_a_pod_of_xinstruct_gets_the_answers_of_the_models_in_process(served: Served) -> None:
    local = LocalInference(lambda role, _digest: served.folders[role], batch_rows=16)
    written = local.submit(Generate("generator", "m", PROMPT, Decoding(8))).result(WAIT_S)
    labelled = local.submit(Classify("evaluator", "m", PROMPT, LABELS)).result(WAIT_S)
    embedded = local.submit(Embed("encoder", "m", PROMPT)).result(WAIT_S)
    local.close()
    code = f"""
import json
from xinstruct.inference.kserve_v2 import KServeInference
from xinstruct.inference.tgi import TgiInference
from xinstruct.spine.inference import Classify, Decoding, Embed, Generate
writer = TgiInference("http://xinstruct-generator")
judge, encoder = (KServeInference(f"http://xinstruct-{{role}}") for role in ("evaluator", "encoder"))
digests = [opened.probe().model for opened in (judge, encoder)]
labels = Classify("evaluator", digests[0], {PROMPT!r}, {LABELS!r})
vector = Embed("encoder", digests[1], {PROMPT!r})
print(json.dumps({{
    "model": writer.probe().model, "digests": digests,
    "text": writer.submit(Generate("generator", "m", {PROMPT!r}, Decoding(8))).result({WAIT_S}).text,
    "shares": judge.submit(labels).result({WAIT_S}).probabilities,
    "vector": encoder.submit(vector).result({WAIT_S}).vector,
}}))
writer.close(); judge.close(); encoder.close()
"""
    pod = probe("asks", served.bed, code)
    pod["metadata"]["labels"]["app.kubernetes.io/part-of"] = "xinstruct"
    good, said = served.inside.output_of(pod, within_s=120)
    assert good, said
    answers = json.loads(said.splitlines()[-1])
    assert answers["model"] == "/mnt/models" and answers["digests"] == [model_digest(BASE)] * 2
    assert answers["text"] == written.text
    assert answers["shares"] == pytest.approx(labelled.probabilities, abs=1e-6)
    assert len(answers["vector"]) > 1 and answers["vector"] == pytest.approx(embedded.vector, abs=1e-6)
    far = max(abs(there - here) for there, here in zip(answers["vector"], embedded.vector, strict=True))
    print(f"vectors of {len(answers['vector'])} numbers, at most {far:.1e} apart")


def test_backgen_drafts_through_text_generation_inference(served: Served, tmp_path: Path) -> None:
    # Another namespace: what Services are for.
    address = f"http://xinstruct-generator.{served.inside.namespace}.svc"
    with namespace(served.bed) as inside:
        config = merged(TINY, {"inference": {"generator": {"kind": "tgi", "url": address}}})
        install(inside, small(served.bed, {"config": config}), tmp_path)
        names = [f"{FULL_NAME}-{name}-0" for name in ("crawler", "backgen", "curation")]
        until(lambda: all(inside.pod_ready(name) for name in names), "backgen has a generator", within_s=READY_S_MAX)
        drafted = json.loads(asked(inside, "draft", PROMPT, "--language", "sw", "--json", within_s=110))
        assert len(drafted["instruction"]) >= INSTRUCTION_CHARS_MIN, drafted
        assert drafted["generator_digest"] == ENDPOINT
        feed(inside, "Mbasi", 1, within_s=120)
        seconds = until(lambda: rows(inside, "pairs") == 1, "the text that was fed is drafted", within_s=60)
        assert rows(inside, "pairs", f"generator_digest = '{ENDPOINT}'") == 1
        print(f"asked for: {drafted['instruction']!r}; in the stream: a pair {seconds:.1f} s after its text")


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
    kept = {f"PersistentVolumeClaim/{CLAIM}", "ConfigMap/tgi-server"}
    until(lambda: found_in(served.inside) <= kept, "nothing else is there", within_s=60)
    assert found_in(served.inside) == kept


def found_in(inside: Cluster) -> set[str]:
    """Everything in the namespace that was not there before the release."""
    return {f"{kind}/{name}" for kind, name in objects(inside)} - MADE_BY_KUBERNETES - MADE_BEFORE
