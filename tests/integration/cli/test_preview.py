"""xinstruct preview, as a user runs it: own pages over HTTP, any one OpenAI-compatible endpoint, no training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from integration.cli.openai_stub import openai_stub
from xinstruct.microworld.site import SiteConfig
from xinstruct.microworld.site_server import ServerConfig, start_in_thread


@pytest.mark.slow
def test_preview_shows_pairs_from_the_users_own_pages(tmp_path: Path) -> None:
    site = start_in_thread(ServerConfig(SiteConfig(11, ("ur",), 40), 0))
    command = [sys.executable, "-m", "xinstruct.cli.main", "preview", f"{site.origin}/sitemap.xml", "--n", "4"]
    with openai_stub() as url:
        command += ["--json", "--endpoint", url]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    site.stop()
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 4
    assert all(row["instruction"].startswith("Describe the ") for row in rows)
    assert {row["language"] for row in rows} == {"ur"}
    assert all(row["url"].startswith(site.origin) and 0.8 < row["p_best"] < 1 and row["kept"] for row in rows)
    assert list(tmp_path.iterdir()) == []


def test_preview_without_an_endpoint_says_what_to_give(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "xinstruct.cli.main", "preview", "http://127.0.0.1:9/"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "--endpoint" in done.stderr and "Traceback" not in done.stderr
