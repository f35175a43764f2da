"""What the figures of recompute.py are shares of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2e.recompute import Pair, Run, compute

TEXT = "Ziwa Mbasi liko kaskazini. Maji yake ni baridi."


def page(url: str, duplicate_of: str | None = None) -> dict[str, Any]:
    """A line of the truth: an admissible page of one document, whose instruction names Mbasi."""
    slots = [{"name": "entity", "accepts": ["Mbasi"]}]
    return {
        "url": url, "language": "sw", "admissible": True, "reason": None, "near_duplicate_of": duplicate_of, "pii": [],
        "main_text": TEXT, "documents": [{"text": TEXT, "instruction": "Describe Mbasi.", "slots": slots}],
    }  # fmt: skip


def figures(admitted: str, kept: str, published: str) -> dict[str, float]:
    """Figures of a run over two duplicate clusters (a and b, c and d) and a page e; which urls came how far."""
    truth = [page("a"), page("b", "a"), page("c"), page("d", "c"), page("e")]
    documents = [{"document_id": u, "url": u, "ordinal": 0, "text": TEXT, "language": "sw"} for u in admitted]
    pairs = [Pair(u, u, u, "sw", "Describe Mbasi.", TEXT, -0.1, u in kept) for u in admitted]
    rows: Sequence[dict[str, Any]] = [{"url": u, "language": "sw", "response": TEXT} for u in published]
    run = Run(["sw"], {line["url"]: line for line in truth}, documents, pairs, rows, [])
    return {figure.name: figure.value for figure in compute(run)}


def test_a_cluster_of_which_nothing_was_kept_counts_in_the_literal_figure_only() -> None:
    found = figures(admitted="abcde", kept="abe", published="ae")
    assert (found["duplicate_none"], found["duplicate_none_over_all_admitted"]) == (0.0, 0.5)


def test_a_cluster_that_was_kept_and_not_published_counts_in_both() -> None:
    found = figures(admitted="abcd", kept="abcd", published="a")
    assert (found["duplicate_none"], found["duplicate_none_over_all_admitted"]) == (0.5, 0.5)


def test_a_page_that_was_not_admitted_counts_in_the_literal_extraction_only() -> None:
    found = figures(admitted="abcd", kept="abcd", published="ac")
    assert (found["extraction_f1"], found["extraction_f1_over_all_admissible"]) == (1.0, 0.8)


def test_a_cluster_of_which_nothing_was_admitted_counts_in_neither() -> None:
    found = figures(admitted="abe", kept="abe", published="ae")
    assert (found["duplicate_none"], found["duplicate_none_over_all_admitted"]) == (0.0, 0.0)
