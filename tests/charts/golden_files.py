"""Writes tests/charts/golden/<profile>.yaml: what each profile gives, where every optional API is there.

Run by `make golden-charts` after a change that was meant; test_profiles.py compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from charts.rendering import OPTIONAL_APIS, PROFILES, profile, rendered

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> str:
    """The text of a profile's golden file."""
    files = rendered(profile(name), apis=OPTIONAL_APIS)
    kept = {file: text.strip() for file, text in files.items() if text.strip()}
    return "\n".join(f"# {file}\n{text}\n" for file, text in kept.items())


def main() -> None:
    """Write all of them again."""
    GOLDEN.mkdir(exist_ok=True)
    for name in PROFILES:
        (GOLDEN / f"{name}.yaml").write_text(golden(name), "utf-8")


if __name__ == "__main__":
    main()
