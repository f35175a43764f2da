"""xinstruct report: what the catalog holds, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xinstruct.cli.client import connect
from xinstruct.cli.options import ConfigOption, JsonOption
from xinstruct.cli.output import print_json, print_line


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(report)


def report(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Default: reports/ in the data folder.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write report.html and report.json.

    Funnel, reasons of drops, lengths, clusters, verbs, scores, rounds, examples.
    """
    from xinstruct.cli.report.gather import gather
    from xinstruct.cli.report.page import Run
    from xinstruct.cli.report.write import write_report

    with connect(config) as client:
        gathered = gather(client)
        folder = out or Path(client.settings.curation.reports_location or client.settings.home_path() / "reports")
        title = client.settings.curation.dataset_title
    folder.mkdir(parents=True, exist_ok=True)
    write_report(folder, gathered, Run(title, [code for code in gathered.funnel if code]), None)
    if as_json:
        print_json({"html": str(folder / "report.html"), "json": str(folder / "report.json")})
    else:
        print_line(f"{folder / 'report.html'}\n{folder / 'report.json'}")
