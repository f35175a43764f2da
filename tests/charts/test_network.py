"""The edges between pods: what configurations, operators and probes need is allowed on both sides, and little else.

Both charts are rendered as docs/deploy.md installs them, and their policies evaluated (network.py); what they need is
read off the manifests: a list of edges beside the policies would only repeat their mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import helm_python
import pytest

from charts.house import CASES, HERE, OUTSIDE, WEB, House, house, installed
from charts.network import End, refusals, selects
from charts.rendering import (
    INFERENCE,
    SERVICES,
    Manifest,
    changed,
    merged,
    of_kind,
    pods,
    profile,
)

KEDA = End("KEDA's operator", "keda", {"app": "keda-operator"})
PROMETHEUS = End("Prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
CLOUDS = [End(at, address=at) for at in ("169.254.169.254", "168.63.129.16", "192.0.0.192")]
"""What answers a cloud's own machines: metadata with their credentials, Azure's WireServer, Oracle's."""
NAME_SERVERS = {
    53: End("CoreDNS", "kube-system", {"k8s-app": "kube-dns"}),
    5353: End("OpenShift's DNS", "openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"}),
}
STRANGER = End("a stranger", "elsewhere", {"app.kubernetes.io/part-of": "other"})
API_PORTS, STORE_PORTS = {443, 6443}, {443}
NO_CALL = {"contact_url", "removal_contact"}
"""Keys whose URL is told to people."""
SCHEME_PORTS = {"http": 80, "https": 443, "postgresql+psycopg": 5432, "s3": 443}
ADDRESS = re.compile(r"(?:([a-z0-9+]+)://)?(?:[^@/]*@)?([\w.{}-]+)(?::(\d+))?(?:[/?].*)?")


ALL = [pytest.param(name, kserve, id=f"{name}, {how}") for name in CASES
       for kserve, how in (("always", "KServe"), ("never", "Deployments"))]
houses = pytest.mark.parametrize(("name", "kserve"), ALL)


# ── What is needed ────────────────────────────────────────────────────────────────────────────────────────────────────


@houses
def test_every_address_in_a_services_configuration_may_be_called_and_takes_the_call(name: str, kserve: str) -> None:
    assert list(unreachable(house(name, kserve))) == []


@houses
def test_jobs_before_the_release_and_the_test_reach_what_their_configuration_names(name: str, kserve: str) -> None:
    here = house(name, kserve)
    jobs = {"migrate": "database_url", "topics": "log"}
    found = [task for task in jobs if f"{HERE}-{task}" in here.ends]
    assert found == (["migrate", "topics"] if name == "small" else ["migrate"])
    for task in found:
        asked = {key: item for key, item in here.config(f"{HERE}-jobs").items() if key == jobs[task]}
        assert asked and list(_refused(here, here.ends[f"{HERE}-{task}"], asked)) == []
    asked = {"addresses": here.config(f"{HERE}-test")["addresses"]}
    assert len(asked["addresses"]) == len(SERVICES)
    assert list(_refused(here, here.ends[f"{HERE}-test"], asked)) == []


@pytest.mark.parametrize("name", CASES)
def test_hook_jobs_reach_what_they_ask_where_the_namespace_denies_all_and_has_no_release_yet(name: str) -> None:
    here = house(name)
    denial = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    found: list[Manifest] = [{"metadata": {"name": "platform", "namespace": HERE}, "spec": denial}]
    job = here.ends[f"{HERE}-migrate"]
    ((host, port),) = _addresses({"asked": here.config(f"{HERE}-jobs")["database_url"]})
    # What an own database lets in is another question: it is there in upgrades only, with its policies.
    asked = [(*here.answering(host, port), "TCP"), *((end, at, "UDP") for at, end in NAME_SERVERS.items())]
    assert all(f"Egress of {job.name}" in refusals(found, job, *one)[0] for one in asked)
    found += [item for item in of_kind(here.items, "NetworkPolicy") if "annotations" in item["metadata"]]
    assert not [why for one in asked for why in refusals(found, job, *one) if why.startswith("Egress")]
    # And nothing but that, and for nobody else.
    assert not [port for port in PORTS if not refusals(found, job, WEB, port)]
    assert all(refusals(found, here.ends[f"{HERE}-{service}"], *asked[0]) for service in SERVICES)


