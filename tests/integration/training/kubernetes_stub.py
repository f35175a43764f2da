"""The part of the Kubernetes API that training uses, in memory: what it answers, and what a test makes of it.

Nothing runs here. tests/cluster/ asks a real one the same.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, Configuration

from xinstruct.training.kubernetes_api import Cluster

Item = dict[str, Any]


class Store:
    """Objects by path. `refuses`: status that every call gets from now on, 0 for none. `unknown`: plurals of kinds that
    nothing brought here.
    """

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.calls: list[tuple[str, str, dict[str, list[str]]]] = []
        self.refuses = 0
        self.unknown: set[str] = set()
        self.slow_deletion = False
        self._number = 0

    def put(self, plural: str, item: Item) -> Item:
        """An object that is there without having been made by the code under test."""
        api = item["apiVersion"]
        root = "apis" if "/" in api else "api"
        self._stamp(item)
        self.items[f"/{root}/{api}/namespaces/lab/{plural}/{item['metadata']['name']}"] = item
        return item

    def of(self, plural: str) -> list[Item]:
        """Objects of a kind, in the order of their making."""
        return [item for path, item in self.items.items() if path.split("/")[-2] == plural]

    def answer(self, method: str, url: str, body: Item) -> tuple[int, Item]:
        """Status and content, as the API server gives them."""
        parts = urlsplit(url)
        path, query = parts.path, parse_qs(parts.query)
        self.calls.append((method, path, query))
        if self.refuses:
            return self.refuses, _status(f"refused with {self.refuses}")
        if self.unknown.intersection(path.split("/")[-2:]):
            return 404, {}  # a real one says no more in JSON either
        if method == "POST":
            return self._make(path, body)
        if method == "GET" and "labelSelector" in query:
            key, _, value = query["labelSelector"][0].partition("=")
            items = self.of(path.rpartition("/")[2])
            found = [item for item in items if item["metadata"].get("labels", {}).get(key) == value]
            return 200, {"items": found}
        if path not in self.items:
            return 404, _status(f"{path} not found")
        if method == "PATCH":
            return self._merge(self.items[path], body)
        if method == "DELETE":
            item = self.items[path]
            item["metadata"]["deletionTimestamp"] = "2026-11-21T00:00:00Z"
            if not self.slow_deletion:
                del self.items[path]
            return 200, item
        return 200, self.items[path]

    def _make(self, path: str, body: Item) -> tuple[int, Item]:
        path = f"{path}/{body['metadata']['name']}"
        if path in self.items:
            return 409, _status("already exists")
        self._stamp(body)
        self.items[path] = body
        return 201, body

    def _merge(self, item: Item, changes: Item) -> tuple[int, Item]:
        asked = changes.get("metadata", {}).pop("resourceVersion", item["metadata"]["resourceVersion"])
        if asked != item["metadata"]["resourceVersion"]:
            return 409, _status("the object has been modified")
        _merge(item, changes)
        self._stamp(item)
        return 200, item

    def _stamp(self, item: Item) -> None:
        self._number += 1
        item["metadata"]["resourceVersion"] = str(self._number)
        item["metadata"].setdefault("creationTimestamp", f"2026-11-21T00:00:{self._number:02}Z")
        item["metadata"].setdefault("uid", f"uid-{self._number}")


@contextmanager
def kubernetes() -> Iterator[tuple[Store, Cluster]]:
    """An API with nothing in it, and the namespace "lab" of it."""
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = store.answer(self.command, self.path, json.loads(raw or b"{}"))
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = Configuration(host=f"http://127.0.0.1:{server.server_address[1]}")
    configuration.retries = False
    cluster = Cluster(ApiClient(configuration), "lab")
    try:
        yield store, cluster
    finally:
        cluster.close()
        server.shutdown()
        server.server_close()


def pod(job_name: str, phase: str, *, label: str = "batch.kubernetes.io/job-name", **status: Any) -> Item:
    """A pod of a job's object."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": f"{job_name}-{len(status)}{phase.lower()}", "labels": {label: job_name}},
        "spec": {"containers": [{"name": "job", "resources": {"limits": {"memory": "8Gi"}}}]},
        "status": {"phase": phase, **status},
    }


def _merge(item: Item, changes: Item) -> None:
    """RFC 7396."""
    for key, value in changes.items():
        if value is None:
            item.pop(key, None)
        elif isinstance(value, dict):
            _merge(item.setdefault(key, {}), value)
        else:
            item[key] = value


def _status(message: str) -> Item:
    return {"kind": "Status", "message": message}
