"""The main job in a cluster, and the same job in one process to compare with: one site, the same models by digest.

The site stands in a namespace of its own, so that every run, wherever it is, sees the same URLs. The models are those
of a demo's release (XINSTRUCT_TRAINED names its folder; without it one is made here). `transformers serve` gives no
log-probabilities, which the evaluator's calibration reads: it is left out, in both runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.house import (
    CLAIMS,
    CONFIG,
    CONTAINER,
    FULL_NAME,
    HOME,
    KSERVE,
    MODEL_POD,
    MODELS_CHART,
    RESTRICTED,
    Bed,
    claim,
    install,
    install_chart,
    merged,
    namespace,
    put,
    small,
    variable,
)
from cluster.kubectl import Cluster, Manifest, Refused, ready, until
from cluster.work import asked
from servers import free_port
from xinstruct.inference.model_folder import CALIBRATION, model_digest
from xinstruct.spine.topics import DEAD_LETTERS, DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED, RECORD_DROPPED

SITE_SEED, PAGES, PORT = 1121, 200, 8780
DEMO_S_MAX = 900
COLUMNS = ("id", "instruction", "response", "language", "url", "licence", "document_id", "generator", "evaluator")
"""Of a row, what has to be the same: all but the moment of the fetch, and what another engine's arithmetic changes."""
OTHER_SHARE_MAX = 0.005
"""Of rows whose greedy answer another engine's arithmetic may change."""
TINY: Mapping[str, Any] = {
    "backgen": {"prompt_family": "tiny", "instruction_tokens_max": 72},
    "scoring": {"prompt_family": "tiny"},
    "training": {role: {"prompt_family": "tiny"} for role in ("generator", "evaluator")},
    "crawler": {"fetch": {
        "contact_url": "https://example.org/bot", "host_delay_ms": 0, "host_requests_max": 16, "retry_delay_ms": 50,
    }},
}
"""Configuration of both runs, as the demo has it."""

READ_LOG = (Path(__file__).parent / "read_log.py").read_text("utf-8")

Rows = dict[str, str]
"""Id of a row → digest of its columns."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to: its newest release, what it counted, and what its log holds."""

    rows: Rows
    funnel: Mapping[str, Any]
    records: Mapping[str, list[str]]
    """Topic → ids of its records, each as often as the log has it."""


@dataclass(frozen=True)
class Site:
    """A running site, and the models of a demo on this machine."""

    bed: Bed
    inside: Cluster
    models: Path

    @property
    def address(self) -> str:
        """host:port, from every pod."""
        return f"site.{self.inside.namespace}.svc:{PORT}"


@contextmanager
def site(bed: Bed, folder: Path) -> Iterator[Site]:
    """The invented site in Swahili, served by a pod."""
    models = chosen_models(folder)
    with namespace(bed, claims=()) as inside:
        host = f"site.{inside.namespace}.svc"
        command = ["xinstruct", "microworld", "serve", "--listen=0.0.0.0", f"--host={host}",
                   f"--port={PORT}", "--languages=sw", f"--seed={SITE_SEED}", f"--pages={PAGES}"]
        inside.apply(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "site"},
             "spec": {"selector": {"app": "site"}, "clusterIP": "None", "ports": [{"port": PORT}]}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "site", "labels": {"app": "site"}},
             "spec": pod_spec(bed.image(), command, readiness={"tcpSocket": {"port": PORT}, "periodSeconds": 1})},
        )
        until(lambda: inside.pod_ready("site"), "the site is served", within_s=120)
        yield Site(bed, inside, models)


