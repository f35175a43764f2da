"""Model folders: what a digest covers, and what may not lie in one. No torch here: files only."""

from __future__ import annotations

import hashlib
from pathlib import Path

from xinstruct.spine.errors import Invalid, NotFound

_WEIGHTS = (".safetensors", ".safetensors.index.json")
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "vocab.json",
    "merges.txt",
)
CALIBRATION = "calibration.json"
"""What an evaluator's P(best) and a draft's log-probability say together; see training/job_drafts.py."""
_CONFIG = ("config.json", "generation_config.json", CALIBRATION)
_UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def model_digest(folder: Path) -> str:
    """ "sha256:" + 64 hex digits over weights, tokenizer and config, in the order of their names; nothing else counts.

    NotFound when there is no such folder, Invalid when it holds no safetensors or no config, or weights that can
    execute code.
    """
    total = hashlib.sha256()
    for path in _parts(folder):
        with path.open("rb") as file:  # weights may be larger than the memory that is there before they are loaded
            content = hashlib.file_digest(file, "sha256").digest()
        total.update(len(path.name).to_bytes(4, "big") + path.name.encode() + content)
    return f"sha256:{total.hexdigest()}"


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
