"""The small rules of single commands."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from rich.console import Console

from xinstruct.backgen.domain import BackgenReason
from xinstruct.cli.client import served_at
from xinstruct.cli.crawl import guess_kind
from xinstruct.cli.look import Snapshot, left_to_do, refuse_stopped, snapshot_view, story_line
from xinstruct.cli.main import main
from xinstruct.cli.output import ExitCode
from xinstruct.cli.releases import write_chunks
from xinstruct.cli.reviews import format_of
from xinstruct.cli.single import INJECTED, read_text, refusal
from xinstruct.cli.takedowns import _tell, kind_of
from xinstruct.inference.openai_api import NO_LOG_PROBABILITIES
from xinstruct.settings import XinstructSettings
from xinstruct.spine.errors import Conflict, Invalid, Unavailable
from xinstruct.v1.curation_service_pb2 import Chunk, Funnel, StoryEvent, Takedown
from xinstruct.v1.status_service_pb2 import GetStatusResponse


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("https://a.example/", "url"),
        ("https://a.example/makala/ziwa", "url"),
        ("https://a.example/sitemap.xml", "sitemap"),
        ("https://a.example/sitemap-news.xml.gz", "sitemap"),
        ("https://a.example/feed.xml", "feed"),
        ("https://a.example/blog/rss", "feed"),
        ("texts.jsonl", "jsonl"),
        ("s3://bucket/texts.parquet", "parquet"),
        ("texts.jsonl.gz", "jsonl"),
    ],
)
def test_a_source_is_what_its_name_says(location: str, kind: str) -> None:
    assert guess_kind(location) == kind


@pytest.mark.parametrize("location", ["hf://datasets/owner/name", "s3://bucket/texts", "ftp://a.example/x"])
def test_a_location_off_the_web_whose_name_says_nothing_is_asked_for_its_kind(location: str) -> None:
    with pytest.raises(Invalid, match=r"--kind jsonl\|parquet"):
        guess_kind(location)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("https://a.example/x", "URL"),
        ("a.example", "HOST"),
        ("a.example:8080", "HOST"),
        ("0123456789abcdef" * 2, "DOCUMENT"),
        ("0123456789abcdeg" * 2, "HOST"),
    ],
)
def test_a_takedown_names_a_page_a_host_or_a_document(target: str, kind: str) -> None:
    assert kind_of(target) == kind


@pytest.mark.parametrize("target", ["", "a b", "a.example/x", "01228cab5955", "me@a.example"])
def test_a_takedown_of_what_nothing_can_be_called_is_refused(target: str) -> None:
    with pytest.raises(Invalid, match=r"an id has 32 digits|no host and no id"):
        kind_of(target)


def test_a_takedown_that_met_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    _tell(Takedown(target="a.example", state="erased"), purged=False)
    gone = Takedown(target="b.example", state="erased", records_erased=14, blobs_erased=1, releases_affected=["1"])
    _tell(gone, purged=True)
    assert capsys.readouterr().out.splitlines() == [
        "a.example: erased (records: 0, bodies: 0)",
        "  nothing of it was there; nothing of it will be admitted",
        "b.example: erased (records: 14, bodies: 1)",
        "  releases that held rows of it, deleted: 1",
    ]


def test_a_takedown_names_the_reports_that_hold_it(capsys: pytest.CaptureFixture[str]) -> None:
    listed = Takedown(target="b.example", state="erased", reports_affected=["report.html", "run-1/report.json"])
    _tell(listed, purged=False)
    _tell(listed, purged=True)
    assert capsys.readouterr().out.splitlines() == [
        "b.example: erased (records: 0, bodies: 0)",
        "  reports that name it: report.html, run-1/report.json",
        "b.example: erased (records: 0, bodies: 0)",
        "  reports that named it, deleted: report.html, run-1/report.json",
    ]


def test_a_few_digits_have_no_story_and_the_sentence_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "01228ca"]) == ExitCode.INVALID
    assert "give 8 digits of an id or more" in capsys.readouterr().err


def test_status_says_all_that_a_stage_waits_for_and_where_dead_letters_are(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = NO_LOG_PROBABILITIES.format(url="http://a.example/v1")
    process = GetStatusResponse()
    process.stages.add(stage="scoring-a", lag_records=9, waiting_for=waiting)
    Console(width=400).print(snapshot_view(Snapshot({"all": process}, {}, Funnel(dead_letters={"backgen": 2}))))
    shown = capsys.readouterr().out
    assert waiting in shown
    assert "0 dropped with a reason, 2 dead letters (`xinstruct dlq list`)" in shown


def test_what_is_left_to_do_is_told_until_every_process_answers_can_work_and_is_idle() -> None:
    busy, ready = GetStatusResponse(), GetStatusResponse(idle=True)
    busy.services.add(service="backgen", not_ready="no generator is promoted yet")
    busy.stages.add(stage="scoring-a", lag_records=1_009, waiting_for="nobody answers")
    busy.stages.add(stage="admit", in_flight_records=2)
    busy.loops.add(loop="frontier", pending=True)
    assert left_to_do(Snapshot({"all": ready}, {}, Funnel())) == ""
    assert left_to_do(Snapshot({"all": GetStatusResponse()}, {}, Funnel())) == "all is at work"
    assert left_to_do(Snapshot({"a": ready, "b": busy}, {"c": "refused"}, Funnel())) == (
        "c does not answer; backgen: no generator is promoted yet; "
        "scoring-a is 1,009 records behind (nobody answers); admit has 2 records in flight; frontier is busy"
    )


def test_nobody_waits_for_a_stage_that_has_stopped() -> None:
    stopped = GetStatusResponse()
    stopped.stages.add(stage="backgen", lag_records=9, waiting_for="backgen: 60% became dead letters", stopped=True)
    refuse_stopped(GetStatusResponse())
    with pytest.raises(Conflict, match="60%"):
        refuse_stopped(stopped)


def test_a_story_names_a_host_or_url_whole() -> None:
    event = StoryEvent(stage="curation", subject_id="https://a.example/makala", happened="suppressed")
    assert "[https://a.example/makala]" in story_line(event)


def test_a_story_event_is_one_clean_line() -> None:
    event = StoryEvent(
        stage="admit",
        subject_id="a" * 32,
        happened="dropped:\x1b[2J too_short",
        facts={"text_chars": "120", "a": "1"},
        time_ms=1_790_000_000_000,
    )
    assert story_line(event) == (
        "2026-09-21 14:13:20  admit      dropped:[2J too_short  [aaaaaaaaaaaa]  a=1  text_chars=120"
    )


def test_a_text_comes_from_the_argument_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("Habari", "utf-8")
    assert read_text("Jambo") == "Jambo"
    assert read_text(f"@{file}") == "Habari"
    with pytest.raises(Invalid, match="cannot read"):
        read_text(f"@{tmp_path / 'none'}")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match="not UTF-8"):
        read_text(f"@{file}")


def test_a_refused_text_is_told_from_a_refused_draft() -> None:
    assert INJECTED == BackgenReason.INJECTED_INSTRUCTIONS
    assert refusal(INJECTED).startswith("No instruction: the text was refused as injected_instructions")
    assert refusal("ill_posed") == "No instruction: the draft was refused as ill_posed."


@pytest.mark.parametrize(("name", "found"), [("a.csv", "csv"), ("a.JSONL", "jsonl"), ("a.txt", "csv"), (None, "csv")])
def test_a_review_file_has_the_format_of_its_name(name: str | None, found: str) -> None:
    assert format_of(Path(name) if name else None) == found


def test_an_unknown_language_of_a_source_lists_the_known_ones_and_nothing_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "xinstruct.yaml"
    config.write_text("home: home\n")
    asked = ["crawl", "add", "https://a.example/", "--language", "xx", "--config", str(config)]
    assert main(asked) == ExitCode.NOT_FOUND
    heard = capsys.readouterr().err
    assert "sw (Swahili)" in heard and "languages_data/xx.yaml" in heard
    assert not (tmp_path / "home").exists()


def test_an_export_is_whole_or_not_there(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    write_chunks(iter([Chunk(content=b"one\n"), Chunk(content=b"two\n")]), out)
    assert out.read_bytes() == b"one\ntwo\n"

    def breaks():  # type: ignore[no-untyped-def]
        yield Chunk(content=b"half")
        raise Unavailable("gone")

    with pytest.raises(Unavailable):
        write_chunks(breaks(), tmp_path / "other.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("command", [("release", "export", "first"), ("review", "export")])
def test_an_export_to_stdout_leaves_no_room_for_json_about_it(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json"]) == ExitCode.INVALID
    assert "name it with --out" in capsys.readouterr().err


def test_a_target_is_asked_where_the_configuration_says() -> None:
    settings = XinstructSettings.model_validate({"addresses": {"curation": "curation:7700"}, "rpc": {"port": 7701}})
    assert served_at(settings, "curation") == "curation:7700"
    assert served_at(settings, "crawler") == "127.0.0.1:7701"
    apart = XinstructSettings.model_validate({"addresses": {"scoring-b": "b:1"}})
    assert served_at(apart, "scoring") == "b:1"


def test_a_demo_on_a_port_that_is_taken_ends_before_it_crawls_the_wrong_site(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["demo", "--languages", "sw", "--out", str(tmp_path / "out"), "--site-port", str(port)])
    assert code == ExitCode.CONFLICT
    assert f"port {port} of 127.0.0.1 is in use" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