def pod_spec(image: str, command: list[str], *, readiness: Manifest | None = None) -> Manifest:
    """A pod of one container that passes the restricted standard, with /tmp to write to."""
    container: Manifest = {
        "name": "main", "image": image, "command": command, "securityContext": dict(CONTAINER),
        "env": [{"name": "HOME", "value": "/tmp"}], "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    if readiness:
        container["readinessProbe"] = readiness
    return {
        "restartPolicy": "Never", "automountServiceAccountToken": False, "securityContext": dict(RESTRICTED),
        "containers": [container], "volumes": [{"name": "scratch", "emptyDir": {}}],
    }


def chosen_models(folder: Path) -> Path:
    """A folder with `generator` and `evaluator`: those of a demo's release."""
    out = Path(variable("TRAINED", "")) if variable("TRAINED", "") else _demo(folder / "demo")
    config = str(out / "config" / "all.yaml")
    listed = _xinstruct("release", "list", "--json", "--config", config)
    release = json.loads(listed.splitlines()[0])
    by_digest = {
        model["model_digest"]: Path(model["location"])
        for model in map(json.loads, _xinstruct("models", "list", "--json", "--config", config).splitlines())
    }
    for role in ("generator", "evaluator"):
        place = folder / "models" / role
        shutil.copytree(by_digest[release[f"{role}_digest"]], place, copy_function=shutil.copyfile)
        (place / CALIBRATION).unlink(missing_ok=True)
    return folder / "models"


def _demo(out: Path) -> Path:
    port = str(free_port())
    _xinstruct("demo", "--languages=sw", "--seed=5", "--out", str(out), "--site-port", port, within_s=DEMO_S_MAX)
    return out


def _xinstruct(*arguments: str, within_s: float = 120) -> str:
    command = [str(Path(sys.executable).with_name("xinstruct")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# ── In one process ──────────────────────────────────────────────────────────────────────────────────────────────────


def embedded(found: Site, folder: Path) -> Outcome:
    """What one process comes to: SQLite, models in process."""
    config = merged(TINY, {
        "home": "/tmp/home", "rpc": {"port": 7700},
        "crawler": {"fetch": {"private_hosts_allowed": [found.address]}},
    })
    script = f"""
xinstruct up --json --config /run/xinstruct.yaml >/tmp/up.json 2>/tmp/up.log &
until [ -s /tmp/up.json ]; do kill -0 $!; sleep 0.5; done
for role in generator evaluator; do
    xinstruct models register $role /models/$role --json --config /run/xinstruct.yaml >/tmp/$role.json
    digest=$(python -c "import json,sys; print(json.load(open('/tmp/$role.json'))['model_digest'])")
    xinstruct models promote $role "$digest" --config /run/xinstruct.yaml >/dev/null
done
xinstruct crawl add http://{found.address}/sitemap.xml --pages-max 20000 --licence CC0-1.0 \\
    --config /run/xinstruct.yaml >/dev/null
xinstruct status --wait --within-s 1500 --json --config /run/xinstruct.yaml >/tmp/status.json
xinstruct release publish --name embedded --config /run/xinstruct.yaml >/dev/null
xinstruct release export embedded --config /run/xinstruct.yaml
echo; cat /tmp/status.json; echo
python /run/read_log.py /run/xinstruct.yaml
"""
    bed = found.bed
    whole = "sh -eu /run/job.sh || { tail -n 20 /tmp/up.log; exit 1; }"
    spec = pod_spec(bed.image("xinstruct-model"), ["sh", "-c", whole])
    spec["containers"][0]["volumeMounts"] += [
        {"name": "config", "mountPath": "/run/xinstruct.yaml", "subPath": "xinstruct.yaml"},
        *({"name": "config", "mountPath": f"/run/{name}", "subPath": name} for name in ("job.sh", "read_log.py")),
        {"name": "models", "mountPath": "/models", "subPath": "models", "readOnly": True},
    ]
    spec["volumes"] += [
        {"name": "config", "configMap": {"name": "embedded"}},
        {"name": "models", "persistentVolumeClaim": {"claimName": CLAIMS[0]}},
    ]
    with namespace(bed, claims=CLAIMS[:1]) as inside:
        inside.apply(claim(bed, CLAIMS[0]), {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "embedded"},
            "data": {"xinstruct.yaml": yaml.safe_dump(config), "job.sh": script, "read_log.py": READ_LOG},
        })
        put(bed, inside, found.models, below="models")
        good, said = inside.output_of(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "embedded"}, "spec": spec}, within_s=1800
        )
    (folder / "embedded.log").write_text(said, "utf-8")
    assert good, said[-3000:]
    *rows, status, records = [line for line in said.splitlines() if line.strip()]
    return Outcome(rows_of(rows), json.loads(status)["funnel"], json.loads(records))


def rows_of(lines: list[str]) -> Rows:
    """Rows of a release as `release export` writes them. An id that stands twice is an error."""
    made: Rows = {}
    for line in lines:
        row = json.loads(line)
        assert row["id"] not in made, f"the row {row['id']} stands twice"
        text = json.dumps([row[name] for name in COLUMNS], ensure_ascii=False)
        made[row["id"]] = hashlib.sha256(text.encode()).hexdigest()
    return made


# ── In the cluster ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Installed:
    """The small profile and its models, every pod ready, before anything was crawled."""

    site: Site
    inside: Cluster
    folder: Path
    values: Mapping[str, Any]

    def asked(self, *arguments: str, within_s: int = 120) -> str:
        """What the command line says in curation's pod."""
        return asked(self.inside, *arguments, within_s=within_s)

    def status(self) -> dict[str, Any]:
        """`xinstruct status --json`."""
        return dict(json.loads(self.asked("status", "--json")))

    def outcome(self) -> Outcome:
        """What the run has come to by now."""
        newest = json.loads(self.asked("release", "list", "--json").splitlines()[0])["name"]
        lines = self.asked("release", "export", newest).splitlines()
        pod, program = f"{FULL_NAME}-curation-0", ("python", "-", CONFIG)
        records = json.loads(self.inside.kubectl("exec", "-i", pod, "--", *program, stdin=READ_LOG, within_s=120))
        return Outcome(rows_of([line for line in lines if line.strip()]), self.status()["funnel"], records)

    def upgrade(self, *more: Mapping[str, Any], wait: bool = True, within_s: int = 240) -> str:
        """`helm upgrade` to the first values with `more` over them. Refused with what Helm said."""
        values = dict(self.values)
        for change in more:
            values = merged(values, change)
        options = ["--wait", "--timeout", f"{within_s}s"] if wait else []
        return install(self.inside, values, self.folder, *options, within_s=within_s + 60)


