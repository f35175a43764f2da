"""The dataset card, README.md of a release: a function of its manifest, so that a rebuild writes the same bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from xinstruct.curation.domain import ReleaseOutcome
from xinstruct.spine.languages import known_language

HOSTS_SHOWN_MAX = 200
_HUB_LICENCES = frozenset({
    "apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "gfdl", "odc-by", "odbl", "pddl",
    "etalab-2.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
})
"""Names of licences for texts and data that the hub knows."""
_CREATIVE_COMMONS = re.compile(r"https?://creativecommons\.org/licenses/([a-z-]+)/([0-9.]+)(?:/.*)?")
_PUBLIC_DOMAIN = re.compile(r"https?://creativecommons\.org/publicdomain/zero/1\.0(?:/.*)?")
_READINGS = {
    "calibrated": "the label's probability, calibrated with the generator's log-probability of the instruction",
    "log_probability": "the label's probability",
    "vote": "a vote: the share of sampled answers that name the label, not a probability",
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render(manifest: Mapping[str, Any]) -> str:
    """The card of the release that `manifest` describes. What an older manifest does not say, its card leaves out."""
    parts = (_front_matter, _headline, _counts, _columns, _method, _limits, _sources, _removal)
    return "\n\n".join(part(manifest) for part in parts) + "\n"


def licence_of(licences: Mapping[str, int]) -> str:
    """The one licence of all rows as the hub names it (lower case), else "other". `licences`: licence → rows.

    Only names that the hub knows: a page may call anything its licence.
    """
    only = next(iter(licences)).lower() if len(licences) == 1 else ""
    named = _CREATIVE_COMMONS.fullmatch(only)
    if named:
        only = f"cc-{named[1]}-{named[2]}"
    elif _PUBLIC_DOMAIN.fullmatch(only):
        only = "cc0-1.0"
    return only if only in _HUB_LICENCES else "other"


def _front_matter(manifest: Mapping[str, Any]) -> str:
    tags = sorted(manifest["languages"])
    rows = manifest["pairs_count"]
    lines = ["---", f"pretty_name: {_quoted(manifest['title'])}", f"license: {licence_of(manifest['licences'])}"]
    lines += ["language:", *(f"- {_quoted(tag)}" for tag in tags), "task_categories:", "- text-generation"]
    lines += ["size_categories:", f"- {next((name for limit, name in _SIZES if rows < limit), 'n>1M')}"]
    lines += ["configs:", "- config_name: default", "  default: true", '  data_files: "data/*/*.parquet"']
    for tag in tags:
        lines += [f"- config_name: {_quoted(tag)}", f'  data_files: "data/{tag}/*.parquet"']
    return "\n".join([*lines, "---"])


def _headline(manifest: Mapping[str, Any]) -> str:
    day = datetime.fromtimestamp(manifest["publish_time_ms"] / 1000, UTC).date().isoformat()
    return (
        f"# {manifest['title']}, release {manifest['name']}\n\n"
        f"{manifest['pairs_count']:,} pairs of an English instruction, written by a model, and a response: native text"
        f" of the web, neither translated nor generated. Published {day} by xinstruct {manifest['code']['xinstruct']}."
    )


def _counts(manifest: Mapping[str, Any]) -> str:
    lines = ["## Rows", "", "| config | language | rows | clusters | hosts | rows reviewed |"]
    lines.append("|---|---|--:|--:|--:|--:|")
    for tag, facts in sorted(manifest["languages"].items()):
        reviewed = _rows_reviewed(manifest, tag)
        known = known_language(tag)
        name = known.english_name if known else tag
        lines.append(f"| {tag} | {name} | {facts['rows']} | {facts['clusters']} | {facts['hosts']} | {reviewed} |")
    return "\n".join([*lines, "", '`load_dataset(folder)` reads all of them, `load_dataset(folder, "…")` one config.'])


def _columns(manifest: Mapping[str, Any]) -> str:
    text = """## Columns

