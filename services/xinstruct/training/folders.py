"""Model folders: what they hold, their digest and their licence. No torch here: files only."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from xinstruct.spine.errors import Invalid, NotFound, require

_WEIGHTS = (".safetensors", ".safetensors.index.json")
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json",
    "merges.txt",
)
CALIBRATION = "calibration.json"
"""What an evaluator's P(best) and a draft's log-probability say together; see training/job_drafts.py."""
CALIBRATION_KEYS = ("bias", "log_odds", "log_probability")
_CONFIG = ("config.json", "generation_config.json", CALIBRATION)
_UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MANIFEST = "MANIFEST.json"


def model_digest(folder: Path) -> str:
    """ "sha256:" + 64 hex digits over weights, tokenizer and config, in the order of their names; nothing else counts.

    NotFound when there is no such folder, Invalid when it holds no safetensors or no config, or weights that can
    execute code.
    """
    total = hashlib.sha256()
    for path in _parts(folder):
        content = hashlib.sha256(path.read_bytes()).digest()
        total.update(len(path.name).to_bytes(4, "big") + path.name.encode() + content)
    return f"sha256:{total.hexdigest()}"


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


def _parts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NotFound(f"no model folder {folder}")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    unsafe = [path.name for path in files if path.suffix in _UNSAFE and path.name != "training_args.bin"]
    if unsafe:
        raise Invalid(f"{folder} holds {unsafe[0]}, which can execute code when loaded; safetensors only")
    parts = [p for p in files if p.name.endswith(_WEIGHTS) or p.name in _TOKENIZER or p.name in _CONFIG]
    if not any(path.suffix == ".safetensors" for path in parts):
        raise Invalid(f"{folder} holds no safetensors weights")
    if not any(path.name == "config.json" for path in parts):
        raise Invalid(f"{folder} holds no config.json")
    return parts
