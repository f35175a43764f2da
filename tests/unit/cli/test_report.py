"""The report: figures against the truth, charts, the page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from xinstruct.cli.report import charts
from xinstruct.cli.report.drafts import Drafts, before_and_after
from xinstruct.cli.report.fonts import FONTS, families, font_css
from xinstruct.cli.report.gather import Document, Gathered, Pair, Round, _pair
from xinstruct.cli.report.page import Run, write_page
from xinstruct.cli.report.quality import Judgement, judge
from xinstruct.cli.report.verbs import verb_and_noun, verb_noun_counts
from xinstruct.cli.report.write import report_values, write_report
from xinstruct.curation.takedown import names_any
from xinstruct.v1.curation_service_pb2 import Release, Row

SITE = "http://127.0.0.1:8780"
TEXT = "Ziwa Mbasi liko kaskazini. Maji yake ni baridi."
OTHER = "Mji wa Tolemba una soko kubwa. Watu huja kila siku."


def page(path: str, text: str = TEXT, **changes: Any) -> dict[str, Any]:
    """A line of the truth: an admissible Swahili page of one document about Mbasi."""
    slots = [{"name": "entity", "accepts": ["Mbasi", "Ziwa Mbasi"]}, {"name": "intent", "accepts": ["describe"]}]
    line = {
        "url": SITE + path,
        "language": "sw",
        "admissible": True,
        "reason": None,
        "near_duplicate_of": None,
        "main_text": text,
        "documents": [{"text": text, "instruction": "Describe Mbasi.", "slots": slots}],
        "pii": [],
    }
    return line | changes


def pair(path: str, **changes: Any) -> Pair:
    """A good, kept, published pair of that page."""
    made = Pair(
        f"pair {path}",
        f"document {path}",
        f"page {path}",
        SITE + path,
        "sw",
        "Describe the lake Mbasi.",
        TEXT,
        -0.1,
        0.9,
        0.06,
        0.04,
        kept=True,
        published=True,
        cluster=0,
    )
    return replace(made, **changes)


def document(path: str, **changes: Any) -> Document:
    """The document of that page."""
    return replace(Document(f"document {path}", f"page {path}", SITE + path, "sw", 0, TEXT, 0), **changes)


def gathered(pairs: list[Pair], documents: list[Document]) -> Gathered:
    """A catalog with these."""
    release = Release(name="demo-1", pairs_count=sum(pair.published for pair in pairs))
    counts = {"pages_fetched": 9, "documents_admitted": len(documents), "pairs_drafted": len(pairs)}
    counts |= dict.fromkeys(("pairs_scored", "pairs_kept", "pairs_published"), len(pairs))
    rounds = [Round(0, "generator", "job", "sha256:1", 10, 0.5, {"exact": 0.75, "name": "x"})]
    return Gathered({"sw": counts}, {"admit/too_short": 3}, {}, pairs, documents, rounds, release)


def judged(pairs: list[Pair], documents: list[Document], truth: list[dict[str, Any]], *fetched: str) -> Judgement:
    """The judgement of such a catalog."""
    return judge(gathered(pairs, documents), truth, fetched_paths=fetched, right_before=0.0)


def test_a_perfect_run_has_perfect_figures() -> None:
    quality = judged([pair("/a")], [document("/a")], [page("/a")], "/a", "/robots.txt").quality
    assert quality.plain() == {
        "extraction_f1": 1.0,
        "language_accuracy": 1.0,
        "policy_violations": 0,
        "pii_leaked": 0,
        "duplicate_recall": None,
        "duplicate_false_ratio": None,
        "admitted_recall": 1.0,
        "draft_right_before": 0.0,
        "draft_right": 1.0,
        "precision_drafted": 1.0,
        "precision_kept": 1.0,
        "recall_kept": 1.0,
    }


@pytest.mark.parametrize(
    ("instruction", "right"),
    [
        ("Describe Mbasi", True),
        ("DESCRIBE ziwa mbasi!", True),
        ("Describe Mbasini", False),
        ("Say what Mbasi is", False),
        ("Describe Mbasi's shores", True),
        ("Describe the residents’ reactions to 'Mbasi'", True),
    ],
)
def test_a_pair_is_good_when_its_instruction_names_every_slot_as_whole_words(instruction: str, right: bool) -> None:
    found = judged([pair("/a", instruction=instruction)], [document("/a")], [page("/a")])
    assert (found.quality.precision_drafted, found.quality.draft_right) == (float(right), float(right))


def test_a_pair_of_an_inadmissible_page_or_another_text_is_not_good() -> None:
    inadmissible = page("/a", admissible=False, reason="keyword_spam")
    assert judged([pair("/a")], [document("/a")], [inadmissible]).quality.precision_drafted == 0.0
    assert judged([pair("/a", response=OTHER)], [document("/a")], [page("/a")]).quality.precision_drafted == 0.0
    assert judged([pair("/unknown")], [document("/unknown")], [page("/a")]).quality.precision_drafted == 0.0


def test_violations_are_closed_addresses_that_were_asked_for_and_refusing_pages_that_were_used() -> None:
    truth = [
        page("/x", admissible=False, reason="robots_disallowed"),
        page("/t", admissible=False, reason="opt_out_tdm"),
        page("/a"),
    ]
    assert judged([], [document("/a"), document("/t")], truth, "/a", "/x", "/t").quality.policy_violations == 2


def test_planted_personal_data_is_counted_where_it_comes_out() -> None:
    truth = [page("/a", pii=["+255 7", "a@b.example"])]
    leaking = document("/a", text=f"{TEXT} +255 7")
    assert judged([], [leaking], truth).quality.pii_leaked == 1


def test_a_duplicate_cluster_publishes_one_page() -> None:
    truth = [
        page("/a"),
        page("/b", near_duplicate_of=f"{SITE}/a"),
        page("/c"),
        page("/d", near_duplicate_of=f"{SITE}/c"),
    ]
    once = [pair("/a"), pair("/b", published=False), pair("/c"), pair("/d")]
    quality = judged(once, [], truth).quality
    assert (quality.duplicate_recall, quality.duplicate_false_ratio) == (0.5, 0.0)
    none = [pair("/a", published=False), pair("/b", published=False, kept=False)]
    assert judged(none, [], truth).quality.duplicate_false_ratio == 1.0


def test_the_page_says_what_its_figures_are_shares_of() -> None:
    found = gathered([pair("/a")], [document("/a")])
    html = write_page(found, Run("A title", ["sw"]), judged([pair("/a")], [document("/a")], [page("/a")]))
    assert "mean over admissible pages that were admitted" in html
    assert "of all clusters at most one page published; – of those with a kept pair publish none" in html


def test_a_document_without_a_draft_counts_as_wrong() -> None:
    assert judged([pair("/a")], [document("/a"), document("/b")], [page("/a"), page("/b")]).quality.draft_right == 0.5


def test_extraction_joins_the_documents_of_a_page_in_their_order() -> None:
    whole = page("/a", text=f"{TEXT}\n\n{OTHER}")
    parts = [document("/a", ordinal=1, text=OTHER), document("/a", ordinal=0)]
    assert judged([], parts, [whole]).quality.extraction_f1 == 1.0
    assert judged([], parts[:1], [whole]).quality.extraction_f1 < 0.8


def test_reliability_compares_what_is_said_with_what_is_true() -> None:
    pairs = [pair("/a", p_best=0.95), pair("/b", p_best=0.95, instruction="No."), pair("/c", p_best=math.nan)]
    found = judged(pairs, [], [page("/a"), page("/b"), page("/c")])
    assert [(round(said, 2), true, count) for said, true, count in found.reliability] == [(0.95, 0.5, 2)]


def test_no_column_is_wider_than_a_narrow_screen() -> None:
    html = write_page(gathered([], []), Run("A title", ["sw"]), None)
    assert re.findall(r"minmax\(([^,]+,)", html) == ["min(300px,", "min(420px,"]


def test_without_a_truth_calibration_is_held_against_reviewers() -> None:
    pairs = [pair("/a", p_best=0.9, reviewed_best=1.0), pair("/b", p_best=0.9, reviewed_best=0.5), pair("/c")]
    unscored = pair("/d", p_best=math.nan, reviewed_best=0.0)
    html = write_page(gathered([*pairs, unscored], []), Run("Own site", ["sw"]), None)
    assert "<title>said 0.90, true 0.75, 2 pairs</title>" in html and "share of reviewers who say best" in html
    assert "the labels of reviewers, 2 pairs in all" in html and "No chart" not in html


def test_without_truth_and_reviews_the_report_says_why_there_is_no_calibration() -> None:
    html = write_page(gathered([pair("/a")], []), Run("Own site", ["sw"]), None)
    assert "<h3>Calibration</h3>" in html and "No chart: nobody has said which of these pairs are good" in html
    assert "share that is good" not in html


def test_the_share_of_reviewers_who_call_a_pair_best_is_gathered() -> None:
    row = Row(kept=True)
    row.pair.pair_id = "pair"
    assert math.isnan(_pair(row, "").reviewed_best)
    for reviewer, label in (("r1", "best"), ("r2", "reasonable"), ("r3", "best"), ("r4", "worst")):
        row.reviews.add(reviewer=reviewer, label=label)
    assert _pair(row, "").reviewed_best == 0.5


@pytest.mark.parametrize(
    ("instruction", "found"),
    [
        ("Write a short report about the festival.", ("write", "report")),
        ("Please explain how people catch eels.", ("explain", "how")),
        ("How do people cook it?", ("how", "do")),
        ("Answer the visitors' questions.", ("answer", "questions")),
        ("Describe the residents’ reactions.", ("describe", "reactions")),
        ("Summarize Mbasi's history.", ("summarize", "history")),
        ("Write a 'how-to' guide.", ("write", "how-to")),
        ("Describe Näätälä.", ("describe", "näätälä")),
        ("Mbasi?", ("other", "other")),
        ("", ("other", "other")),
    ],
)
def test_the_verb_that_asks_and_its_noun(instruction: str, found: tuple[str, str]) -> None:
    assert verb_and_noun(instruction) == found


def test_verbs_come_with_their_commonest_nouns() -> None:
    counted = verb_noun_counts(["Write a report.", "Write a report.", "Write a recipe.", "Describe the lake."])
    assert counted == [("write", 3, [("report", 2), ("recipe", 1)]), ("describe", 1, [("lake", 1)])]


@pytest.mark.parametrize(
    "svg",
    [
        charts.bars([("<b>&", 3), ("none", 0)]),
        charts.funnel([("fetched", 10), ("kept", 0), ("published", 0)]),
        charts.histogram({"a": [0.1, 2, -3], "b": []}, low=0, high=1),
        charts.reliability([(0.1, 0.0, 1), (0.9, 1.0, 50)]),
        charts.funnel([]),
        charts.reliability([]),
    ],
)
def test_every_chart_is_well_formed(svg: str) -> None:
    ElementTree.fromstring(svg)


def test_values_outside_the_axis_count_in_its_end_bins() -> None:
    assert charts.bin_counts([-5, 0, 0.49, 0.5, 1, 9], 0, 1, 2) == [3, 3]


def test_only_fonts_that_are_needed_are_embedded() -> None:
    urdu = font_css(["Arab"])
    assert urdu.count("@font-face") == sum(not font.scripts for font in FONTS) + 1
    assert "Report Nastaliq" in urdu and "Report Thai" not in urdu
    assert families("Arab").startswith('"Report Nastaliq", "Report"')


def test_the_page_escapes_loads_nothing_and_sets_urdu_from_right_to_left() -> None:
    evil = pair("/a", language="ur", instruction='<script>alert("x")</script>', response="<img src=x>\n\nپیراگراف")
    html = write_page(gathered([evil], []), Run("A title", ["ur"]), None)
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    assert re.search(r'<div class="answer t-ur" lang="ur" dir="rtl"><p>&lt;img src=x&gt;</p><p>پیراگراف</p>', html)
    assert not re.search(r'(?:src|href)="?https?:|url\(https?:|@import', html)


def test_every_document_whose_text_is_shown_is_named_by_its_page(tmp_path: Path) -> None:
    """A takedown finds a report by ids and URLs alone."""
    shown = before_and_after([(document("/only-here"), "an untuned draft")], [pair("/only-here", published=False)])
    write_report(tmp_path, gathered([], []), Run("A title", ["sw"], drafts=shown), None)
    for name in ("report.html", "report.json"):
        content = (tmp_path / name).read_bytes()
        assert TEXT.encode() in content and b"an untuned draft" in content and b"Describe the lake Mbasi." in content
        assert names_any(content, {f"{SITE}/only-here"})


def test_a_draft_before_tuning_stands_beside_the_one_after() -> None:
    pairs = [pair("/a", pair_id="1", published=False, instruction="Unpublished."), pair("/a", pair_id="2"), pair("/b")]
    long = document("/c", text="Maji\n" * 200)
    shown = before_and_after([(document("/a"), "= wa = wa"), (long, "wa " * 200)], pairs)
    assert shown[0] == Drafts(f"{SITE}/a", "sw", TEXT, "= wa = wa", "Describe the lake Mbasi.")
    assert (len(shown[1].text), len(shown[1].before), shown[1].after) == (90, 160, "")
    html = write_page(gathered([], []), Run("A title", ["sw"], drafts=shown), None)
    rows = re.findall(r"<tr><td data-of=.*?</tr>", html)
    assert [row.count("<td") for row in rows] == [3, 3]
    assert "Describe the lake Mbasi." in rows[0] and "no draft passed the guards" in rows[1]


@pytest.mark.parametrize(("count", "rows"), [(0, 0), (1, 1), (12, 12), (19, 19), (20, 10), (120, 10), (121, 11)])
def test_the_drafts_that_are_shown_are_few_and_of_every_part(count: int, rows: int) -> None:
    shown = before_and_after([(document(f"/{number}"), "x") for number in range(count)], [])
    step = max(count // 10, 1)
    assert [item.url for item in shown] == [f"{SITE}/{number}" for number in range(0, count, step)]
    assert len(shown) == rows


def test_the_files_are_written_and_small_enough(tmp_path: Path) -> None:
    found = gathered([pair("/a")], [document("/a")])
    run = Run("A title", ["fi", "id", "th", "tr", "vi", "bn", "hi", "sw", "ta", "ur"], {"crawl": 1.5}, 12.0, 700.0, 4)
    judgement = judge(found, [page("/a")], fetched_paths=[], right_before=0.0)
    write_report(tmp_path, found, run, judgement)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == report_values(found, run, judgement)


def test_report_json_has_the_promised_keys() -> None:
    found = gathered([pair("/a")], [document("/a")])
    values = report_values(found, Run("x", ["sw"], {"crawl": 1.5}, 12.0, 700.0, 4), judged([], [], []))
    assert list(values) == [
        "seed",
        "languages",
        "funnel",
        "truth",
        "rounds",
        "seconds",
        "wall_s",
        "peak_memory_mb",
        "release",
        "drafts",
    ]
    assert values["release"] == "demo-1"
    assert report_values(found, Run("x", ["sw"]), None)["truth"] is None
