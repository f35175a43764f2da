"""Pure rules: what is kept, which member of a duplicate cluster is published, what a suppression covers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from xinstruct.spine.errors import Invalid
from xinstruct.spine.messages import LabelReading, TakedownKind
from xinstruct.urls import ROW_MARK, canonical_url, normal_host

WORST = "worst"
SAME_INSTRUCTION_ROWS_MAX = 2
"""Not one: two texts may well answer one instruction, and a text should not vanish because another drew its question.
Not more: a generator that says the same about everything must not fill a release with it."""


class ReleaseOutcome(StrEnum):
    """What a release decided about a pair that the evaluator labelled. Metric label and word of `why`."""

    PUBLISHED = "published"
    NOT_BEST = "not_best"
    BELOW_THRESHOLD = "below_threshold"
    REVIEWED_WORST = "reviewed_worst"
    OTHER_CANDIDATE = "other_candidate"
    DUPLICATE = "duplicate"
    SAME_INSTRUCTION = "same_instruction"
    NEAR_INSTRUCTION = "near_instruction"
    CLUSTER_QUOTA = "cluster_quota"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair with its labels by the release's evaluator. `response_chars`: code points of the document's text."""

    pair_id: str
    document_id: str
    language: str
    instruction: str
    response_chars: int
    p_best: float
    p_reasonable: float
    p_worst: float
    reading: LabelReading = LabelReading.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a pair. `cluster` -1: it was not clustered. `detail`: the id or number behind the outcome."""

    pair_id: str
    document_id: str
    language: str
    outcome: ReleaseOutcome
    cluster: int = -1
    detail: str = ""


def select(
    candidates: Iterable[Candidate], clusters: Mapping[str, int], *, thresholds: Mapping[str, float],
    labels: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[list[Candidate], list[Decision]]:
    """The pairs fit to be published, sorted by id, and a decision about every other one.

    `clusters`: document id → duplicate cluster; `thresholds`: language → P(best); `labels`: pair id → its
    reviewers' labels. Kept is what is labelled best with P(best) at or above the threshold, unless its reviewers say
    worst (`reviewed_worst`); of a document the likeliest candidate; of a duplicate cluster one document
    (`representative`); of one instruction in a language the likeliest SAME_INSTRUCTION_ROWS_MAX pairs. The order of
    `candidates` does not matter.
    """
    kept: list[Candidate] = []
    decisions: list[Decision] = []
    for candidate in candidates:
        outcome = label_outcome(candidate, thresholds[candidate.language])
        given = labels.get(candidate.pair_id, ())
        if outcome is ReleaseOutcome.PUBLISHED and reviewed_worst(given):
            worst = f"{given.count(WORST)} of {len(given)}"
            decisions.append(_gone(candidate, ReleaseOutcome.REVIEWED_WORST, worst))
        elif outcome is ReleaseOutcome.PUBLISHED:
            kept.append(candidate)
        else:
            decisions.append(_gone(candidate, outcome, f"{candidate.p_best:.6f}"))
    kept = _first_of_each(kept, lambda item: item.document_id, likelihood, ReleaseOutcome.OTHER_CANDIDATE, decisions)
    kept = _first_of_each(
        kept, lambda item: clusters[item.document_id], representative, ReleaseOutcome.DUPLICATE, decisions
    )
    kept = _first_of_each(
        kept, _instruction_key, likelihood, ReleaseOutcome.SAME_INSTRUCTION, decisions, SAME_INSTRUCTION_ROWS_MAX
    )
    return sorted(kept, key=lambda item: item.pair_id), decisions


def label_outcome(candidate: Candidate, threshold: float) -> ReleaseOutcome:
    """PUBLISHED when the label is best and P(best) ≥ `threshold`; else why not. A tie for the top counts as best."""
    if candidate.p_best < max(candidate.p_reasonable, candidate.p_worst):
        return ReleaseOutcome.NOT_BEST
    return ReleaseOutcome.PUBLISHED if candidate.p_best >= threshold else ReleaseOutcome.BELOW_THRESHOLD


def reviewed_worst(labels: Sequence[str]) -> bool:
    """Whether half or more of a pair's reviewers, by their latest labels, say worst: a tie counts against the pair."""
    return bool(labels) and 2 * labels.count(WORST) >= len(labels)


def likelihood(candidate: Candidate) -> tuple[float, str]:
    """Sort key: the likeliest best first, then the smallest id."""
    return (-candidate.p_best, candidate.pair_id)


def representative(candidate: Candidate) -> tuple[int, str]:
    """Sort key within a duplicate cluster: the longest text first, then the smallest document id."""
    return (-candidate.response_chars, candidate.document_id)


def choose_generator(newest_first: Iterable[str], documents_count: Mapping[str, int]) -> str:
    """The one generator of a release: the newest that has drafted half as many documents as any other, or more.

    A promotion affects later documents only, so right after one the catalog holds drafts of the generator before; a
    release that went over with the first draft of the new one would be almost empty. `newest_first`: generators, the
    promoted one before all; `documents_count`: generator → documents with a labelled pair of it. Empty when there are
    none at all.
    """
    enough = max(documents_count.values(), default=0) / 2
    most_first = sorted(documents_count, key=lambda digest: (-documents_count[digest], digest))
    return next((digest for digest in (*newest_first, *most_first) if documents_count.get(digest, -1) >= enough), "")


def _instruction_key(candidate: Candidate) -> tuple[str, str]:
    return candidate.language, " ".join(candidate.instruction.casefold().split()).rstrip(".!?")


def _first_of_each(
    candidates: Sequence[Candidate], group: Callable[[Candidate], Hashable], order: Callable[[Candidate], Any],
    outcome: ReleaseOutcome, decisions: list[Decision], each_max: int = 1,
) -> list[Candidate]:
    """The first `each_max` by `order` of each `group`; the others go to `decisions`, with the first one's pair id."""
    winners: dict[Hashable, list[Candidate]] = {}
    for candidate in sorted(candidates, key=order):
        found = winners.setdefault(group(candidate), [])
        if len(found) < each_max:
            found.append(candidate)
        else:
            decisions.append(_gone(candidate, outcome, found[0].pair_id))
    return [candidate for found in winners.values() for candidate in found]


def _gone(candidate: Candidate, outcome: ReleaseOutcome, detail: str) -> Decision:
    return Decision(candidate.pair_id, candidate.document_id, candidate.language, outcome, detail=detail)


def normal_target(kind: TakedownKind, target: str) -> str:
    """The form in which a takedown's target is compared: URL and host as the crawler writes them; id as it is.

    A fragment is left out, but for the number of a text file's row. What is no URL or host of the web stays as it is.
    """
    target = target.strip()
    try:
        if kind is TakedownKind.HOST:
            return normal_host(target)
        if kind is TakedownKind.URL:
            page, mark, row = target.partition(ROW_MARK)
            return canonical_url(page) + mark + row
    except Invalid:
        pass
    return target


def suppression_keys(url: str, host: str, ids: Iterable[str]) -> list[tuple[str, str]]:
    """Every (kind, target) of the suppression list that would cover a record from `url` on `host` with `ids`."""
    urls = {url, url.partition(ROW_MARK)[0]} - {""}
    keys = [("url", normal_target(TakedownKind.URL, one)) for one in sorted(urls)]
    if host:
        keys += [("host", name) for name in sorted({host.lower(), host.lower().partition(":")[0]})]
    return keys + [("document", subject) for subject in ids if subject]
