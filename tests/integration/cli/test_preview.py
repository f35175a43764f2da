"""xinstruct preview, as a user runs it: own pages over HTTP, any one OpenAI-compatible endpoint, no training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.inference.openai_stub import Behaviour
from contract.inference.openai_stub import openai_stub as pinned_stub
from integration.cli.openai_stub import openai_stub
from servers import free_port
from xinstruct.cli.preview import _settings as preview_settings
from xinstruct.crawler.config import FetchSettings
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


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("127.0.0.1", True), ("localhost", True), ("10.1.2.3", True), ("[::1]", True), ("192.168.0.9", True),
     ("example.org", False), ("localhost.example.org", False), ("8.8.8.8", False), ("[2606:4700::1111]", False)],
)
def test_only_an_address_that_is_private_as_it_is_typed_may_be_asked(tmp_path: Path, host: str, allowed: bool) -> None:
    fetch = fetch_settings(tmp_path, f"http://{host}:8080/x")
    assert fetch["private_hosts_allowed"] == ([f"{host.strip('[]')}:8080"] if allowed else [])


def test_without_a_contact_sites_and_user_are_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch = fetch_settings(tmp_path, "https://example.org/")
    agent = FetchSettings(**fetch).user_agent
    assert agent == "xinstruct/1 (+xinstruct preview, run by hand; no contact given)"
    assert agent in capsys.readouterr().err
    assert fetch_settings(tmp_path, "https://example.org/", contact="mailto:a@b.example")["contact_url"] == (
        "mailto:a@b.example"
    )
    assert capsys.readouterr().err == ""


def fetch_settings(folder: Path, url: str, contact: str = "") -> dict[str, Any]:
    """How the preview of `url` fetches, with the built-in configuration."""
    config = folder / "xinstruct.yaml"
    config.write_text("{}")
    found = preview_settings(config, [url], endpoint="http://127.0.0.1:1/v1", model="m", contact=contact)
    return dict(found["crawler"]["fetch"])


def test_preview_without_an_endpoint_says_what_to_give(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "xinstruct.cli.main", "preview", "http://127.0.0.1:9/"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "--endpoint" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("pinned", "model", "said"),
    [("", "m", "does not answer"), ("one", "two", "Server is pinned to 'one'; requested 'two'")],
    ids=["no endpoint", "another model"],
)
def test_an_endpoint_that_cannot_answer_ends_the_preview_before_a_page_is_fetched(
    tmp_path: Path, pinned: str, model: str, said: str
) -> None:
    accesses = tmp_path / "access.jsonl"
    site = start_in_thread(ServerConfig(SiteConfig(11, ("ur",), 40), 0, access_log=accesses))
    command = [sys.executable, "-m", "xinstruct.cli.main", "preview", f"{site.origin}/sitemap.xml", "--model", model]
    with pinned_stub(Behaviour(pinned=pinned)) as url:
        command += ["--endpoint", url if pinned else f"http://127.0.0.1:{free_port()}/v1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    site.stop()
    assert done.returncode in (2, 5)
    assert said in done.stderr
    assert accesses.read_text("utf-8") == ""
