"""Peak memory of the whole embedded pipeline over ten times the input: each size in a process tree of its own.

Pages are crawled over HTTP, extracted in worker processes, admitted, drafted, scored (scripted models) and catalogued.
The peak is the tree's proportional set size, looked at ten times a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

import servers
from benchmarks.figure import Figure
from benchmarks.pages import PAGE_BYTES, bodies
from integration.crawler.loopback import Site, serving
from xinstruct.cli.client import Client, connect_to
from xinstruct.settings import load_settings
from xinstruct.v1 import (
    crawler_service_pb2,
    curation_service_pb2,
    messages_pb2,
    status_service_pb2,
    training_service_pb2,
)

PAGES = 200
FACTOR = 10
LOOK_S = 0.1
LOOKS_PER_STATUS = 20
IDLE_LOOKS = 3
START_S_MAX = 300.0


def figures(folder: Path) -> Iterator[Figure]:
    """One figure: the ratio of the peaks."""
    peaks = [_peak_mib(count, folder / str(count)) for count in (PAGES, PAGES * FACTOR)]
    ratio = peaks[1] / peaks[0]
    yield Figure(
        "memory_over_ten_times_the_input", ratio, "<=", 1.10, [ratio],
        {"pages": [PAGES, PAGES * FACTOR], "page_bytes": PAGE_BYTES, "peak_mib": [round(peak) for peak in peaks]},
    )


def _peak_mib(pages: int, folder: Path) -> float:
    folder.mkdir()
    with serving() as site:
        for number, body in enumerate(bodies(pages)):
            site.answers[f"/{number}"] = body
        urls = "".join(f"<url><loc>{site.url(path)}</loc></url>" for path in site.answers)
        site.answers["/sitemap.xml"] = f"<urlset>{urls}</urlset>"
        config = folder / "xinstruct.yaml"
        port = servers.free_port()
        config.write_text(json.dumps(_settings(site, port)), "utf-8")
        command = [sys.executable, "-m", "xinstruct", "all", "--config", str(config)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _await_listening(port)
            with connect_to(load_settings(config)) as client:
                _begin(client, site)
                return _peak_until_idle(client, psutil.Process(process.pid), pages) / 2**20
        finally:
            process.kill()
            process.wait()


def _settings(site: Site, port: int) -> dict[str, Any]:
    scripted = {"kind": "scripted"}
    fetch = {"private_hosts_allowed": [site.host], "host_delay_ms": 0, "host_requests_max": 4}
    return {
        "home": "home", "rpc": {"port": port}, "inference": {"generator": scripted, "evaluator": scripted},
        "crawler": {"fetch": fetch},
    }


def _begin(client: Client, site: Site) -> None:
    for role in ("generator", "evaluator"):
        request = training_service_pb2.RegisterModelRequest(role=role, location="endpoint:scripted")
        model = client.ask(client.training.RegisterModel, request)
        promotion = training_service_pb2.PromoteModelRequest(role=role, model_digest=model.model_digest)
        client.ask(client.training.PromoteModel, promotion)
    source = crawler_service_pb2.SubmitCrawlRequest(
        request_id="bench", action=messages_pb2.CRAWL_ACTION_ADD, kind=messages_pb2.SOURCE_KIND_SITEMAP,
        location=site.url("/sitemap.xml"),
    )
    client.ask(client.crawler.SubmitCrawl, source)


def _await_listening(port: int) -> None:
    give_up_s = time.monotonic() + START_S_MAX
    while not servers.listening(port):
        assert time.monotonic() < give_up_s, "the process does not start"
        time.sleep(LOOK_S)


def _peak_until_idle(client: Client, process: psutil.Process, pages: int) -> float:
    """Bytes at most, until all pages are there and several looks in a row find nothing to do."""
    peak, look, idle = 0.0, 0, 0
    while idle < IDLE_LOOKS:
        peak = max(peak, _tree_bytes(process))
        time.sleep(LOOK_S)
        look += 1
        if look % LOOKS_PER_STATUS == 0:
            status = client.ask(client.status_of("all").GetStatus, status_service_pb2.GetStatusRequest())
            funnel = client.ask(client.curation.GetFunnel, curation_service_pb2.GetFunnelRequest())
            fetched = sum(row.pages_fetched for row in funnel.languages)
            idle = idle + 1 if status.idle and fetched >= pages else 0
    return peak


def _tree_bytes(process: psutil.Process) -> float:
    found = 0.0
    for member in (process, *process.children(recursive=True)):
        try:
            found += member.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue  # a worker that has just been replaced
    return found
