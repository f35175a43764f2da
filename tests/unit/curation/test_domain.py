"""Rules of selection, of publication within a cluster, and of suppression."""

from __future__ import annotations

import random
from typing import Any

import pytest

from xinstruct.curation.domain import (
    Candidate,
    ReleaseOutcome,
    choose_generator,
    label_outcome,
    normal_target,
    reviewed_worst,
    select,
    suppression_keys,
)
from xinstruct.spine.messages import TakedownKind


def candidate(pair_id: str, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "document_id": f"doc-{pair_id}", "language": "sw", "instruction": f"Describe {pair_id}.", "response_chars": 500,
        "p_best": 0.8, "p_reasonable": 0.1, "p_worst": 0.1,
    }
    return Candidate(pair_id, **(values | changes))


def outcomes(*candidates: Candidate, clusters: dict[str, int] | None = None) -> dict[str, tuple[ReleaseOutcome, str]]:
    """What becomes of each pair; documents are no duplicates unless `clusters` says so."""
    own = {c.document_id: 1000 + index for index, c in enumerate(candidates)}
    kept, decisions = select(candidates, own | (clusters or {}), thresholds={"sw": 0.5, "ur": 0.9})
    found = {d.pair_id: (d.outcome, d.detail) for d in decisions}
    return found | {c.pair_id: (ReleaseOutcome.PUBLISHED, "") for c in kept}


def check_label(best: float, reasonable: float, worst: float, expected: ReleaseOutcome) -> None:
    assert label_outcome(candidate("a", p_best=best, p_reasonable=reasonable, p_worst=worst), 0.5) is expected


def test_best_is_kept_from_the_threshold_on() -> None:
    check_label(0.5, 0.25, 0.25, ReleaseOutcome.PUBLISHED)
    check_label(0.4999, 0.25, 0.2501, ReleaseOutcome.BELOW_THRESHOLD)
    check_label(0.4, 0.45, 0.15, ReleaseOutcome.NOT_BEST)
    check_label(0.5, 0.5, 0.0, ReleaseOutcome.PUBLISHED)


@pytest.mark.parametrize(
    ("labels", "worst"),
    [
        ("", False), ("worst", True), ("best", False), ("best worst", True), ("reasonable worst best", False),
        ("worst best worst", True), ("worst best best", False), ("reasonable reasonable", False),
    ],
)
def test_half_of_its_reviewers_speak_against_a_pair(labels: str, worst: bool) -> None:
    assert reviewed_worst(labels.split()) is worst


def test_a_pair_that_reviewers_call_worst_makes_room_for_the_next_candidate() -> None:
    pairs = [candidate("a", document_id="d"), candidate("b", document_id="d", p_best=0.7), candidate("c", p_best=0.2)]
    labels = {"a": ("best", "worst"), "c": ("worst",)}
    kept, decisions = select(pairs, {"d": 0, "doc-c": 1}, thresholds={"sw": 0.5}, labels=labels)
    assert [row.pair_id for row in kept] == ["b"]
    assert {d.pair_id: (d.outcome, d.detail) for d in decisions} == {
        "a": (ReleaseOutcome.REVIEWED_WORST, "1 of 2"), "c": (ReleaseOutcome.BELOW_THRESHOLD, "0.200000"),
    }


def test_a_language_has_its_own_threshold() -> None:
    found = outcomes(candidate("a", language="ur"), candidate("b", language="sw"))
    assert found["a"] == (ReleaseOutcome.BELOW_THRESHOLD, "0.800000") and found["b"][0] is ReleaseOutcome.PUBLISHED


def test_of_one_document_the_likeliest_candidate_is_published() -> None:
    found = outcomes(candidate("a", document_id="d", p_best=0.7), candidate("b", document_id="d", p_best=0.9))
    assert found == {"a": (ReleaseOutcome.OTHER_CANDIDATE, "b"), "b": (ReleaseOutcome.PUBLISHED, "")}


def test_of_a_cluster_the_longest_text_then_the_smallest_id_is_published() -> None:
    longest = [candidate(name, response_chars=chars) for name, chars in (("a", 900), ("b", 901), ("c", 901))]
    found = outcomes(*longest, clusters=dict.fromkeys(("doc-a", "doc-b", "doc-c"), 1))
    assert {pair: outcome for pair, (outcome, _) in found.items()} == {
        "a": ReleaseOutcome.DUPLICATE, "b": ReleaseOutcome.PUBLISHED, "c": ReleaseOutcome.DUPLICATE,
    }
    assert found["a"][1] == found["c"][1] == "b"


