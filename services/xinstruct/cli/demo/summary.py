"""What the demo leaves on the screen: a funnel per language, the quality, where things are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

from xinstruct.cli.demo.plan import Plan
from xinstruct.cli.look import FUNNEL_STEPS
from xinstruct.cli.output import print_line, print_table
from xinstruct.spine.languages import language

_FIGURES = (
    ("precision_kept", "kept pairs that are good"),
    ("precision_drafted", "drafted pairs that are good"),
    ("recall_kept", "good pairs that were kept"),
    ("draft_right", "drafts that are right"),
    ("draft_right_before", "the same before fine-tuning"),
    ("extraction_f1", "extraction, F1"),
    ("admitted_recall", "admissible pages admitted"),
    ("language_accuracy", "documents in the right language"),
    ("duplicate_recall", "duplicate clusters published once at most"),
)


def summary_lines(plan: Plan, report: Mapping[str, Any]) -> None:
    """Print the summary on stdout."""
    rows = [
        (language(code).english_name, *(counts.get(name, 0) for name, _ in FUNNEL_STEPS))
        for code, counts in report["funnel"].items()
    ]
    print_table(("language", *(title for _, title in FUNNEL_STEPS)), rows, empty="Nothing came out.")
    truth = report["truth"]
    print_line("Measured against the known truth of the invented sites:")
    for name, meaning in _FIGURES:
        value = truth[name]
        print_line(f"  {'–' if value is None else format(value, '.1%'):>7}  {meaning}")
    print_line(
        f"  {truth['policy_violations']:>7}  policy violations\n  {truth['pii_leaked']:>7}  personal data leaked\n"
    )
    dataset = plan.home / "releases" / report["release"] if report["release"] else "none: nothing was kept"
    # The processes of a run over Kafka are stopped: nobody would answer there.
    command = "xinstruct" if shutil.which("xinstruct") else sys.argv[0]
    ask = "" if plan.kafka else f"\nAsk on   {command} why URL --config {plan.out / 'config' / 'all.yaml'}"
    print_line(
        f"{report['wall_s']:.0f} s, {report['peak_memory_mb']:,.0f} MB at the peak.\n"
        f"Dataset  {dataset}\nReport   {plan.out / 'report.html'}\nFigures  {plan.out / 'report.json'}{ask}"
    )
