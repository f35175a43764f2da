"""Writes report.html: one self-contained file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from xinstruct.cli.look import FUNNEL_STEPS
from xinstruct.cli.report import charts
from xinstruct.cli.report.drafts import Drafts
from xinstruct.cli.report.fonts import families, font_css
from xinstruct.cli.report.gather import Gathered, Pair
from xinstruct.cli.report.quality import Judgement, reliability
from xinstruct.cli.report.verbs import verb_noun_counts
from xinstruct.spine.languages import known_language

EXAMPLES_PER_LANGUAGE = 3
EXAMPLE_CHARS_MAX = 700
REASONS_MAX = 24
CLUSTERS_MAX = 30
METRICS_MAX = 8


@dataclass(frozen=True)
class Run:
    """What is known of the run besides its catalog; empty for a report of a factory of one's own."""

    title: str
    languages: Sequence[str]
    seconds: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = math.nan
    peak_memory_mb: float = math.nan
    seed: int | None = None
    drafts: Sequence[Drafts] = ()
    """Of a few documents, before any tuning and after."""


def write_page(gathered: Gathered, run: Run, judgement: Judgement | None) -> str:
    """The page as HTML. Everything that came from the web or from a model is escaped."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string((resources.files("xinstruct.cli.report") / "template.html").read_text("utf-8"))
    languages = [_language(code) for code in run.languages]
    fonts = font_css(language["script"] for language in languages)
    return template.render(
        run=run,
        release=gathered.release,
        steps=[title for _, title in FUNNEL_STEPS],
        fonts=fonts,
        languages=languages,
        funnel_rows=_funnel_rows(gathered, run.languages),
        charts=_charts(gathered, judgement, run),
        figures=_figures(judgement),
        by_language=judgement.precision_by_language if judgement else {},
        rounds=gathered.rounds,
        examples=[_examples(gathered.pairs, code) for code in run.languages],
        verbs=verb_noun_counts(pair.instruction for pair in gathered.pairs if pair.published),
        ratio=_ratio,
        judged=judgement is not None,
        reviewed_count=len(_reviewed(gathered.pairs)),
        metric_names=_metric_names(gathered),
        drafts=run.drafts,
    )


def _charts(gathered: Gathered, judgement: Judgement | None, run: Run) -> dict[str, str]:
    pairs, published = gathered.pairs, [pair for pair in gathered.pairs if pair.published]
    totals = [(title, sum(row.get(name, 0) for row in gathered.funnel.values())) for name, title in FUNNEL_STEPS]
    reasons = sorted(gathered.dropped.items(), key=lambda item: (-item[1], item[0]))[:REASONS_MAX]
    made = {
        "funnel": charts.funnel(totals),
        "reasons": charts.bars(reasons),
        "instruction_lengths": charts.histogram(
            {"published": [len(pair.instruction) for pair in published]}, low=0, high=300, bins_count=30
        ),
        "response_lengths": charts.histogram(
            {"published": [len(pair.response) for pair in published]}, low=0, high=2000, bins_count=40
        ),
        "clusters": _clusters(published),
        "verbs": charts.bars([(verb, count) for verb, count, _ in verb_noun_counts(p.instruction for p in published)]),
        "scores": _scores(pairs, judgement),
        "reliability": "",
        "seconds": charts.bars([(stage, round(seconds, 1)) for stage, seconds in run.seconds.items()], unit=" s"),
    }
    reviewed = _reviewed(pairs)
    if judgement:
        made["reliability"] = charts.reliability(judgement.reliability)
    elif reviewed:
        points = reliability((pair.p_best, pair.reviewed_best) for pair in reviewed)
        made["reliability"] = charts.reliability(points, truth="share of reviewers who say best")
    return made


def _reviewed(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs that can be held against their reviewers."""
    return [pair for pair in pairs if pair.scored and not math.isnan(pair.reviewed_best)]


def _scores(pairs: Sequence[Pair], judgement: Judgement | None) -> str:
    scored = [pair for pair in pairs if pair.scored]
    if judgement is None:
        return charts.histogram({"all": [pair.p_best for pair in scored]}, low=0, high=1)
    return charts.histogram(
        {
            "good": [pair.p_best for pair in scored if pair.pair_id in judgement.good],
            "not good": [pair.p_best for pair in scored if pair.pair_id not in judgement.good],
        },
        low=0,
        high=1,
    )


