"""Writes report.html and report.json beside each other."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xinstruct.cli.report.gather import Gathered
from xinstruct.cli.report.page import Run, write_page
from xinstruct.cli.report.quality import Judgement


def write_report(out: Path, gathered: Gathered, run: Run, judgement: Judgement | None) -> None:
    """Write both files into the folder `out`."""
    (out / "report.html").write_text(write_page(gathered, run, judgement), "utf-8")
    values = report_values(gathered, run, judgement)
    (out / "report.json").write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", "utf-8")


def report_values(gathered: Gathered, run: Run, judgement: Judgement | None) -> dict[str, Any]:
    """What report.json holds; "truth" is null where no truth is known."""
    return {
        "seed": run.seed,
        "languages": list(run.languages),
        "funnel": {code: dict(gathered.funnel.get(code, {})) for code in run.languages},
        "truth": judgement.quality.plain() if judgement else None,
        "rounds": [
            {
                "round": item.number,
                "role": item.role,
                "job": item.job_name,
                "model": item.model_digest,
                "steps": item.steps_count,
                "loss": _finite(item.loss),
                "metrics": dict(item.metrics),
            }
            for item in gathered.rounds
        ],
        "seconds": dict(run.seconds),
        "wall_s": _finite(run.wall_s),
        "peak_memory_mb": _finite(run.peak_memory_mb),
        "release": gathered.release.name if gathered.release else None,
        "drafts": [asdict(item) for item in run.drafts],
    }


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
