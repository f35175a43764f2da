"""The command line of the microworld; the `xinstruct` command mounts `application` as `xinstruct microworld`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from xinstruct.microworld.languages import LANGUAGES
from xinstruct.microworld.seeds import seed_pairs
from xinstruct.microworld.site import PAGES_PER_LANGUAGE, SiteConfig
from xinstruct.microworld.site_server import ADDRESS, PORT, ServerConfig, serve, truth_lines
from xinstruct.microworld.world import site_names

application = typer.Typer(
    help="An invented web site: serve, truth, seeds.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)

Seed = Annotated[int, typer.Option(help="Another seed is another country.")]
Port = Annotated[int, typer.Option(help="TCP port; part of the URLs in the truth.")]
HostName = Annotated[str, typer.Option("--host", help="Name or address in URLs, where readers find the site.")]
Languages = Annotated[str, typer.Option(help=f"Comma-separated, of {','.join(LANGUAGES)}.")]
ALL = ",".join(LANGUAGES)
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout instead of text for people.")]
AlwaysJson = Annotated[bool, typer.Option("--json", help="Taken as everywhere; these are JSON lines in any case.")]
Pages = Annotated[int, typer.Option(min=40, max=5_000, help="Pages a language.")]


@application.command("serve")
def serve_command(
    seed: Seed = 1,
    port: Port = PORT,
    languages: Languages = ALL,
    pages: Pages = PAGES_PER_LANGUAGE,
    slow_s: Annotated[float, typer.Option(min=0.0, help="Delay of slow pages, in seconds.")] = 0.2,
    access_log: Annotated[Path | None, typer.Option(help="JSONL file to append a line a request to.")] = None,
    control_token: Annotated[str, typer.Option(help="Secret of the calls that change the site; empty: none.")] = "",
    skin: Annotated[str, typer.Option(help="Skin of every host; empty: the seed draws one for each.")] = "",
    host: HostName = ADDRESS,
    listen: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: whoever reaches this machine.")] = ADDRESS,
    as_json: Json = False,
) -> None:
    """Serve the sites until interrupted; on loopback, unless told otherwise."""
    site = SiteConfig(seed, _codes(languages), pages, slow_s=slow_s, skin=skin)
    sitemap_url = f"http://{host}:{port}/sitemap.xml"

    def tell() -> None:
        typer.echo(json.dumps({"sitemap_url": sitemap_url}) if as_json else sitemap_url, err=not as_json)

    serve(ServerConfig(site, port, host, listen, access_log, control_token), tell)


@application.command("truth")
def truth_command(
    seed: Seed = 1,
    port: Port = PORT,
    languages: Languages = ALL,
    pages: Pages = PAGES_PER_LANGUAGE,
    host: HostName = ADDRESS,
    as_json: AlwaysJson = False,
) -> None:
    """Print the truth about every page, a JSON line each."""
    for line in truth_lines(SiteConfig(seed, _codes(languages), pages), port, host):
        sys.stdout.write(line + "\n")


@application.command("seeds")
def seeds_command(
    seed: Seed = 1,
    languages: Languages = ALL,
    per_language: Annotated[int, typer.Option(min=1, help="Pairs a language.")] = 2_000,
    pages: Pages = PAGES_PER_LANGUAGE,
    as_json: AlwaysJson = False,
) -> None:
    """Print gold pairs about other entities than the site's, a JSON line each."""
    codes = _codes(languages)
    for pair in seed_pairs(seed, codes, per_language, site_names(seed, codes, pages)):
        sys.stdout.write(json.dumps(pair, ensure_ascii=False) + "\n")


def _codes(languages: str) -> tuple[str, ...]:
    codes = tuple(code.strip() for code in languages.split(",") if code.strip())
    unknown = [code for code in codes if code not in LANGUAGES]
    if unknown or not codes:
        raise typer.BadParameter(f"unknown languages {unknown}; the microworld has {', '.join(LANGUAGES)}")
    return codes
