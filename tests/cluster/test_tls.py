"""Mutual TLS by Secrets of ours on real pods: probes that see a service's state, strangers refused, renewal at work."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certificates import Authority, authority
from cluster.conftest import House
from cluster.house import FULL_NAME, SERVICES, Bed, install, models, namespace, probe, secret, small
from cluster.kubectl import Cluster, Manifest, condition, until
from cluster.work import asked
from xinstruct.spine.certificates import Tls

TLS = {
    "enabled": True, "secretName": "ours",
    "mutual": {"enabled": True, "authoritySecret": {"name": "ours-authority"}},
}
NEED_A_MODEL = ("backgen", "scoring-a", "scoring-b")
STARTED_S_MAX = 180.0
READY_S_MAX = 120.0
SYNCED_S_MAX = 240.0
"""The kubelet looks at Secrets each minute, and believes what it knew for as long again."""

ASK = """
import grpc
from xinstruct.v1 import status_service_pb2 as messages, status_service_pb2_grpc as stubs

def ask(channel):
    try:
        stubs.StatusServiceStub(channel).GetStatus(
            messages.GetStatusRequest(), metadata=[("authorization", "Bearer " + {token!r})], timeout=20)
        return "OK"
    except grpc.RpcError as error:
        return error.code().name

trusted, certificate, key = {trusted!r}, {certificate!r}, {key!r}
print("told", ask(grpc.secure_channel({address!r}, grpc.ssl_channel_credentials(trusted, key, certificate))))
print("told", ask(grpc.secure_channel({address!r}, grpc.ssl_channel_credentials(trusted))))
print("told", ask(grpc.insecure_channel({address!r})))
"""
"""Prints what a caller with a certificate is told, one without, and one without TLS."""

LET_IN = ["OK", "UNAVAILABLE", "UNAVAILABLE"]

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True)
class Protected:
    """A release with mutual TLS, and who signs its certificates."""

    house: House
    ours: Authority
    waiting: dict[str, Manifest]
    """Pods that have no model to ask, as they were before there was one, once their readiness had been asked for."""


@pytest.fixture(scope="module")
def protected(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Protected]:
    """The small profile with TLS, first without models and then with them, every pod ready."""
    folder = tmp_path_factory.mktemp("tls")
    ours = authority(folder / "authority")
    with namespace(bed) as inside:
        inside.apply(*secrets_of(inside, ours))
        begin = time.monotonic()
        install(inside, small(bed, {"tls": TLS}), folder)
        until(lambda: inside.pod_ready(pod("curation")), "curation is ready", within_s=STARTED_S_MAX)
        until(lambda: all("NOT_SERVING" in refusals(inside, name) for name in NEED_A_MODEL),
              "who needs a model tells the kubelet that it cannot work", within_s=STARTED_S_MAX)
        waiting = {name: inside.get("pod", pod(name)) for name in NEED_A_MODEL}
        inside.apply(*models(bed))
        until(lambda: all(inside.pod_ready(pod(name)) for name in SERVICES), "all are ready", within_s=READY_S_MAX)
        yield Protected(House(bed, inside, time.monotonic() - begin), ours, waiting)


def test_a_pod_that_listens_and_cannot_work_is_not_ready(protected: Protected) -> None:
    for name, was in protected.waiting.items():
        assert was["status"]["containerStatuses"][0]["started"], f"{name} had not started"
        assert condition(was, "Ready")["status"] == "False", name


def test_every_pod_is_ready_by_the_port_of_health_and_was_never_restarted(protected: Protected) -> None:
    print(f"all ready {protected.house.ready_s:.1f} s after the installation, models a while after it")
    for name in SERVICES:
        item = protected.house.inside.get("pod", pod(name))
        (container,) = item["spec"]["containers"]
        assert {container[f"{kind}Probe"]["grpc"]["port"] for kind in ("startup", "liveness", "readiness")} == {7701}
        assert item["status"]["containerStatuses"][0]["restartCount"] == 0, name


def test_the_command_line_in_a_pod_reaches_every_service(protected: Protected) -> None:
    answered = json.loads(asked(protected.house.inside, "status", "--json", within_s=50))
    assert (answered["silent"], len(answered["processes"])) == ({}, len(SERVICES))


def test_a_caller_without_a_certificate_of_ours_is_refused(protected: Protected, tmp_path: Path) -> None:
    assert told(protected.house, caller(protected.ours)) == LET_IN
    foreign = authority(tmp_path / "foreign").signed("caller").as_caller(protected.ours.own.certificate)
    assert told(protected.house, foreign) == ["UNAVAILABLE"] * 3


def test_renewed_certificates_of_a_new_authority_are_taken_without_a_restart(
    protected: Protected, tmp_path: Path
) -> None:
    inside = protected.house.inside
    new = authority(tmp_path / "authority")
    before = {name: inside.get("pod", pod(name))["metadata"]["uid"] for name in SERVICES}
    inside.apply(*secrets_of(inside, new))
    taken_s = until(
        lambda: told(protected.house, caller(new)) == LET_IN, "the renewed certificate is served", within_s=SYNCED_S_MAX
    )
    answers_s = until(lambda: all_answer(inside), "the command line reaches every service", within_s=SYNCED_S_MAX)
    print(f"renewed certificates taken by curation after {taken_s:.0f} s, by all {answers_s:.0f} s later")
    for name in SERVICES:
        found = inside.get("pod", pod(name))
        assert found["metadata"]["uid"] == before[name], f"{name} is another pod"
        assert found["status"]["containerStatuses"][0]["restartCount"] == 0, name
    assert told(protected.house, caller(protected.ours)) == ["UNAVAILABLE"] * 3, "the old authority is still believed"


def pod(name: str) -> str:
    """The first pod of a service."""
    return f"{FULL_NAME}-{name}-0"


def secrets_of(inside: Cluster, ours: Authority) -> list[Manifest]:
    """Certificate and key for the names of all services, and who signed them."""
    pair = ours.signed("house", *(host(inside, name) for name in SERVICES))
    content = {"tls.crt": pair.certificate.read_text("utf-8"), "tls.key": pair.key.read_text("utf-8")}
    return [
        secret("ours", content),
        secret("ours-authority", {"ca.crt": ours.own.certificate.read_text("utf-8")}),
    ]


def host(inside: Cluster, name: str) -> str:
    """The name of a service's pods."""
    return f"{FULL_NAME}-{name}.{inside.namespace}.svc"


