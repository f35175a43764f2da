"""manifest.json: what a release is, what it was made of, and the digest of every other file in it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from xinstruct.curation.catalog import Snapshot
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.domain import Decision, ReleaseOutcome
from xinstruct.spine.errors import Invalid
from xinstruct.spine.registry import Model

FORMAT = 1
FILE_NAME = "manifest.json"
CARD_NAME = "README.md"


def describe(
    snapshot: Snapshot, decisions: Sequence[Decision], rows: Mapping[str, Sequence[Mapping[str, Any]]], *,
    name: str, request_id: str, publish_time_ms: int, settings: CurationSettings, encoder_model: str,
    models: Sequence[Model], reviews: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest but for its "files". `rows`: language → rows of the release; `reviews`: review.summary of them."""
    published = [row for language in sorted(rows) for row in rows[language]]
    return {
        "format": FORMAT,
        "name": name,
        "request_id": request_id,
        "publish_time_ms": publish_time_ms,
        "title": settings.dataset_title,
        "removal_contact": settings.removal_contact,
        "pairs_count": len(published),
        "languages": {language: _language_facts(rows[language]) for language in sorted(rows)},
        "funnel": _funnel(decisions),
        "hosts": _counted(published, "host"),
        "licences": _counted(published, "licence"),
        "readings": _readings(snapshot, {row["id"] for row in published}),
        "reviews": dict(reviews),
        "generator_digest": snapshot.generator_digest,
        "evaluator_digest": snapshot.evaluator_digest,
        "recipe": recipe(settings, sorted({decision.language for decision in decisions}), encoder_model),
        "lineage": {
            "offsets": {t: {str(p): o for p, o in sorted(parts.items())} for t, parts in snapshot.offsets.items()},
            "documents_count": len(snapshot.document_ids),
            "models": [_model_facts(model) for model in models],
        },
        "code": code_version(),
    }


def recipe(settings: CurationSettings, languages: Sequence[str], encoder_model: str) -> dict[str, Any]:
    """Everything that chose the rows, besides the catalog."""
    return {
        "best_thresholds": {language: settings.threshold(language) for language in languages},
        "reviewed_worst": settings.reviewed_worst,
        "duplicate_ratio": settings.duplicate_ratio,
        "diversify": settings.diversify.model_dump(mode="json"),
        "encoder_model": encoder_model,
    }


@cache
def code_version() -> dict[str, str]:
    """Versions of what writes a release's bytes, and a digest of this package's sources."""
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.name.encode() + b"\0" + path.read_bytes())
    return {
        "xinstruct": version("xinstruct"), "curation_digest": f"sha256:{sources.hexdigest()}",
        "pyarrow": pa.__version__, "scikit-learn": version("scikit-learn"),
    }  # fmt: skip


def dumps(manifest: Mapping[str, Any]) -> bytes:
    """The file's bytes: sorted keys, so that equal manifests give equal files."""
    return json.dumps(manifest, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"


def loads(content: bytes, *, name: str) -> dict[str, Any]:
    """The manifest in `content`; Invalid when it is none. `name` stands for it in the message."""
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise Invalid(f"the manifest of {name} is no JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or "files" not in manifest:
        raise Invalid(f"the manifest of {name} is not of format {FORMAT}")
    return manifest


def _language_facts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    hosts = {row["host"] for row in rows}
    return {"rows": len(rows), "clusters": len({row["cluster"] for row in rows}), "hosts": len(hosts)}


def _funnel(decisions: Sequence[Decision]) -> dict[str, dict[str, int]]:
    counts = Counter((decision.language, decision.outcome) for decision in decisions)
    languages = sorted({language for language, _ in counts})
    return {
        language: {outcome.value: counts[language, outcome] for outcome in ReleaseOutcome if counts[language, outcome]}
        for language in languages
    }


def _readings(snapshot: Snapshot, published: Collection[str]) -> dict[str, int]:
    """How the evaluator's P(best) of the published rows was read → rows."""
    return dict(Counter(row.reading.name.lower() for row in snapshot.candidates if row.pair_id in published))


def _counted(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row[column]) for row in rows).items()))


def _model_facts(model: Model) -> dict[str, Any]:
    return {
        "role": model.role, "model_digest": model.model_digest, "base_digest": model.base_digest,
        "licence": model.licence, "job_name": model.job_name, "round": model.round,
    }  # fmt: skip
