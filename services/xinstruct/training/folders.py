"""Model folders of ours: their licence and calibration. What a digest covers is in inference/model_folder.py."""

from __future__ import annotations

import json
import math
from pathlib import Path

from xinstruct.inference.model_folder import CALIBRATION
from xinstruct.spine.errors import require

CALIBRATION_KEYS = ("bias", "log_odds", "log_probability")
MANIFEST = "MANIFEST.json"


def licence_of(folder: Path) -> str:
    """The licence that the folder's manifest or its README's front matter states; "other" when neither does."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8")).get("licence") or "other")
    readme = folder / "README.md"
    if readme.is_file():
        head = readme.read_text(encoding="utf-8").split("---")[1:2]
        for line in "".join(head).splitlines():
            if line.startswith("license:"):
                return line.partition(":")[2].strip() or "other"
    return "other"


def origin_of(folder: Path) -> tuple[str, str] | None:
    """(digest, licence) of its base, as the job that made the folder noted them there; None when none did."""
    manifest = folder / MANIFEST
    base_digest = json.loads(manifest.read_text(encoding="utf-8")).get("base_digest") if manifest.is_file() else None
    return (str(base_digest), licence_of(folder)) if base_digest else None


def calibration_of(folder: Path) -> str:
    """The folder's calibration, a JSON object; "" when it has none. Invalid when it is not what scoring can apply."""
    file = folder / CALIBRATION
    if not file.is_file():
        return ""
    text = file.read_text(encoding="utf-8")
    try:
        values = json.loads(text)
        fits = sorted(values) == list(CALIBRATION_KEYS) and all(math.isfinite(values[key]) for key in CALIBRATION_KEYS)
    except (ValueError, TypeError):
        fits = False
    require(fits, f"{file} must be a JSON object of three numbers: {', '.join(CALIBRATION_KEYS)}")
    return text