@contextmanager
def installed(found: Site, folder: Path, *more: Mapping[str, Any]) -> Iterator[Installed]:
    """Both charts in a namespace of their own, the demo's models registered and promoted, every pod ready."""
    bed = found.bed
    with namespace(bed) as inside:
        values = small(bed, {
            "config": merged(TINY, {"inference": {
                "generator": {"kind": "openai", "url": "http://xinstruct-generator/v1", "api": "completions",
                              "by_digest": True},
                "evaluator": {"kind": "kserve", "url": "http://xinstruct-evaluator"},
            }}),
            "tests": {"mainJob": {"enabled": True, "site": found.address, "withinS": 1500}},
            "networkPolicy": {"crawl": {"privateTo": [{"namespaceSelector": {}}]}},  # the site is in another one
        }, *more)
        run = Installed(found, inside, folder, values)
        run.upgrade(wait=False)
        put(bed, inside, found.models, below="models")
        _install_models(run)
        until(lambda: inside.pod_ready(f"{FULL_NAME}-curation-0"), "curation is ready", within_s=480)
        until(lambda: _registered(run), "training takes the models", within_s=480)
        until(lambda: _all_ready(run), "every pod is ready", within_s=480)
        yield run


def _install_models(run: Installed) -> None:
    bed = run.site.bed
    values = {
        "imageRegistry": bed.registry, "images": {"model": {"tag": bed.tag}},
        "kserve": {"enabled": "always" if bed.has(KSERVE) else "never"},
        "defaults": {"resources": MODEL_POD, "startupS": 300, "graceS": 10},
        "models": {
            "generator": {"storageUri": f"pvc://{CLAIMS[0]}/models/generator"},
            "evaluator": {"storageUri": f"pvc://{CLAIMS[0]}/models/evaluator",
                          "modelDigest": model_digest(run.site.models / "evaluator")},
        },
    }
    install_chart(run.inside, "models", MODELS_CHART, values, run.folder, profile="small")


def _registered(run: Installed) -> bool:
    """Whether both models are registered and promoted; asks for what is missing."""
    try:
        for role in ("generator", "evaluator"):
            model = json.loads(run.asked("models", "register", role, f"{HOME}/models/{role}", "--json"))
            run.asked("models", "promote", role, model["model_digest"])
    except Refused:
        return False
    return True


def _all_ready(run: Installed) -> bool:
    pods = run.inside.all("pod")
    served = run.inside.all("inferenceservice") if run.site.bed.has(KSERVE) else []
    return len(pods) >= 10 and all(ready(item) for item in (*served, *pods))


def compared(expected: Outcome, run: Installed) -> None:
    """Fail unless the run came to what was expected, but for rows that another engine's arithmetic may change.

    The log is asked too: the catalog knows each id once, however often its record was written.
    """
    got = run.outcome()
    other = {id_ for id_, digest in got.rows.items() if expected.rows.get(id_) != digest}
    missing = expected.rows.keys() - got.rows.keys()
    print(f"{len(got.rows)} rows, {len(other)} differ, {len(missing)} missing: {sorted(other | missing)}")
    print({name: len(ids) for name, ids in got.records.items() if ids})
    assert len(other | missing) <= OTHER_SHARE_MAX * len(expected.rows)
    counted = ("pages_fetched", "documents_admitted", "pairs_drafted", "pairs_scored")
    for ours, theirs in zip(got.funnel["languages"], expected.funnel["languages"], strict=True):
        assert {name: ours.get(name) for name in counted} == {name: theirs.get(name) for name in counted}
    for topic in (DOCUMENT_ADMITTED, PAIR_DRAFTED, PAIR_SCORED, RECORD_DROPPED):
        twice = [id_ for id_, times in Counter(got.records[topic.name]).items() if times > 1]
        assert not twice, f"{topic.name} holds {len(twice)} records more than once: {twice[:3]}"
        assert set(got.records[topic.name]) == set(expected.records[topic.name]), topic.name
    assert not [topic.name for topic in DEAD_LETTERS.values() if got.records[topic.name]]


@dataclass(frozen=True)
class Waiting:
    """Records on their way through one service, or all of them."""

    lag: int
    """Not read yet."""
    in_flight: int
    """Read, and not committed."""


def waiting(run: Installed, service: str = "") -> Waiting:
    """Records on their way through one service, else through all; none while nobody can be asked."""
    try:
        processes = run.status()["processes"]
    except Refused:
        return Waiting(0, 0)
    chosen = [said for name, said in processes.items() if not service or name == service]
    stages = [stage for said in chosen for stage in said.get("stages", ())]
    lag, in_flight = (sum(int(stage.get(key, 0)) for stage in stages) for key in ("lag_records", "in_flight_records"))
    return Waiting(lag, in_flight)


def at_work(run: Installed) -> bool:
    """Whether records wait and others are in flight."""
    found = waiting(run)
    return found.lag > 0 and found.in_flight > 0