@houses
def test_keda_reads_every_queue_that_it_scales_by(name: str, kserve: str) -> None:
    here = house(name, kserve)
    triggers = [trigger for item in of_kind(here.items, "ScaledObject") for trigger in item["spec"]["triggers"]]
    kinds = {trigger["type"] for trigger in triggers}
    assert kinds == (set() if name == "small" else {"kafka", "metrics-api"})
    for trigger in triggers:
        asked = trigger["metadata"]
        address = {"asked": asked["bootstrapServers"] if trigger["type"] == "kafka" else asked["url"]}
        assert list(_refused(here, KEDA, address)) == []


def test_keda_reads_lags_at_the_own_broker_where_it_is_named() -> None:
    values = changed(profile("small"), "services.backgen.scaling.kind", "keda")
    address = {"asked": f"{HERE}-kafka-0.{HERE}-kafka.{HERE}.svc:9092"}
    assert list(_refused(installed(values, profile("small", INFERENCE)), KEDA, address))
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}
    here = installed(changed(values, "networkPolicy.lagReaders.from", [peer]), profile("small", INFERENCE))
    assert list(_refused(here, KEDA, address)) == []


@pytest.mark.parametrize(("name", "kserve"), [item for item in ALL if "small" not in item.values])
def test_prometheus_scrapes_every_pod_that_a_monitor_names(name: str, kserve: str) -> None:
    here = house(name, kserve)
    scraped = [
        (monitor, service) for monitor in of_kind(here.items, "ServiceMonitor")
        for service in of_kind(here.items, "Service")
        if selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    ]
    assert len(scraped) == len(SERVICES) + 2  # and two models
    for monitor, service in scraped:
        wanted = monitor["spec"]["endpoints"][0]["port"]
        (port,) = [item["port"] for item in service["spec"]["ports"] if item["name"] == wanted]
        end, pods_port = here.answering(service["metadata"]["name"], port)
        assert refusals(here.policies, PROMETHEUS, end, pods_port) == []


@houses
def test_every_pod_looks_up_names_whichever_port_the_name_servers_pods_have(name: str, kserve: str) -> None:
    here = house(name, kserve)
    for end in here.ends.values():
        for port, server in NAME_SERVERS.items():
            for protocol in ("UDP", "TCP"):
                assert refusals(here.policies, end, server, port, protocol) == []


@houses
def test_probes_are_the_nodes_own_which_no_policy_keeps_out(name: str, kserve: str) -> None:
    for owner, pod in pods(house(name, kserve).items):
        for container in pod["spec"]["containers"]:
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(kind, {})
                assert not any("host" in probe.get(way, {}) for way in ("httpGet", "tcpSocket")), owner


# ── What is not ───────────────────────────────────────────────────────────────────────────────────────────────────────


@houses
def test_nobody_but_the_crawler_reaches_the_web_beside_the_object_stores_port(name: str, kserve: str) -> None:
    here = house(name, kserve)
    stores = {f"{HERE}-{service}" for service in SERVICES} | {f"{HERE}-generator", f"{HERE}-evaluator"}
    for end in here.ends.values():
        allowed = {80, 443} if end.name == f"{HERE}-crawler" else set()
        if name != "small" and end.name in stores:
            allowed |= STORE_PORTS
        if name != "small" and end.name == f"{HERE}-training":
            allowed |= API_PORTS  # the API server has no labels: any address
        assert _open_ports(here, end, WEB) == allowed, end.name


@houses
def test_the_crawler_reaches_no_private_address_and_no_foreign_pod(name: str, kserve: str) -> None:
    here = house(name, kserve)
    crawler = here.ends[f"{HERE}-crawler"]
    for other in (OUTSIDE["private"], *CLOUDS, End("IPv6", address="fd00::1"), STRANGER):
        assert _open_ports(here, crawler, other) == set(), other.name