def test_a_cluster_whose_longest_member_is_not_kept_publishes_its_next() -> None:
    found = outcomes(
        candidate("a", response_chars=900, p_best=0.2, p_worst=0.7), candidate("b"), clusters={"doc-a": 1, "doc-b": 1}
    )
    assert found["b"][0] is ReleaseOutcome.PUBLISHED and found["a"][0] is ReleaseOutcome.NOT_BEST


def test_one_instruction_is_published_twice_a_language_at_most() -> None:
    found = outcomes(
        candidate("a", instruction="Describe  Lake Mbasi."),
        candidate("b", instruction="describe lake mbasi", p_best=0.9),
        candidate("c", instruction="Describe Lake Mbasi!", p_best=0.85),
        candidate("d", instruction="Describe Lake Mbasi.", language="ur", p_best=0.95),
    )
    assert found["a"] == (ReleaseOutcome.SAME_INSTRUCTION, "b")
    assert found["b"][0] is found["c"][0] is found["d"][0] is ReleaseOutcome.PUBLISHED


def test_the_order_of_arrival_changes_nothing() -> None:
    rows = [candidate(f"{i:02d}", p_best=0.5 + (i % 5) / 20, response_chars=300 + i % 3) for i in range(60)]
    clusters = {row.document_id: index % 20 for index, row in enumerate(rows)}
    expected = outcomes(*rows, clusters=clusters)
    random.Random(1).shuffle(rows)
    assert outcomes(*rows, clusters=clusters) == expected


def test_nothing_gives_nothing() -> None:
    assert select([], {}, thresholds={}) == ([], [])


@pytest.mark.parametrize(
    ("newest_first", "documents_count", "expected"),
    [
        (["g2", "g1"], {"g1": 100, "g2": 1}, "g1"),
        (["g2", "g1"], {"g1": 100, "g2": 49}, "g1"),
        (["g2", "g1"], {"g1": 100, "g2": 50}, "g2"),
        (["g3", "g2", "g1"], {"g1": 100, "g2": 60, "g3": 1}, "g2"),
        (["g1", "g2"], {"g1": 60, "g2": 100}, "g1"),
        (["g3"], {"g1": 5, "g2": 5, "g0": 1}, "g1"),
        (["g1"], {}, ""),
    ],
)
def test_a_release_names_the_newest_generator_that_has_drafted_half_of_what_the_busiest_did(
    newest_first: list[str], documents_count: dict[str, int], expected: str
) -> None:
    assert choose_generator(newest_first, documents_count) == expected


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        (TakedownKind.URL, " HTTP://Example.ORG/Path?q=1#part ", "http://example.org/Path?q=1"),
        (TakedownKind.URL, "http://example.org", "http://example.org/"),
        (TakedownKind.HOST, "https://Example.org:8080/", "example.org:8080"),
        (TakedownKind.URL, "https://x.example/käytä", "https://x.example/k%C3%A4yt%C3%A4"),
        (TakedownKind.URL, "https://x.example:443/%e0%a6%95//a/../b", "https://x.example/%E0%A6%95/b"),
        (TakedownKind.URL, "https://bücher.example/", "https://xn--bcher-kva.example/"),
        (TakedownKind.URL, "HTTP://x.example/p#row=3", "http://x.example/p#row=3"),
        (TakedownKind.URL, "s3://bucket/rows.jsonl#row=3", "s3://bucket/rows.jsonl#row=3"),
        (TakedownKind.HOST, "Bücher.example", "xn--bcher-kva.example"),
        (TakedownKind.DOCUMENT, "AbC", "AbC"),
    ],
)
def test_targets_are_compared_in_one_form(kind: TakedownKind, target: str, expected: str) -> None:
    assert normal_target(kind, target) == expected


def test_a_url_covers_the_rows_that_name_it_and_a_row_only_itself() -> None:
    keys = suppression_keys("http://a.example/x#row=3", "a.example", [])
    assert {("url", "http://a.example/x"), ("url", "http://a.example/x#row=3")} <= set(keys)
    assert ("url", "http://a.example/x#row=3") not in suppression_keys("http://a.example/x", "a.example", [])


def test_a_host_without_port_covers_every_port() -> None:
    keys = suppression_keys("http://a.example:81/x", "a.example:81", ["page"])
    assert keys == [
        ("url", "http://a.example:81/x"), ("host", "a.example"), ("host", "a.example:81"), ("document", "page"),
    ]
