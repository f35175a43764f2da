"""xinstruct release: publish, list, show, verify, diff, export, rebuild."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xinstruct.cli.client import LONG_DEADLINE_S, Work, connect
from xinstruct.cli.options import ConfigOption, JsonOption, LanguageOption, RequestIdOption, request_id
from xinstruct.cli.output import ExitCode, minute, print_json, print_line, print_note, print_table, short_digest
from xinstruct.spine.errors import require

if TYPE_CHECKING:
    from xinstruct.v1.curation_service_pb2 import Chunk, Release

group = typer.Typer(name="release", help="Published datasets.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Release's name; `xinstruct release list` shows them.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write here; default: stdout.")]


def mount(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group)


@group.command()
def publish(
    name: Annotated[str, typer.Option(help="Default: the date and a counter.")] = "",
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish what the catalog holds now: a Parquet config a language, a manifest and a dataset card."""
    from xinstruct.v1.curation_service_pb2 import PublishReleaseRequest

    with connect(config, Work.CHANGE) as client:
        request = PublishReleaseRequest(request_id=request_id(id_), name=name)
        release = client.ask(client.curation.PublishRelease, request, deadline_s=LONG_DEADLINE_S)
    _say(release, f"published {release.name}: {release.pairs_count:,} pairs in {release.location}", as_json)


@group.command("list")
def list_releases(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Releases, newest first.

    "gone since": rows that were superseded or taken down after the release, which still holds them.
    """
    from xinstruct.v1.curation_service_pb2 import ListReleasesRequest

    with connect(config) as client:
        request = ListReleasesRequest(page_size=1000)
        releases = list(client.pages(client.curation.ListReleases, request, items="releases"))
    if as_json:
        for release in releases:
            print_json(release)
        return
    print_table(
        ("release", "pairs", "gone since", "published", "generator", "evaluator", "location"),
        (
            (
                x.name,
                x.pairs_count,
                x.rows_gone or "",
                minute(x.publish_time_ms),
                short_digest(x.generator_digest),
                short_digest(x.evaluator_digest),
                x.location,
            )
            for x in releases
        ),
        empty="No releases yet; `xinstruct release publish` makes one.",
    )


@group.command()
def show(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One release."""
    from xinstruct.v1.curation_service_pb2 import GetReleaseRequest

    with connect(config) as client:
        release = client.ask(client.curation.GetRelease, GetReleaseRequest(name=name))
    if as_json:
        print_json(release)
        return
    facts = (
        ("name", release.name),
        ("pairs", f"{release.pairs_count:,}"),
        ("gone since", f"{release.rows_gone:,} (superseded or taken down)"),
        ("published", minute(release.publish_time_ms)),
        ("location", release.location),
        ("generator", release.generator_digest),
        ("evaluator", release.evaluator_digest),
        ("manifest", release.manifest_digest),
    )
    for key, value in facts:
        print_line(f"{key:10} {value}")


@group.command()
def verify(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Compare every file of a release with its manifest. Exit code 1 when something differs."""
    from xinstruct.v1.curation_service_pb2 import VerifyReleaseRequest

    with connect(config) as client:
        request = VerifyReleaseRequest(name=name)
        found = client.ask(client.curation.VerifyRelease, request, deadline_s=LONG_DEADLINE_S)
    if as_json:
        print_json(found)
    else:
        for problem in found.problems:
            print_line(problem)
        print_line(f"{found.files_count} files read, {len(found.problems) or 'no'} problems.")
    if found.problems:
        raise typer.Exit(ExitCode.FAILED)


@group.command()
def diff(
    name: NameArgument,
    other_name: Annotated[str, typer.Argument(help="The release to compare with.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rows that one release has and the other has not."""
    from xinstruct.v1.curation_service_pb2 import DiffReleasesRequest

    with connect(config) as client:
        request = DiffReleasesRequest(name=name, other_name=other_name)
        found = client.ask(client.curation.DiffReleases, request, deadline_s=LONG_DEADLINE_S)
    if as_json:
        print_json(found)
        return
    print_table(
        ("language", f"only in {name}", f"only in {other_name}", "changed", "same"),
        ((x.language, len(x.added_ids), len(x.removed_ids), len(x.changed_ids), x.same_count) for x in found.languages),
        empty="Neither release has rows.",
    )
    for x in found.languages:
        if x.removed_reasons:
            reasons = ", ".join(f"{name} {count:,}" for name, count in sorted(x.removed_reasons.items()))
            print_line(f"removed in {x.language}: {reasons}")


@group.command()
def export(
    name: NameArgument,
    format_: Annotated[str, typer.Option("--format", help="jsonl, alpaca, sharegpt or chat.")] = "jsonl",
    language: LanguageOption = "",
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """A release's rows in another format, as a file or on stdout. --json tells of the file that --out names."""
    from xinstruct.v1.curation_service_pb2 import ExportReleaseRequest

    require_file(out, as_json)
    with connect(config) as client:
        request = ExportReleaseRequest(name=name, format=format_, language=language)
        write_chunks(client.watch(client.curation.ExportRelease, request, deadline_s=LONG_DEADLINE_S), out)
    tell_written(out, as_json)


@group.command()
def rebuild(
    name: NameArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: its own, when it is gone.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a release's files again from the catalog and its manifest, byte for byte."""
    from xinstruct.v1.curation_service_pb2 import RebuildReleaseRequest

    with connect(config) as client:
        request = RebuildReleaseRequest(name=name, location=str(out.resolve()) if out else "")
        release = client.ask(client.curation.RebuildRelease, request, deadline_s=LONG_DEADLINE_S)
    _say(release, f"rebuilt {release.name} in {release.location}", as_json)


def require_file(out: Path | None, as_json: bool) -> None:
    """Invalid when stdout would have to hold both the file and the JSON that tells of it."""
    require(bool(out) or not as_json, "--json tells of the file that is written: name it with --out")


def write_chunks(chunks: Iterator[Chunk], out: Path | None) -> None:
    """Write a streamed file to `out`, complete or not at all, or to stdout."""
    if out is None:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk.content)
        sys.stdout.buffer.flush()
        return
    partial = out.with_name(out.name + ".part")
    try:
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk.content)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def tell_written(out: Path | None, as_json: bool) -> None:
    """Say that `out` is written, on stdout as JSON or on stderr; nothing where stdout was the file."""
    if out is not None and as_json:
        print_json({"file": str(out), "size_bytes": out.stat().st_size})
    elif out is not None:
        print_note(f"wrote {out}")


def _say(release: Release, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(release)
    else:
        print_line(sentence)
