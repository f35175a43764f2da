"""Writes tests/charts/golden/: what each profile of our charts gives, where every optional API is there.

Run by `make golden-charts` after a change that was meant; test_profiles.py compares.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from charts.rendering import CHARTS, OPTIONAL_APIS, XINSTRUCT, OurChart, profile, rendered

GOLDEN = Path(__file__).parent / "golden"


def golden_file(name: str, of: OurChart) -> Path:
    """Where the golden file of a profile is."""
    return GOLDEN / (f"{name}.yaml" if of is XINSTRUCT else f"{of.name}-{name}.yaml")


def golden(name: str, of: OurChart) -> str:
    """The text of a profile's golden file."""
    files = rendered(profile(name, of), apis=OPTIONAL_APIS, of=of)
    kept = {file: text.strip() for file, text in files.items() if text.strip()}
    return "\n".join(f"# {file}\n{text}\n" for file, text in kept.items())


def main() -> None:
    """Write all of them again."""
    GOLDEN.mkdir(exist_ok=True)
    for of in CHARTS:
        for name in of.profiles:
            golden_file(name, of).write_text(golden(name, of), "utf-8")


if __name__ == "__main__":
    main()
