"""xinstruct review: a file for people who read the pairs, and their labels back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xinstruct.cli.client import LONG_DEADLINE_S, Work, connect
from xinstruct.cli.options import ConfigOption, JsonOption, LanguageOption
from xinstruct.cli.output import print_json, print_line
from xinstruct.cli.releases import OutOption, require_file, tell_written, write_chunks
from xinstruct.spine.errors import Invalid

group = typer.Typer(name="review", help="Labels by people.", no_args_is_help=True)
FORMATS = ("csv", "jsonl")
FormatOption = Annotated[str, typer.Option("--format", help="csv or jsonl; default: by the file's name, else csv.")]


def mount(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group)


@group.command("export")
def export_file(
    format_: FormatOption = "",
    language: LanguageOption = "",
    rows_max: Annotated[int, typer.Option(min=1, help="Rows a language at most.")] = 100,
    release: Annotated[str, typer.Option(help="Only rows of this release; default: of what selection keeps now.")] = "",
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """A file to fill in: pair in its own script, link to the page, columns for label and tags.

    --json tells of the file that --out names.
    """
    from xinstruct.v1.curation_service_pb2 import ExportReviewsRequest

    require_file(out, as_json)
    request = ExportReviewsRequest(
        format=format_ or format_of(out), language=language, rows_max=rows_max, release=release
    )
    with connect(config) as client:
        write_chunks(client.watch(client.curation.ExportReviews, request, deadline_s=LONG_DEADLINE_S), out)
    tell_written(out, as_json)


@group.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="The file that `review export` wrote, with labels filled in.")],
    reviewer: Annotated[str, typer.Option(help="Pseudonym of who filled it in: a–z, 0–9, - and _; never a name.")],
    format_: FormatOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a reviewer's labels: best, reasonable, worst.

    Every mistake is named with its line, and nothing is stored then.
    """
    from xinstruct.v1.curation_service_pb2 import ImportReviewsRequest

    try:
        content = file.read_bytes()
    except OSError as error:
        raise Invalid(f"cannot read {file}: {error.strerror}") from error
    with connect(config, Work.CHANGE) as client:
        request = ImportReviewsRequest(format=format_ or format_of(file), reviewer=reviewer, content=content)
        stored = client.ask(client.curation.ImportReviews, request, deadline_s=LONG_DEADLINE_S)
    if as_json:
        print_json(stored)
    else:
        print_line(f"stored {stored.reviews_count:,} labels by {reviewer}")


def format_of(file: Path | None) -> str:
    """The format that a file's name says; "csv" for anything else."""
    suffix = file.suffix.removeprefix(".").lower() if file else ""
    return suffix if suffix in FORMATS else "csv"
