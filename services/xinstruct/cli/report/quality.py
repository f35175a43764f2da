"""Compares what a run made with the known truth of the microworld. Only the report does, after the release is out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any
from urllib.parse import urlsplit

from xinstruct.cli.report.gather import Document, Gathered, Pair
from xinstruct.microworld.truth import F1_MIN, f1, instruction_right, slots_from

DENIED_TO_FETCH = "robots_disallowed"
OPT_OUT_PREFIX = "opt_out_"
RELIABILITY_BINS = 10

Truth = Mapping[str, Any]
"""A line of `xinstruct microworld truth`."""


@dataclass(frozen=True, slots=True)
class Quality:
    """The figures of report.json under "truth". Shares are 0–1; NaN where nothing was there to measure."""

    extraction_f1: float
    """Mean over admissible pages with admitted documents, of these documents against the page's main text."""
    language_accuracy: float
    """Share of admitted documents under the language of their page."""
    policy_violations: int
    """Requests for addresses that robots.txt forbids, and documents of pages that opted out."""
    pii_leaked: int
    """Planted personal data found in admitted documents."""
    duplicate_recall: float
    """Share of duplicate clusters that publish at most one page."""
    duplicate_false_ratio: float
    """Of duplicate clusters with a kept pair the share of which nothing is published; one whose pairs were all refused
    is rightly not published (DECISIONS.md)."""
    admitted_recall: float
    """Share of admissible pages with an admitted document."""
    draft_right_before: float
    """Share of right drafts by the base model, before any tuning, on a sample."""
    draft_right: float
    """Share of admitted documents whose drafted instruction is right; one without a draft counts as wrong."""
    precision_drafted: float
    """Share of good pairs among all drafted."""
    precision_kept: float
    """Share of good pairs among the kept."""
    recall_kept: float
    """Kept among the good."""

    def plain(self) -> dict[str, float | int | None]:
        """As JSON values; NaN becomes null, ratios have six digits."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else round(value, 6)
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Judgement:
    """Quality, and what the charts need besides."""

    quality: Quality
    good: frozenset[str]
    """Ids of good pairs."""
    reliability: Sequence[tuple[float, float, int]]
    """Bins of P(best): mean said, share good, pairs."""
    precision_by_log_probability: float
    """Share of good pairs if the same number were kept by the generator's own log-probability."""
    precision_by_language: Mapping[str, tuple[float, float, float]]
    """Language → precision drafted, precision kept, recall kept."""


def judge(
    gathered: Gathered, truth: Iterable[Truth], *, fetched_paths: Iterable[str], right_before: float
) -> Judgement:
    """Compare the catalog with the truth. `fetched_paths`: every path in the site's access log."""
    pages = {page["url"]: page for page in truth}
    good = frozenset(pair.pair_id for pair in gathered.pairs if _good(pair, pages))
    kept = [pair for pair in gathered.pairs if pair.kept]
    by_log_probability = sorted(gathered.pairs, key=lambda pair: -pair.log_probability)[: len(kept)]
    language_pairs: dict[str, list[Pair]] = defaultdict(list)
    for pair in gathered.pairs:
        language_pairs[pair.language].append(pair)
    quality = Quality(
        extraction_f1=_extraction_f1(gathered.documents, pages),
        language_accuracy=_mean(_language_right(document, pages) for document in gathered.documents),
        policy_violations=_policy_violations(gathered.documents, pages, fetched_paths),
        pii_leaked=_leaked(gathered.documents, pages),
        duplicate_recall=_duplicate_recall(gathered.pairs, pages),
        duplicate_false_ratio=_duplicate_false_ratio(gathered.pairs, pages),
        admitted_recall=_admitted_recall(gathered.documents, pages),
        draft_right_before=right_before,
        draft_right=_draft_right(gathered, pages),
        precision_drafted=_precision(gathered.pairs, good),
        precision_kept=_precision(kept, good),
        recall_kept=_recall(gathered.pairs, good),
    )
    return Judgement(
        quality,
        good,
        reliability((pair.p_best, float(pair.pair_id in good)) for pair in gathered.pairs if pair.scored),
        _precision(by_log_probability, good),
        {
            language: (
                _precision(pairs, good),
                _precision([pair for pair in pairs if pair.kept], good),
                _recall(pairs, good),
            )
            for language, pairs in sorted(language_pairs.items())
        },
    )


