"""Scenario 3: a new configuration and a new image in the middle of a run, and back; upgrades that cannot work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.conftest import Reference
from cluster.house import FULL_NAME, RELEASE, SERVICES, probe, variable
from cluster.kubectl import Refused, until
from cluster.main_job import Installed, at_work, compared, installed

CALL_S_MAX = 10
"""Of one call with its attempts, of which there are three at most (spine/rpc.py): what clients are told to use."""
CALLS_OF_A_ROUND = len(SERVICES) + 6
SLOW_CRAWL = {"config": {"crawler": {"fetch": {"host_requests_max": 1, "host_delay_ms": 1_000}}}}
"""So that pages come in while pods are replaced twice."""
TWO_OF_EACH = {"defaults": {"replicas": 2}}
CRASHES = "xinstruct-kafka"
"""An image in which every program of ours ends at once: it has none."""
NO_HOOKS = {"migrate": {"enabled": False}, "topics": {"enabled": False}}
WAIT_S_MAX = 1500

pytestmark = pytest.mark.timeout(3600)


def test_an_upgrade_and_its_rollback_in_the_middle_of_a_run_lose_nothing_and_fail_no_call(
    reference: Reference, tmp_path: Path
) -> None:
    following = variable("IMAGE_TAG_NEXT", "")
    if not following:
        pytest.skip("no second image: XINSTRUCT_IMAGE_TAG_NEXT names it (make test-cluster makes one)")
    with installed(reference.site, tmp_path, SLOW_CRAWL, TWO_OF_EACH) as run, calling(run) as failed:
        run.asked("crawl", "add", f"http://{run.site.address}/sitemap.xml", "--pages-max", "20000",
                  "--licence", "CC0-1.0")
        until(lambda: at_work(run), "records wait and are in flight", within_s=300)
        fetched = pages(run)
        run.upgrade(SLOW_CRAWL, {"images": {"light": {"tag": following}}, "config": {"runner": {"attempts_max": 7}}})
        assert {image(run, name) for name in SERVICES} == {f"xinstruct:{following}"}
        between = pages(run)
        run.inside.helm("rollback", RELEASE, "--wait", "--timeout", "240s")
        assert {image(run, name) for name in SERVICES} == {f"xinstruct:{run.site.bed.tag}"}
        print(f"pages fetched: {fetched} before the upgrade, {between} after it, {pages(run)} after the rollback")
        assert fetched < between
        run.asked("status", "--wait", "--within-s", str(WAIT_S_MAX), within_s=WAIT_S_MAX + 30)
        run.asked("release", "publish", "--name", "upgraded")
        compared(reference.outcome, run)
        calls, failures = failed()
        print(f"{sum(calls.values())} calls, {len(failures)} failed: {failures[:3]}; {calls}")
        assert len(calls) == CALLS_OF_A_ROUND and min(calls.values()) > 100 and not failures


def test_an_upgrade_that_cannot_work_fails_visibly_and_the_old_pods_keep_serving(
    reference: Reference, tmp_path: Path
) -> None:
    with installed(reference.site, tmp_path, TWO_OF_EACH) as run, calling(run) as failed:
        with pytest.raises(Refused, match="in_flight_max"):
            run.upgrade({"config": {"inference": {"generator": {"in_flight_max": "many"}}}})
        assert revisions(run) == 1
        # An image without programs of ours. The hooks would stop it before any service is touched: once they do...
        with pytest.raises(Refused, match=r"hook|migrate"):
            run.upgrade({"images": {"light": {"repository": CRASHES}}}, within_s=60)
        assert {image(run, name, 1) for name in SERVICES} == {f"xinstruct:{run.site.bed.tag}"}
        # ... and once they are left out, it gets as far as the first pod of each service.
        first = {name: uid(run, name, 0) for name in SERVICES}
        with pytest.raises(Refused, match=r"not ready|timed out|deadline"):
            run.upgrade({"images": {"light": {"repository": CRASHES}}, "jobs": NO_HOOKS}, within_s=90)
        assert {image(run, name, 1) for name in SERVICES} == {f"{CRASHES}:{run.site.bed.tag}"}
        assert not any(run.inside.pod_ready(f"{FULL_NAME}-{name}-1") for name in SERVICES)
        assert all(run.inside.pod_ready(f"{FULL_NAME}-{name}-0") for name in SERVICES)
        assert {name: uid(run, name, 0) for name in SERVICES} == first
        assert revisions(run) == 3
        assert json.loads(run.asked("status", "--json"))["silent"] == {}
        run.inside.helm("rollback", RELEASE, "1", "--wait", "--timeout", "240s")
        assert {image(run, name, 1) for name in SERVICES} == {f"xinstruct:{run.site.bed.tag}"}
        assert all(run.inside.pod_ready(f"{FULL_NAME}-{name}-{n}") for name in SERVICES for n in (0, 1))
        calls, failures = failed()
        print(f"{sum(calls.values())} calls, {len(failures)} failed: {failures[:3]}; {calls}")
        assert len(calls) == CALLS_OF_A_ROUND and min(calls.values()) > 100 and not failures


@contextmanager
def calling(run: Installed) -> Iterator[Any]:
    """Ask every service for its state, and those that keep something for it, again a tenth of a second after the last
    answer; the value ends that and gives ({call: how many}, what failed).
    """
    config = {
        "home": "/tmp", "log": {"kind": "kafka", "bootstrap_servers": "none:9092"},
        "rpc": {"token_file": "/run/token/token"},
        "addresses": {name: f"{FULL_NAME}-{name}.{run.inside.namespace}.svc:7700" for name in SERVICES},
    }
    code = caller(config)
    pod = probe("caller", run.site.bed, code)
    pod["metadata"]["labels"]["app.kubernetes.io/part-of"] = "xinstruct"
    spec = pod["spec"]
    spec["containers"][0]["volumeMounts"] = [
        {"name": "token", "mountPath": "/run/token", "readOnly": True}, {"name": "scratch", "mountPath": "/tmp"},
    ]
    spec["volumes"] = [
        {"name": "token", "secret": {"secretName": "xinstruct-token"}}, {"name": "scratch", "emptyDir": {}},
    ]
    run.inside.apply(pod)
    until(lambda: run.inside.get("pod", "caller")["status"].get("phase") == "Running", "calls are made", within_s=60)

    def ended() -> tuple[dict[str, int], list[str]]:
        run.inside.kubectl("exec", "caller", "--", "touch", "/tmp/stop")
        until(lambda: run.inside.ended("caller"), "calls end", within_s=60)
        calls, failures = json.loads(run.inside.kubectl("logs", "caller").splitlines()[-1])
        return dict(calls), list(failures)

    yield ended


def caller(config: Mapping[str, Any]) -> str:
    """The program that asks. GetStatus tells of a process, whatever that waits for; the others read what it keeps in
    the database, those of crawler and scoring the log as well. What a service itself cannot answer (Unavailable among
    it) is not asked again: it is a failed call.
    """
    # Not backgen's own: DraftInstruction asks the model, which has the run's drafts to write.
    return f"""
