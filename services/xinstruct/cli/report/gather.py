"""Collects over gRPC what a report shows. Every list is sorted, so that equal catalogs give equal reports."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

from xinstruct.cli.look import FUNNEL_STEPS
from xinstruct.spine.errors import NotFound

if TYPE_CHECKING:
    from xinstruct.cli.client import Client
    from xinstruct.v1.curation_service_pb2 import Release
    from xinstruct.v1.curation_service_pb2 import Row as RowMessage


@dataclass(frozen=True, slots=True)
class Pair:
    """A drafted pair with its labels by the release's evaluator.

    Probabilities are NaN where that evaluator has not labelled it; log_probability is NaN where the endpoint gave none.
    cluster is -1 for a pair that is not published.
    """

    pair_id: str
    document_id: str
    page_id: str
    url: str
    language: str
    instruction: str
    response: str
    log_probability: float
    p_best: float = math.nan
    p_reasonable: float = math.nan
    p_worst: float = math.nan
    kept: bool = False
    published: bool = False
    cluster: int = -1
    first_p_best: float = math.nan
    """P(best) by the evaluator of the round before; NaN: there was none."""
    reviewed_best: float = math.nan
    """Share of its reviewers who call it best; NaN: it has none."""

    @property
    def scored(self) -> bool:
        """Whether the release's evaluator labelled it."""
        return not math.isnan(self.p_best)


@dataclass(frozen=True, slots=True)
class Document:
    """An admitted document."""

    document_id: str
    page_id: str
    url: str
    language: str
    ordinal: int
    text: str
    masked_count: int


@dataclass(frozen=True, slots=True)
class Round:
    """What a training job made. `metrics`: held-out figures by name."""

    number: int
    role: str
    job_name: str
    model_digest: str
    steps_count: int
    loss: float
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Gathered:
    """Everything that a report shows of one catalog and its newest release."""

    funnel: Mapping[str, Mapping[str, int]]
    """Language → step → records; the language "" holds what was never decided."""
    dropped: Mapping[str, int]
    """ "stage/reason" → records."""
    dead_letters: Mapping[str, int]
    pairs: Sequence[Pair]
    documents: Sequence[Document]
    rounds: Sequence[Round]
    release: Release | None


def gather(client: Client) -> Gathered:
    """The state of the catalog now, with the newest release."""
    from xinstruct.v1.curation_service_pb2 import GetFunnelRequest, ListRowsRequest

    funnel = client.ask(client.curation.GetFunnel, GetFunnelRequest())
    release = _newest_release(client)
    clusters = published_clusters(release.location) if release else {}
    rows = client.pages(client.curation.ListRows, ListRowsRequest(page_size=1000), items="rows")
    evaluator = release.evaluator_digest if release else ""
    pairs = [_with_release(_pair(row, evaluator), clusters) for row in rows]
    return Gathered(
        funnel={x.language: {name: getattr(x, name) for name, _ in FUNNEL_STEPS} for x in funnel.languages},
        dropped=dict(sorted(funnel.dropped.items())),
        dead_letters=dict(sorted(funnel.dead_letters.items())),
        pairs=sorted(pairs, key=lambda pair: pair.pair_id),
        documents=documents_of(client),
        rounds=sorted(_rounds(client), key=lambda item: (item.number, item.role)),
        release=release,
    )


def documents_of(client: Client) -> list[Document]:
    """Every admitted document of the catalog now."""
    from xinstruct.v1.curation_service_pb2 import ListDocumentsRequest

    request = ListDocumentsRequest(page_size=1000)
    found = [
        Document(item.document_id, item.page_id, item.url, item.language, item.ordinal, item.text, item.masked_count)
        for item in client.pages(client.curation.ListDocuments, request, items="documents")
    ]
    return sorted(found, key=lambda document: document.document_id)


def published_clusters(location: str) -> dict[str, int]:
    """Pair id → cluster of every row in the release at `location`. NotFound when its files are gone."""
    import fsspec
    import pyarrow.parquet as pq

    files = fsspec.open_files(f"{location.rstrip('/')}/**/*.parquet")
    if not files:
        raise NotFound(f"the release's files are not at {location}; `xinstruct release rebuild` writes them again")
    found: dict[str, int] = {}
    for opened in files:
        with opened as file:
            table = pq.read_table(file, columns=["id", "cluster"])
        found.update(zip(table["id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    return found


def _pair(row: RowMessage, evaluator_digest: str) -> Pair:
    drafted = row.pair
    pair = Pair(
        drafted.pair_id,
        drafted.document_id,
        drafted.page_id,
        drafted.url,
        drafted.language,
        drafted.instruction,
        drafted.response,
        drafted.mean_log_probability,
        kept=row.kept,
        reviewed_best=mean(item.label == "best" for item in row.reviews) if row.reviews else math.nan,
    )
    for score in row.scores:
        if score.evaluator_digest == evaluator_digest or (not evaluator_digest and not pair.scored):
            pair = replace(pair, p_best=score.p_best, p_reasonable=score.p_reasonable, p_worst=score.p_worst)
        else:
            pair = replace(pair, first_p_best=score.p_best)
    return pair


def _with_release(pair: Pair, clusters: Mapping[str, int]) -> Pair:
    if pair.pair_id not in clusters:
        return pair
    return replace(pair, published=True, cluster=clusters[pair.pair_id])


def _rounds(client: Client) -> Iterator[Round]:
    from xinstruct.v1.training_service_pb2 import ListJobsRequest

    for job in client.pages(client.training.ListJobs, ListJobsRequest(page_size=1000), items="jobs"):
        if job.state == "done":
            metrics = json.loads(job.metrics) if job.metrics else {}
            yield Round(job.round, job.role, job.job_name, job.model_digest, job.steps_count, job.loss, metrics)


def _newest_release(client: Client) -> Release | None:
    from xinstruct.v1.curation_service_pb2 import ListReleasesRequest

    releases = client.ask(client.curation.ListReleases, ListReleasesRequest(page_size=1)).releases
    return releases[0] if releases else None
