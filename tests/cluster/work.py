"""Work for a release, and what its metrics say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from cluster.house import CONFIG, FULL_NAME, HOME, RELEASE
from cluster.kubectl import Cluster, ready, until

MEMORY_BYTES_MAX = int(2.5 * 1024**3)
"""Of all pods of the small profile together, the models' left out."""
OURS = f"app.kubernetes.io/instance={RELEASE}"
METRICS_PORT = 9464
COMMITTED = "xinstruct_committed_records_total"
TEXT = (
    "Ziwa la {name} liko kaskazini mwa mji, kwenye nyanda za juu. Maji yake ni baridi mwaka mzima, na wavuvi "
    "hulifikia kwa mitumbwi midogo kabla ya jua kuchomoza.\n\n"
    "Kila mwezi wa saba watu wa vijiji jirani hukusanyika ufukweni kwa tamasha la nyavu."
)
"""A passage that is admitted, short enough for the stub's context."""


def asked(inside: Cluster, *arguments: str, within_s: int = 20) -> str:
    """What the command line says in curation's pod."""
    words = ("timeout", str(within_s), "xinstruct", *arguments, "--config", CONFIG)
    return inside.kubectl("exec", f"{FULL_NAME}-curation-0", "--", *words, within_s=within_s + 10)


def feed(inside: Cluster, name: str, count: int, *, within_s: float) -> None:
    """Have the crawler read so many new texts from the shared volume, and wait until all are admitted."""
    wanted = rows(inside, "documents") + count
    texts = [{"text": TEXT.format(name=f"{name} {number}")} for number in range(count)]
    file = f"{HOME}/{name}.jsonl"
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    inside.kubectl("exec", "-i", f"{FULL_NAME}-curation-0", "--", "tee", file, stdin=lines)
    asked(inside, "crawl", "add", file, "--licence", "CC0-1.0", within_s=120)
    until(lambda: rows(inside, "documents") >= wanted, f"{count} texts are admitted", within_s=within_s)


def rows(inside: Cluster, table: str, where: str = "true") -> int:
    """Rows of the catalog, as the release's own database counts them."""
    query = f"SELECT count(*) FROM {table} WHERE {where}"
    command = f'PGPASSWORD="$(cat /etc/postgres/password)" psql -h 127.0.0.1 -U xinstruct -At -c "{query}"'
    return int(inside.kubectl("exec", f"{FULL_NAME}-postgres-0", "--", "sh", "-c", command))


def figure(inside: Cluster, pods: Iterable[str], metric: str, port: int = METRICS_PORT, **labels: str) -> float:
    """A metric: the sum over these pods."""
    wanted = {f'{name}="{value}"' for name, value in labels.items()}
    pattern = re.compile(rf"^{metric}\{{(.*)\}} (\S+)$", re.MULTILINE)
    total = 0.0
    for pod in pods:
        path = f"/api/v1/namespaces/{inside.namespace}/pods/{pod}:{port}/proxy/metrics"
        lines = pattern.findall(inside.kubectl("get", "--raw", path))
        total += sum(float(value) for said, value in lines if wanted <= set(said.split(",")))
    return total


def memory_bytes(inside: Cluster) -> dict[str, int]:
    """Pod of the release → its working set, as the kubelets count it; 0 while they have not."""
    ours = {pod["metadata"]["name"] for pod in inside.all("pod", labels=OURS) if ready(pod)}
    counted = inside.stats()
    return {name: int(counted.get(name, {}).get("memory", {}).get("workingSetBytes", 0)) for name in ours}
