"""Commands against a home folder opened in process, and against a process that serves it: the same answers."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from builders import URL, page
from xinstruct.cli.main import main
from xinstruct.cli.output import ExitCode
from xinstruct.crawler.commands import CommandLoop
from xinstruct.crawler.config import FetchSettings
from xinstruct.crawler.tables import SOURCES
from xinstruct.settings import XinstructSettings, load_settings
from xinstruct.spine import telemetry
from xinstruct.spine.messages import CrawlRequested
from xinstruct.spine.topics import PAGE_FETCHED
from xinstruct.targets import Built, build, build_deps


def settings(*, port: int) -> str:
    """A configuration that serves on `port` and may fetch from one closed port of this machine."""
    allowed = "crawler: {fetch: {private_hosts_allowed: ['127.0.0.1:9']}}"
    return f"home: home\nrpc: {{port: {port}}}\n{allowed}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of an empty home folder."""
    file = tmp_path / "xinstruct.yaml"
    file.write_text(settings(port=0), "utf-8")
    return file


@pytest.fixture
def served(config: Path) -> Iterator[Built]:
    """A process that serves that home folder, its port in the configuration."""
    built = build(["all"], load_settings(config))
    # As every process does: or its log would stand between the answers on stdout.
    telemetry.start(load_settings(config).telemetry, "all")
    built.process.start()
    config.write_text(settings(port=built.process.server.port), "utf-8")
    yield built
    built.process.stop()
    built.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    """The JSON lines of a command that must succeed."""
    assert main([*arguments, "--json"]) == ExitCode.OK
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


DRAIN_S_MAX = 15.0
LISTS = (("release", "list"), ("models", "list"), ("dlq", "list"), ("crawl", "status"))


@pytest.mark.parametrize("command", LISTS)
def test_lists_of_an_empty_home_are_empty_without_a_server(
    command: tuple[str, ...], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, *command, "--config", str(config)) == []