def draft_right(page: Truth, response: str, instruction: str) -> bool:
    """Whether `instruction` is right for the document of the page that `response` is; False when it is none of them."""
    return any(
        f1(response, document["text"], page["language"]) >= F1_MIN
        and instruction_right(instruction, slots_from(document["slots"]))
        for document in page["documents"]
    )


def reliability(said_and_true: Iterable[tuple[float, float]]) -> list[tuple[float, float, int]]:
    """Bins of (P(best), 1 or the share of those who know that call it good): mean of each, and how many there are."""
    bins: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for said, true in said_and_true:
        bins[min(int(said * RELIABILITY_BINS), RELIABILITY_BINS - 1)].append((said, true))
    return [
        (mean(said for said, _ in found), mean(true for _, true in found), len(found))
        for _, found in sorted(bins.items())
    ]


def _good(pair: Pair, pages: Mapping[str, Truth]) -> bool:
    page = pages.get(pair.url)
    return page is not None and bool(page["admissible"]) and draft_right(page, pair.response, pair.instruction)


def _extraction_f1(documents: Sequence[Document], pages: Mapping[str, Truth]) -> float:
    texts: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        if document.url in pages and pages[document.url]["admissible"]:
            texts[document.url].append(document)
    return _mean(
        f1(
            "\n\n".join(x.text for x in sorted(found, key=lambda x: x.ordinal)),
            pages[url]["main_text"],
            pages[url]["language"],
        )
        for url, found in texts.items()
    )


def _language_right(document: Document, pages: Mapping[str, Truth]) -> bool:
    return document.url in pages and pages[document.url]["language"] == document.language


def _policy_violations(documents: Sequence[Document], pages: Mapping[str, Truth], fetched_paths: Iterable[str]) -> int:
    closed = {urlsplit(url).path for url, page in pages.items() if page["reason"] == DENIED_TO_FETCH}
    refused = {url for url, page in pages.items() if (page["reason"] or "").startswith(OPT_OUT_PREFIX)}
    return sum(path in closed for path in fetched_paths) + sum(document.url in refused for document in documents)


def _leaked(documents: Sequence[Document], pages: Mapping[str, Truth]) -> int:
    return sum(datum in document.text for document in documents for datum in pages.get(document.url, {}).get("pii", ()))


def duplicate_clusters(pages: Mapping[str, Truth]) -> dict[str, set[str]]:
    """URL of an original → URLs of it and its admissible near-duplicates, two at least."""
    clusters: dict[str, set[str]] = defaultdict(set)
    for url, page in pages.items():
        if page["near_duplicate_of"] and page["admissible"]:
            clusters[page["near_duplicate_of"]] |= {url, page["near_duplicate_of"]}
    return dict(clusters)


def _duplicate_recall(pairs: Sequence[Pair], pages: Mapping[str, Truth]) -> float:
    published = {pair.url for pair in pairs if pair.published}
    return _mean(len(cluster & published) <= 1 for cluster in duplicate_clusters(pages).values())


def _duplicate_false_ratio(pairs: Sequence[Pair], pages: Mapping[str, Truth]) -> float:
    published = {pair.url for pair in pairs if pair.published}
    kept = {pair.url for pair in pairs if pair.kept}
    return _mean(not cluster & published for cluster in duplicate_clusters(pages).values() if cluster & kept)


def _admitted_recall(documents: Sequence[Document], pages: Mapping[str, Truth]) -> float:
    admitted = {document.url for document in documents}
    return _mean(url in admitted for url, page in pages.items() if page["admissible"])


def _draft_right(gathered: Gathered, pages: Mapping[str, Truth]) -> float:
    right = {
        pair.document_id
        for pair in gathered.pairs
        if pair.url in pages and draft_right(pages[pair.url], pair.response, pair.instruction)
    }
    return _mean(document.document_id in right for document in gathered.documents)


def _precision(pairs: Sequence[Pair], good: frozenset[str]) -> float:
    return _mean(pair.pair_id in good for pair in pairs)


def _recall(pairs: Sequence[Pair], good: frozenset[str]) -> float:
    return _mean(pair.kept for pair in pairs if pair.pair_id in good)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return mean(map(float, listed)) if listed else math.nan