def _clusters(published: Sequence[Pair]) -> str:
    sizes = Counter((pair.language, pair.cluster) for pair in published)
    spread = Counter(min(size, CLUSTERS_MAX) for size in sizes.values())
    rows = [(f"{size}{'+' if size == CLUSTERS_MAX else ''} pairs", float(spread[size])) for size in sorted(spread)]
    return charts.bars(rows, unit=" clusters")


def _funnel_rows(gathered: Gathered, languages: Sequence[str]) -> list[dict[str, Any]]:
    known = [code for code in languages if code in gathered.funnel]
    others = [code for code in gathered.funnel if code not in known and any(gathered.funnel[code].values())]
    return [
        {
            "name": _language(code)["name"] if code else "not decided",
            "counts": [gathered.funnel[code][name] for name, _ in FUNNEL_STEPS],
        }
        for code in (*known, *others)
    ]


def _figures(judgement: Judgement | None) -> list[tuple[str, str, str]]:
    """The quality figures as (value, name, meaning)."""
    if judgement is None:
        return []
    quality = judgement.quality
    baseline = _ratio(judgement.precision_by_log_probability)
    return [
        (
            _ratio(quality.precision_kept),
            "kept pairs good",
            f"{_ratio(quality.precision_drafted)} of all drafts; {baseline} if as many were kept by log-probability",
        ),
        (_ratio(quality.recall_kept), "good pairs kept", "of the good ones drafted"),
        (_ratio(quality.draft_right), "drafts right", f"{_ratio(quality.draft_right_before)} before fine-tuning"),
        (_ratio(quality.extraction_f1), "extraction F1", "mean over admissible pages that were admitted"),
        (_ratio(quality.admitted_recall), "admissible admitted", "pages with at least one document"),
        (_ratio(quality.language_accuracy), "languages right", "of admitted documents"),
        (
            _ratio(quality.duplicate_recall),
            "duplicates held",
            "of all clusters at most one page published;"
            f" {_ratio(quality.duplicate_false_ratio)} of those with a kept pair publish none",
        ),
        (str(quality.policy_violations), "policy violations", "fetched or admitted against a site's will"),
        (str(quality.pii_leaked), "personal data leaked", "planted addresses and numbers in documents"),
    ]


def _examples(pairs: Sequence[Pair], code: str) -> dict[str, Any]:
    """A few published pairs of a language, likeliest first but one, from different clusters."""
    published = sorted((p for p in pairs if p.published and p.language == code), key=lambda p: (-p.p_best, p.pair_id))
    chosen: dict[int, Pair] = {}
    for pair in published:
        chosen.setdefault(pair.cluster, pair)
    picked = list(chosen.values())[:EXAMPLES_PER_LANGUAGE]
    dropped = [p for p in pairs if p.scored and not p.kept and p.language == code]
    worst = sorted(dropped, key=lambda p: (p.p_best, p.pair_id))[:1]
    return {
        **_language(code),
        "kept": [_example(pair) for pair in picked],
        "dropped": [_example(pair) for pair in worst],
    }


def _example(pair: Pair) -> dict[str, Any]:
    text = pair.response
    paragraphs = (text if len(text) <= EXAMPLE_CHARS_MAX else text[:EXAMPLE_CHARS_MAX].rsplit(" ", 1)[0] + " …").split(
        "\n\n"
    )
    return {"instruction": pair.instruction, "paragraphs": paragraphs, "url": pair.url, "p_best": pair.p_best}


def _language(code: str) -> dict[str, str]:
    found = known_language(code)
    if found is None:
        return {"code": code, "name": code, "autonym": code, "direction": "ltr", "script": "", "families": families("")}
    return {
        "code": code,
        "name": found.english_name,
        "autonym": found.autonym,
        "direction": found.direction,
        "script": found.script,
        "families": families(found.script),
    }


def _metric_names(gathered: Gathered) -> list[str]:
    """Held-out figures that any job has; counts and times are no quality."""
    names = {
        name
        for item in gathered.rounds
        for name, value in item.metrics.items()
        if name.startswith("held_out_") and isinstance(value, int | float)
    }
    return sorted(names)[:METRICS_MAX]


def _ratio(value: float) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1%}" if value not in (0, 1) else f"{value:.0%}"