`id` of the pair; `instruction`, English; `response`, the text; `language`, BCP 47; `language_script`, ISO 639-3 and ISO
15924; `url`, `host` and `fetch_time` of the page; `licence`, SPDX id or URL, empty where the page names none;
`document_id`; `cluster` of the instruction within its language; `p_best`, the evaluator's probability of its best
label; `generator` and `evaluator`, digests of the models."""
    if "vote" in manifest.get("readings", {}):
        return text.replace("probability of its best\nlabel;", "share for its best\nlabel (see below);")
    return text


def _method(manifest: Mapping[str, Any]) -> str:
    made = manifest["recipe"]
    spread = made["diversify"]
    outcomes = [o for o in ReleaseOutcome if o is not ReleaseOutcome.REVIEWED_WORST or "reviewed_worst" in made]
    lines = [
        "## How it was made",
        "",
        f"- Generator `{manifest['generator_digest']}` wrote the instructions, evaluator"
        f" `{manifest['evaluator_digest']}` labelled the pairs.",
        *_readings(manifest.get("readings", {})),
        f"- Kept: label best, P(best) at or above {_thresholds(made['best_thresholds'])}.",
        *_reviewed_worst(made),
        f"- Of near-duplicates (equal MinHash values ≥ {made['duplicate_ratio']}): one row. Of an instruction: two.",
        f"- Spread over clusters of the instructions' embeddings (`{made['encoder_model']}`): mode {spread['mode']},"
        f" at most {spread['rows_per_language_max']} rows a language.",
        "- `manifest.json` holds the whole recipe, the models' lineage, the log's offsets and every file's digest.",
        "",
        "| language | " + " | ".join(outcome.value for outcome in outcomes) + " |",
        "|---" + "|--:" * len(outcomes) + "|",
    ]
    for tag, counts in sorted(manifest["funnel"].items()):
        lines.append(f"| {tag} | " + " | ".join(str(counts.get(outcome.value, 0)) for outcome in outcomes) + " |")
    return "\n".join(lines)


def _readings(readings: Mapping[str, int]) -> list[str]:
    told = "; ".join(f"{_READINGS.get(name, name)} ({count:,} rows)" for name, count in sorted(readings.items()))
    return [f"- `p_best` is {told}."] if told else []


def _reviewed_worst(made: Mapping[str, Any]) -> list[str]:
    drops = made.get("reviewed_worst") == "drop"
    return ["- Left out: what half or more of its reviewers label worst."] if drops else []


def _thresholds(thresholds: Mapping[str, float]) -> str:
    if len(set(thresholds.values())) == 1:
        return f"{next(iter(thresholds.values())):g}"
    return ", ".join(f"{value:g} ({tag})" for tag, value in sorted(thresholds.items()))


def _limits(manifest: Mapping[str, Any]) -> str:
    lines = ["## Limits", ""]
    unread = [tag for tag in sorted(manifest["languages"]) if not _rows_reviewed(manifest, tag)]
    if unread:
        lines.append(f"- **Not reviewed by speakers**: {', '.join(unread)}.")
    for tag, facts in sorted(manifest["reviews"].items()):
        lines.append(_review_line(tag, facts, left_out=_left_out(manifest, tag)))
    lines.append("- **Not screened for safety**: texts stand as on their pages, personal data masked by rules.")
    lines.append("- Instructions are a model's guesses at what a text answers; some ask for more or for less.")
    return "\n".join(lines)


def _rows_reviewed(manifest: Mapping[str, Any], tag: str) -> int:
    """Rows of the release that reviewers have read; "reviews" counts those that they had left out as well."""
    return int(manifest["reviews"].get(tag, {}).get("rows_reviewed", 0)) - _left_out(manifest, tag)


def _left_out(manifest: Mapping[str, Any], tag: str) -> int:
    return int(manifest["funnel"].get(tag, {}).get(ReleaseOutcome.REVIEWED_WORST.value, 0))


def _review_line(tag: str, facts: Mapping[str, Any], *, left_out: int) -> str:
    labels = ", ".join(f"{count} {label}" for label, count in sorted(facts["labels"].items()))
    line = f"- Reviewed, {tag}: {facts['rows_reviewed']} rows by {facts['reviewers']} reader(s), labels: {labels}."
    for item in facts["agreement"]:
        kappa = "not defined" if item["kappa"] is None else f"{item['kappa']:.2f}"
        line += f" Two raters on {item['rows']} rows: {item['raw']:.0%} equal, Cohen's kappa {kappa}."
    return line + (f" {left_out} of them are left out." if left_out else "")


def _sources(manifest: Mapping[str, Any]) -> str:
    hosts = sorted(manifest["hosts"].items(), key=lambda item: (-item[1], item[0]))
    lines = ["## Sources and licences", "", "The responses are the work of the people behind these hosts (rows):", ""]
    lines += [f"- {host} ({count})" for host, count in hosts[:HOSTS_SHOWN_MAX]]
    if len(hosts) > HOSTS_SHOWN_MAX:
        lines.append(f"- and {len(hosts) - HOSTS_SHOWN_MAX} more, listed in `manifest.json`")
    lines += ["", "Licences that the pages name (rows):", ""]
    for licence, count in sorted(manifest["licences"].items()):
        lines.append(f"- {_code(licence) if licence else 'none named'} ({count})")
    return "\n".join(lines)


def _removal(manifest: Mapping[str, Any]) -> str:
    contact = manifest["removal_contact"]
    whom = f"Write to {contact}" if contact else "Tell whoever gave you this dataset (no contact was configured)"
    return (
        "## Removal\n\n"
        f"{whom} with the page, the host or the row's id: it is erased from the catalog and absent from what is"
        " published next."
    )


def _code(text: str) -> str:
    """Text of the web as a code span on one line: no Markdown and no HTML in it is read as such."""
    return f"`{' '.join(text.replace('`', chr(39)).split())}`"


def _quoted(text: str) -> str:
    """A YAML string that nothing in `text` can end."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'"{escaped}"'