def test_a_source_that_was_added_without_a_server_is_kept(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (added,) = said(capsys, "crawl", "add", "http://127.0.0.1:9/sitemap.xml", "--config", str(config))
    assert len(str(added["source_id"])) == 32
    deps = build_deps(load_settings(config), process="test")
    assert sum(deps.log.end_offsets(_topic("crawl-requested-v1")).values()) == 1
    deps.log.close()
    deps.database.dispose()


def commands(config: Path) -> list[CrawlRequested]:
    """What was appended for the crawler."""
    deps = build_deps(load_settings(config), process="test")
    found = [CrawlRequested.decode(record.value or b"") for record in deps.log.read(_topic("crawl-requested-v1"), {})]
    deps.log.close()
    deps.database.dispose()
    return found


def test_a_file_is_added_by_its_whole_path_wherever_the_factory_is_started(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts").mkdir()
    monkeypatch.chdir(tmp_path / "texts")
    asked = ("rows.jsonl", "../rows.parquet", "s3://bucket/rows.jsonl", "file:///rows.jsonl")
    said(capsys, "crawl", "add", *asked, "--config", str(config))
    assert {command.location for command in commands(config)} == {
        f"{tmp_path}/texts/rows.jsonl", f"{tmp_path}/rows.parquet", "s3://bucket/rows.jsonl", "file:///rows.jsonl",
    }


@pytest.mark.parametrize("action", ["pause", "resume", "remove"])
def test_steering_a_source_is_repeatable_by_its_request_id(
    action: str, served: Built, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (added,) = said(capsys, "crawl", "add", "rows.jsonl", "--config", str(config))
    deadline_s = time.monotonic() + 15
    while not said(capsys, "crawl", "status", "--config", str(config)):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    steer = ("crawl", action, "rows.jsonl", "--request-id", "once", "--config", str(config))
    assert said(capsys, *steer) == said(capsys, *steer) == [added]
    records = served.deps.log.read(_topic("crawl-requested-v1"), {})
    assert [CrawlRequested.decode(record.value or b"").request_id for record in records][1:] == ["once", "once"]


def test_a_file_and_its_bad_rows_tell_why_by_the_name_that_was_typed(
    served: Built, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('broken\n{"body": "x"}\n')
    said(capsys, "crawl", "add", "rows.jsonl", "--config", str(config))
    deadline_s = time.monotonic() + 30
    story: list[str] = []
    while len(story) < 4:
        assert time.monotonic() < deadline_s
        main(["why", "rows.jsonl", "--config", str(config)])
        story = capsys.readouterr().out.splitlines()
        time.sleep(0.1)
    assert [line.split("detail=")[1].split("  ")[0] for line in story[:2]] == ["not JSON", "no text in 'text'"]
    assert all("dropped: malformed_row" in line for line in story[2:])
    (row,) = said(capsys, "why", "rows.jsonl#row=1", "--config", str(config))
    assert [event["stage"] for event in row["events"]] == ["fetch", "admit"]  # type: ignore[attr-defined]


def test_half_a_character_in_a_review_file_is_refused_and_nothing_is_stored(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_bytes(b'{"pair_id": "a"}\n{"pair_id": "\\ud83d", "label": "best"}\n')
    assert main(["review", "import", str(file), "--reviewer", "r1", "--config", str(config)]) == ExitCode.INVALID
    assert "line 2: half of a surrogate pair" in capsys.readouterr().err
    deps = build_deps(load_settings(config), process="test")
    assert sum(deps.log.end_offsets(_topic("pair-reviewed-v1")).values()) == 0
    deps.log.close()
    deps.database.dispose()


def test_a_story_is_read_from_the_catalog(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deps = build_deps(load_settings(config), process="test")
    deps.log.append([page(failure="timed_out", status=0, body_digest="").record(PAGE_FETCHED.name)])
    deps.log.close()
    deps.database.dispose()
    # Reading starts no work: nothing is projected.
    assert said(capsys, "release", "list", "--config", str(config)) == []
    assert main(["why", URL, "--config", str(config)]) == ExitCode.NOT_FOUND
    assert "nothing is known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("release", "show", "none"), ExitCode.NOT_FOUND), (("why", "http://nowhere.example/"), ExitCode.NOT_FOUND),
        (("draft", "Habari", "--language", "sw"), ExitCode.UNAVAILABLE),
        (("models", "promote", "generator", "12345678"), ExitCode.NOT_FOUND),
        (("crawl", "pause", "nothing"), ExitCode.NOT_FOUND), (("crawl", "add", "no url"), ExitCode.INVALID),
        (("crawl", "add", "https://a.example/rows.parquet"), ExitCode.INVALID),
        (("crawl", "add", "hf://datasets/owner/name"), ExitCode.INVALID),
        (("release", "export", "none"), ExitCode.NOT_FOUND), (("dlq", "show", "abc"), ExitCode.NOT_FOUND),
        (("release", "publish"), ExitCode.CONFLICT), (("review", "export"), ExitCode.NOT_FOUND),
        (("review", "export", "--release", "none"), ExitCode.NOT_FOUND),
    ],
)  # fmt: skip
def test_failures_are_one_sentence_and_an_exit_code(
    command: tuple[str, ...], code: ExitCode, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--config", str(config)]) == code
    heard = capsys.readouterr()
    assert heard.out == ""
    assert heard.err.strip() and "Traceback" not in heard.err


@pytest.mark.parametrize("command", LISTS)
def test_a_served_home_is_asked_over_the_network(
    command: tuple[str, ...], served: Built, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, *command, "--config", str(config)) == []


@pytest.mark.parametrize(("command", "keys"), [
    (("up", "--config", "xinstruct.yaml"), ["home", "port"]),
    (("microworld", "serve", "--port", "0", "--languages", "sw", "--pages", "40"), ["sitemap_url"]),
])  # fmt: skip
def test_what_serves_says_where_as_json(command: tuple[str, ...], keys: list[str], config: Path) -> None:
    line = [sys.executable, "-m", "xinstruct.cli.main", *command, "--json"]
    with subprocess.Popen(line, cwd=config.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        rest, code = process.stdout.read(), process.wait(15)
    assert (sorted(json.loads(first)), rest, code) == (keys, b"", 0)


def test_status_tells_of_stages_and_the_funnel(served: Built, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (status,) = said(capsys, "status", "--config", str(config))
    assert status["silent"] == {}
    assert status["funnel"] == {"languages": [], "dropped": {}, "dead_letters": {}}
    assert main(["status", "--config", str(config)]) == ExitCode.OK
    assert "no generator is promoted yet" in capsys.readouterr().out.replace("\n", " ")


def test_waiting_until_nothing_is_left_ends_in_time_and_says_what_is_left(
    served: Built, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing is behind: but what came in now would stay.
    assert main(["status", "--wait", "--within-s", "4", "--config", str(config)]) == ExitCode.UNAVAILABLE
    left = capsys.readouterr().err.replace("\n", " ")
    assert "not idle after 4 s: backgen: no generator is promoted yet" in left


def test_watching_and_waiting_exclude_each_other(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--wait", "--watch", "--config", str(config)]) == ExitCode.INVALID
    assert "choose one" in capsys.readouterr().err


def test_a_home_that_is_held_by_a_silent_process_is_left_alone(
    served: Built, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(settings(port=9), "utf-8")
    assert main(["release", "list", "--config", str(config)]) == ExitCode.UNAVAILABLE
    assert "nobody serves curation at 127.0.0.1:9" in capsys.readouterr().err


def test_a_takedown_waits_until_it_is_erased(served: Built, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state,) = said(capsys, "takedown", "gone.example", "--config", str(config))
    assert (state["state"], state["kind"], state["records_erased"]) == ("erased", "host", 0)


def test_garbage_is_counted_before_it_goes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = said(capsys, "gc", "--dry-run", "--config", str(config))
    assert found == {"bodies_expired": 0, "blobs_orphaned": 0, "bytes_erased": 0}


def test_a_report_of_an_empty_catalog_says_so(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "report", "--out", str(tmp_path / "report"), "--config", str(config))
    assert "Nothing is published yet" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_defaults_are_used_where_there_is_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    from xinstruct.cli.client import read_settings

    assert read_settings(None) == XinstructSettings()


def _topic(name: str):  # type: ignore[no-untyped-def]
    from xinstruct.spine.topics import TOPICS

    return TOPICS[name]


def test_a_source_that_waits_to_be_read_is_announced(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crawl", "add", "http://127.0.0.1:9/", "--config", str(config)]) == ExitCode.OK
    assert "it is crawled while `xinstruct up` runs" in capsys.readouterr().out
    assert main(["crawl", "status", "--config", str(config)]) == ExitCode.OK
    heard = capsys.readouterr().out.replace("\n", " ")
    assert "listed once `xinstruct up` runs" in heard
    assert "1 command waits" in heard


@pytest.mark.parametrize("word", ["foo", "foo/bar?x=1"])
def test_a_location_that_is_no_url_is_quoted(word: str, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crawl", "add", word, "--config", str(config)]) == ExitCode.INVALID
    assert f"http:// or https://, not '{word}'" in capsys.readouterr().err


def test_the_last_error_names_its_page_where_that_is_not_the_source_itself(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = "http://127.0.0.1:9/", "http://127.0.0.1:9/sitemap.xml"
    for location in (first, second):
        assert main(["crawl", "add", location, "--config", str(config)]) == ExitCode.OK
    deps = build_deps(load_settings(config), process="test")
    commands = CommandLoop(deps.database, deps.log, blobs=deps.blobs, clock=deps.clock, settings=FetchSettings())
    commands.step()
    with deps.database.begin() as connection:
        connection.execute(SOURCES.update().values(last_error=f"{first}: http_error (HTTP 500)"))
    deps.log.close()
    deps.database.dispose()
    capsys.readouterr()
    assert main(["crawl", "status", "--config", str(config)]) == ExitCode.OK
    shown = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if "127.0.0.1" in line}
    assert f"{first}: http_error" in shown[second]
    assert f"{first}: " not in shown[first] and "http_error (HTTP 500)" in shown[first]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.OK
    assert re.fullmatch(r"xinstruct \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.slow
def test_on_a_terminal_log_lines_go_to_their_file_and_not_into_the_figures(config: Path) -> None:
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "xinstruct.cli.main", "up", "--config", str(config)]
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    try:
        while b"fetched" not in shown:
            shown += os.read(terminal, 65_536)
        process.send_signal(signal.SIGTERM)
        shown += b"".join(iter(partial(_read, terminal), b""))
        assert process.wait(DRAIN_S_MAX) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert "stage_started" in (config.parent / "home" / "up.log").read_text("utf-8")
    assert b'"event"' not in shown


def _read(terminal: int) -> bytes:
    """What comes, nothing at the end."""
    try:
        return os.read(terminal, 65_536)
    except OSError:  # how Linux says that the other side is closed
        return b""