def caller(of: Authority) -> Tls:
    """What somebody brings whose certificate that authority has signed."""
    return of.signed("caller").as_caller(of.own.certificate)


def told(house: House, tls: Tls) -> list[str]:
    """Status codes that a pod of its own gets from curation: with that certificate, without one, without TLS."""
    token = house.inside.kubectl(
        "get", "secret", "xinstruct-token", "-o", "go-template={{.data.token | base64decode}}"
    )
    code = ASK.format(
        token=token, trusted=tls.authorities, certificate=tls.certificate, key=tls.key,
        address=f"{host(house.inside, 'curation')}:7700",
    )
    succeeded, said = house.inside.output_of(probe("caller", house.bed, code), within_s=120)
    assert succeeded, said
    return re.findall(r"^told (\w+)$", said, re.MULTILINE)


def all_answer(inside: Cluster) -> bool:
    """Whether no service is silent to the command line in curation's pod, which reads the mounted certificates."""
    return not json.loads(asked(inside, "status", "--json", within_s=100))["silent"]


def refusals(inside: Cluster, name: str) -> str:
    """What the kubelet said when a service's pod was not ready."""
    events = [item for item in inside.all("event") if item["involvedObject"]["name"] == pod(name)]
    return "\n".join(item["message"] for item in events if item["message"].startswith("Readiness probe failed"))
