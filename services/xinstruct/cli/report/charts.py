"""Charts as SVG text: bars, a funnel, histograms, a reliability plot. Pure; every label is escaped.

Colours come from CSS classes of the page (c0…c7), so that a chart follows its light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

WIDTH = 640
ROW = 22
LABEL = 168
VALUE = 64
CLASSES_COUNT = 8
LABEL_CHARS_MAX = 26

Anchor = Literal["start", "middle", "end"]


def bars(rows: Sequence[tuple[str, float]], *, unit: str = "") -> str:
    """Horizontal bars, one a row, the longest at full width, each with its value; "" for no rows."""
    if not rows:
        return ""
    largest = max(value for _, value in rows) or 1.0
    scale = (WIDTH - LABEL - VALUE - 40) / largest
    drawn = []
    for index, (label, value) in enumerate(rows):
        top = index * ROW
        drawn.append(_text(LABEL - 8, top + 15, _cut(label), "end"))
        drawn.append(_rect(0, LABEL, top + 4, value * scale, ROW - 8))
        drawn.append(_text(LABEL + value * scale + 6, top + 15, number(value) + unit, css="value"))
    return _svg(len(rows) * ROW, drawn)


def funnel(steps: Sequence[tuple[str, int]]) -> str:
    """Steps as centred bars, each with its count and its share of the step before."""
    largest = max((count for _, count in steps), default=0) or 1
    span, row = WIDTH - LABEL - 2 * VALUE, 30
    centre = LABEL + span / 2
    drawn = []
    for index, (label, count) in enumerate(steps):
        top, width = index * row, max(span * count / largest, 1.0)
        before = steps[index - 1][1] if index else 0
        share = f" · {count / before:.0%}" if before else ""
        drawn.append(_text(LABEL - 8, top + 19, label, "end"))
        drawn.append(_rect(0, centre - width / 2, top + 3, width, row - 8))
        drawn.append(_text(centre + span / 2 + 12, top + 19, f"{count:,}{share}", css="value"))
    return _svg(len(steps) * row, drawn)


def histogram(series: Mapping[str, Sequence[float]], *, low: float, high: float, bins_count: int = 20) -> str:
    """Counts of each series' values in equal bins of [low, high], side by side; values outside go to the end bins."""
    height, base, left = 150, 128, 42
    counted = [bin_counts(values, low, high, bins_count) for values in series.values()]
    largest = max((count for counts in counted for count in counts), default=0) or 1
    slot = (WIDTH - 60) / bins_count
    width = slot / max(len(counted), 1) * 0.9
    drawn = [f'<line class="axis" x1="40" y1="{base}" x2="{WIDTH - 16}" y2="{base}"/>']
    for place, counts in enumerate(counted):
        for index, count in enumerate(counts):
            tall = count / largest * (base - 12)
            drawn.append(_rect(place, left + index * slot + place * width, base - tall, width, tall))
    drawn.append(_text(36, 20, f"{largest:,}", "end"))
    for part in range(5):
        value = low + part * (high - low) / 4
        drawn.append(_text(left + part * (WIDTH - 60) / 4, base + 15, number(value), "middle"))
    return _svg(height, drawn)


def reliability(points: Sequence[tuple[float, float, int]], *, truth: str = "share that is good") -> str:
    """Said against true: points (mean P(best), `truth`, pairs) on the unit square, area by pairs."""
    size, left, top = 260, 60, 12
    largest = max((count for _, _, count in points), default=0) or 1
    drawn = [
        f'<rect class="frame" x="{left}" y="{top}" width="{size}" height="{size}"/>',
        f'<line class="axis dashed" x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}"/>',
    ]
    for said, true, count in points:
        x, y, radius = left + said * size, top + (1 - true) * size, 3 + 9 * (count / largest) ** 0.5
        title = f"<title>said {said:.2f}, true {true:.2f}, {count} pairs</title>"
        drawn.append(f'<circle class="c0" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{title}</circle>')
    for part in range(5):
        value = part / 4
        drawn.append(_text(left + value * size, top + size + 16, f"{value:g}", "middle"))
        drawn.append(_text(left - 6, top + (1 - value) * size + 4, f"{value:g}", "end"))
    drawn.append(_text(left + size / 2, top + size + 34, "P(best), as the evaluator says", "middle"))
    upright = f'transform="translate(16 {top + size / 2}) rotate(-90)"'
    drawn.append(f'<text class="label" {upright} text-anchor="middle">{escape(truth)}</text>')
    return _svg(size + 52, drawn, width=left + size + 20)


def number(value: float) -> str:
    """A number as short as it can be read: thousands apart, at most two digits behind the point."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def bin_counts(values: Sequence[float], low: float, high: float, bins_count: int) -> list[int]:
    """How many values are in each of the equal bins of [low, high]; values outside count in the end bins."""
    counts = [0] * bins_count
    for value in values:
        place = int((value - low) / (high - low) * bins_count)
        counts[min(max(place, 0), bins_count - 1)] += 1
    return counts


def _rect(place: int, x: float, y: float, width: float, height: float) -> str:
    css = f"c{place % CLASSES_COUNT}"
    return f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="1.5"/>'


def _text(x: float, y: float, text: str, anchor: Anchor = "start", css: str = "label") -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, drawn: Sequence[str], *, width: int = WIDTH) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">{"".join(drawn)}</svg>'


def _cut(label: str) -> str:
    return label if len(label) <= LABEL_CHARS_MAX else label[: LABEL_CHARS_MAX - 1] + "…"