@houses
def test_only_training_reaches_private_addresses_because_the_api_server_is_one(name: str, kserve: str) -> None:
    here = house(name, kserve)
    for end in here.ends.values():
        wanted = API_PORTS if name != "small" and end.name == f"{HERE}-training" else set()
        for other in (OUTSIDE["private"], *CLOUDS):
            assert _open_ports(here, end, other) == wanted, (end.name, other.name)


@houses
def test_no_service_calls_another_but_curation_whose_pod_has_the_command_line(name: str, kserve: str) -> None:
    here = house(name, kserve)
    services = [here.ends[f"{HERE}-{service}"] for service in SERVICES]
    callers = {HERE + "-curation", HERE + "-test"}
    for end in here.ends.values():
        found = {called.name for called in services if called != end
                 for port in PORTS if not refusals(here.policies, end, called, port)}
        assert found == ({one.name for one in services if one != end} if end.name in callers else set()), end.name


@houses
def test_the_own_broker_and_database_take_calls_of_services_and_their_jobs_alone(name: str, kserve: str) -> None:
    here = house(name, kserve)
    allowed = {f"{HERE}-{one}" for one in (*SERVICES, "migrate", "topics")}
    stores = {f"{HERE}-kafka": 9092, f"{HERE}-postgres": 5432}
    assert (stores.keys() <= here.ends.keys()) is (name == "small")
    for store, port in stores.items():
        found = {end.name for end in here.ends.values() if store in here.ends and end.name != store
                 and not refusals(here.policies, end, here.ends[store], port)}
        assert found == (allowed & here.ends.keys() if name == "small" else set())


@houses
def test_a_stranger_reaches_nothing_but_metrics_where_nobody_says_who_may_read_them(name: str, kserve: str) -> None:
    here = house(name, kserve)
    for end in here.ends.values():
        serves = end.name in {f"{HERE}-{service}" for service in SERVICES}
        found = {port for port in PORTS if not refusals(here.policies, STRANGER, end, port)}
        assert found == ({9464} if name == "small" and serves else set()), end.name


# ── What follows from values ──────────────────────────────────────────────────────────────────────────────────────────

ANY = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
FREE = {"networkPolicy": {name: {"to": ANY} for name in ("kafka", "database", "inference", "objectStore", "traces")}}
"""Whatever is named is at a private address, and every edge leads there: ports decide."""


@pytest.mark.parametrize(("path", "value", "service", "port"), [
    ("config.database_url", "postgresql+psycopg://x@private:25060/x?sslmode=verify-full", "curation", 25060),
    ("config.database_url", "postgresql+psycopg://x@/x?host=private:5433&host=private:5434", "curation", 5434),
    ("config.database_url", "postgresql+psycopg://x@/x?host=private&port=6432", "curation", 6432),
    ("config.database_url", "postgresql+psycopg://x@private/x", "curation", 5432),
    ("config.log.bootstrap_servers", "private:31092,private:31093", "crawler", 31093),
    ("config.inference.generator.url", "http://private:8123/v1", "backgen", 8123),
    ("config.inference.evaluator", {"kind": "kserve", "url": "grpc://private:8081"}, "scoring-a", 8081),
    ("config.inference.encoder", {"kind": "openai", "url": "https://private/v1"}, "curation", 443),
    ("services.scoring-b.config.inference.evaluator.url", "http://private:8124/v1", "scoring-b", 8124),
    ("objectStore.endpointUrl", "https://private:8333", "crawler", 8333),
    ("objectStore.endpointUrl", "http://private", "backgen", 80),
    ("config.telemetry.traces_endpoint", "http://private:14317", "training", 14317),
    ("services.backgen.config.telemetry.traces_endpoint", "http://private:14318", "backgen", 14318),
])
def test_a_port_that_is_written_in_an_address_is_open(path: str, value: Any, service: str, port: int) -> None:
    here = installed(changed(merged(profile("standard"), FREE), path, value), profile("gpu", INFERENCE))
    assert port in _open_ports(here, here.ends[f"{HERE}-{service}"], OUTSIDE["private"], {port})