import json, time
from collections import Counter
from pathlib import Path
from xinstruct.cli.client import connect
from xinstruct.spine.errors import XinstructError
from xinstruct.v1.crawler_service_pb2 import ListSourcesRequest
from xinstruct.v1.curation_service_pb2 import ListReleasesRequest, ListRowsRequest
from xinstruct.v1.scoring_service_pb2 import ListSlotsRequest
from xinstruct.v1.scoring_service_pb2_grpc import ScoringServiceStub
from xinstruct.v1.status_service_pb2 import GetStatusRequest
from xinstruct.v1.training_service_pb2 import ListModelsRequest
Path("/tmp/caller.yaml").write_text({json.dumps(config)!r})
calls, failures = Counter(), []
with connect(Path("/tmp/caller.yaml")) as client:
    def slots(name):  # client.scoring is the first slot's alone
        return lambda: (ScoringServiceStub(client._channel_of(name)).ListSlots, ListSlotsRequest())
    asked = {{
        f"{{name}} GetStatus": lambda name=name: (client.status_of(name).GetStatus, GetStatusRequest())
        for name in {SERVICES!r}
    }} | {{
        "crawler ListSources": lambda: (client.crawler.ListSources, ListSourcesRequest(page_size=1)),
        "scoring-a ListSlots": slots("scoring-a"),
        "scoring-b ListSlots": slots("scoring-b"),
        "training ListModels": lambda: (client.training.ListModels, ListModelsRequest(page_size=1)),
        "curation ListReleases": lambda: (client.curation.ListReleases, ListReleasesRequest(page_size=1)),
        "curation ListRows": lambda: (client.curation.ListRows, ListRowsRequest(page_size=1)),
    }}
    while not Path("/tmp/stop").exists():
        for name, call in asked.items():
            calls[name] += 1
            try:
                client.ask(*call(), deadline_s={CALL_S_MAX})
            except XinstructError as error:
                failures.append(f"{{time.strftime('%H:%M:%S')}} {{name}}: {{error.message}}")
        time.sleep(0.1)
print(json.dumps([calls, failures]))
"""


def pages(run: Installed) -> int:
    """Pages that were fetched so far."""
    return sum(int(row.get("pages_fetched", 0)) for row in run.status()["funnel"]["languages"])


def image(run: Installed, service: str, ordinal: int = 0) -> str:
    """The repository and the tag that a pod of a service runs."""
    pod = run.inside.get("pod", f"{FULL_NAME}-{service}-{ordinal}")
    return str(pod["spec"]["containers"][0]["image"]).rpartition("/")[2]


def uid(run: Installed, service: str, ordinal: int) -> str:
    """What tells a pod from one of the same name before it."""
    return str(run.inside.get("pod", f"{FULL_NAME}-{service}-{ordinal}")["metadata"]["uid"])


def revisions(run: Installed) -> int:
    """How often Helm has changed the release."""
    return len(json.loads(run.inside.helm("history", RELEASE, "-o", "json")))