@pytest.mark.parametrize(("path", "value", "reach"), [
    ("config.curation.releases_location", "s3://bucket/releases", set(SERVICES)),
    ("config.blobs_url", "s3://bucket/blobs", set(SERVICES)),
    ("services.curation.config.curation.releases_location", "s3://bucket/releases", {"curation"}),
    ("services.training.config.training.seeds_location", "gs://bucket/seeds.jsonl", {"training"}),
    ("config.curation.releases_location", "/var/lib/xinstruct/releases", set()),
    ("config.blobs_url", "file:///var/lib/xinstruct/blobs", set()),
])
def test_an_object_store_is_reached_by_who_is_told_of_a_place_in_one(path: str, value: str, reach: set[str]) -> None:
    here = installed(changed(merged(profile("small"), FREE), path, value), profile("small", INFERENCE))
    found = {
        service for service in SERVICES
        if 9000 in _open_ports(here, here.ends[f"{HERE}-{service}"], OUTSIDE["private"], {9000})
    }
    assert found == reach


@pytest.mark.parametrize("url", ["https://private:8333", "https://private:8333/below", "http://[fd00::1]:8333"])
def test_models_reach_the_port_of_their_store(url: str) -> None:
    values = changed(profile("gpu", INFERENCE), "objectStore.endpointUrl", url)
    here = installed(profile("gpu"), changed(values, "networkPolicy.objectStore.to", ANY), "never")
    assert 8333 in _open_ports(here, here.ends[f"{HERE}-generator"], OUTSIDE["private"], {8333})


@pytest.mark.parametrize(("path", "value"), [
    ("config.crawler.fetch.private_hosts_allowed", ["private:8080"]),
    ("services.crawler.config.crawler.fetch.private_hosts_allowed", ["private:8080"]),
    ("tests.mainJob", {"enabled": True, "site": "private:8080"}),
])
def test_a_private_site_that_may_be_crawled_is_named_in_the_policy_or_refused(path: str, value: Any) -> None:
    values = changed(profile("small"), path, value)
    with pytest.raises(helm_python.HelmError, match=r"private:8080 .* networkPolicy\.crawl\.privateTo"):
        installed(values, profile("small", INFERENCE))
    here = installed(changed(values, "networkPolicy.crawl.privateTo", ANY), profile("small", INFERENCE))
    assert list(unreachable(here)) == []
    installed(changed(values, "networkPolicy.enabled", False), profile("small", INFERENCE))


def test_who_may_call_from_elsewhere_is_who_is_named() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}
    values = changed(profile("small"), "networkPolicy.clients.from", [peer])
    here = installed(values, changed(profile("small", INFERENCE), "networkPolicy.clients.from", [peer]))
    for name, port in (("crawler", 7700), ("evaluator", 8080)):
        assert refusals(here.policies, STRANGER, here.ends[f"{HERE}-{name}"], port) == []


PORTS = (80, 443, 5432, 6443, 7700, 8000, 8080, 8081, 8780, 9000, 9092, 9093, 9464)


def unreachable(here: House) -> Iterator[str]:
    """What each service's configuration names and policies refuse."""
    for service in SERVICES:
        config = here.config(f"{HERE}-{service}")
        # The crawler asks no model, and nobody else fetches; the command line, which calls, is used in curation's pod.
        config.pop("inference" if service == "crawler" else "crawler", None)
        if service != "curation":
            config.pop("addresses")
        yield from _refused(here, here.ends[f"{HERE}-{service}"], config)


def _refused(here: House, caller: End, config: Any) -> Iterator[str]:
    for host, port in _addresses(config):
        end, pods_port = here.answering(host, port)
        yield from refusals(here.policies, caller, end, pods_port)


def _addresses(node: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """(host, port) of whatever looks like an address."""
    if isinstance(node, Mapping):
        for name, item in node.items():
            yield from _addresses(item, name)
    elif isinstance(node, list):
        for item in node:
            yield from _addresses(item, key)
    elif isinstance(node, str) and key not in NO_CALL:
        for part in node.split(","):
            found = ADDRESS.fullmatch(part)
            if found and (found[1] or found[3]):
                host = "s3" if found[1] == "s3" else found[2]
                yield host, int(found[3] or SCHEME_PORTS[found[1]])


def _open_ports(here: House, caller: End, called: End, ports: Sequence[int] | set[int] = PORTS) -> set[int]:
    return {port for port in ports if not refusals(here.policies, caller, called, port)}
