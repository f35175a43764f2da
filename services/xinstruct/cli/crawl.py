"""xinstruct crawl: add sources, steer them, see how far they are."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from xinstruct.cli.client import Work, connect
from xinstruct.cli.options import ConfigOption, JsonOption, RequestIdOption, absolute, request_id, split_list
from xinstruct.cli.output import cell_text, print_json, print_line, print_table
from xinstruct.spine.errors import Invalid

if TYPE_CHECKING:
    from xinstruct.v1.crawler_service_pb2 import Source

group = typer.Typer(name="crawl", help="Sources of text: add, pause, resume, remove, status.", no_args_is_help=True)

KINDS = ("url", "sitemap", "feed", "jsonl", "parquet")
TEXT_KINDS = ("jsonl", "parquet")
_FILE_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".rss": "feed", ".atom": "feed"}


def mount(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group)


@group.command()
def add(
    locations: Annotated[
        list[str],
        typer.Argument(
            metavar="LOCATION…", help="URL of a page, sitemap or feed; path or URL of a JSONL or Parquet file."
        ),
    ],
    kind: Annotated[str, typer.Option(metavar="KIND", help=f"{', '.join(KINDS)}; default: by the name.")] = "",
    hosts: Annotated[
        str, typer.Option(metavar="HOST,…", help="Hosts whose pages may be fetched; default: the location's own.")
    ] = "",
    pages_max: Annotated[int, typer.Option(min=0, help="Pages to fetch at most; 0: the configured default.")] = 0,
    depth_max: Annotated[int, typer.Option(min=0, help="Links to follow from the location at most; 0: none.")] = 0,
    text_field: Annotated[str, typer.Option(help='Field with the text (JSONL, Parquet); default "text".')] = "",
    url_field: Annotated[str, typer.Option(help='Field with the origin (JSONL, Parquet); default "url".')] = "",
    licence: Annotated[str, typer.Option(help="SPDX id or URL that you assert for all pages.")] = "",
    language: Annotated[
        str,
        typer.Option(
            help="Language you expect where pages declare none. Texts are identified all the same; one that looks "
            "like a neighbour of it, but not clearly, is dropped."
        ),
    ] = "",
    poll_interval_s: Annotated[
        int, typer.Option(min=0, help="Seconds between two looks at each page; 0: once (feeds: the default).")
    ] = 0,
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add sources to crawl. Only their own hosts are fetched, by robots.txt, opt-outs and per-host delays.

    A source that is added again is looked through again: what changed is read, what is gone is superseded.
    JSONL and Parquet files are read from disk, s3:// and hf:// (datasets/OWNER/NAME/FILE), and from gs:// and az://
    where gcsfs and adlfs are installed; not over http(s): download such a file first.
    """
    from xinstruct.spine.languages import language as known_language
    from xinstruct.v1 import crawler_service_pb2 as pb
    from xinstruct.v1 import messages_pb2

    declared = known_language(language).code if language else ""
    with connect(config, Work.READ) as client:
        for number, location in enumerate(locations):
            word = kind or guess_kind(location)
            if word not in KINDS:
                raise Invalid(f"no kind of source {word!r}; there are {', '.join(KINDS)}")
            request = pb.SubmitCrawlRequest(
                request_id=f"{request_id(id_)}{f'-{number}' if number else ''}",
                location=located(location, word),
                action=messages_pb2.CRAWL_ACTION_ADD,
                kind=messages_pb2.SourceKind.Value(f"SOURCE_KIND_{word.upper()}"),
                hosts=split_list(hosts),
                pages_max=pages_max,
                depth_max=depth_max,
                text_field=text_field,
                url_field=url_field,
                licence=licence,
                declared_language=declared,
                poll_interval_s=poll_interval_s,
            )
            response = client.ask(client.crawler.SubmitCrawl, request)
            _say(response.source_id, _added(word, request.location, response.source_id), as_json)


@group.command()
def pause(
    source: Annotated[str, typer.Argument(help="Source id, or its location.")],
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop fetching from a source until it is resumed."""
    _steer(source, "PAUSE", "paused", id_, config, as_json)


@group.command()
def resume(
    source: Annotated[str, typer.Argument(help="Source id, or its location.")],
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a paused source."""
    _steer(source, "RESUME", "resumed", id_, config, as_json)


@group.command()
def remove(
    source: Annotated[str, typer.Argument(help="Source id, or its location.")],
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch nothing more from a source. What was fetched stays; `xinstruct takedown` erases."""
    _steer(source, "REMOVE", "removed", id_, config, as_json)


@group.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Every source and how far it is."""
    from xinstruct.v1.crawler_service_pb2 import ListSourcesRequest

    with connect(config) as client:
        waiting = client.ask(client.crawler.ListSources, ListSourcesRequest(page_size=1)).commands_waiting
        sources = list(client.pages(client.crawler.ListSources, ListSourcesRequest(page_size=1000), items="sources"))
    if as_json:
        for source in sources:
            print_json(source)
        return
    print_table(
        ("source", "location", "state", "known", "fetched", "failed", "denied", "waiting", "last error"),
        (_row(source) for source in sources),
        empty="No sources yet." if waiting else "No sources yet; `xinstruct crawl add URL` adds one.",
    )
    if waiting:
        commands = "1 command waits" if waiting == 1 else f"{waiting} commands wait"
        print_line(f"{commands} to be carried out; what was added is listed once `xinstruct up` runs.")


def located(location: str, kind: str) -> str:
    """The location as it is stored: a text file's path does not depend on where `xinstruct up` was started."""
    return absolute(location) if kind in TEXT_KINDS else location


def guess_kind(location: str) -> str:
    """The kind of source that a location's name suggests: its extension, or "sitemap" and "feed" in its last part.

    Invalid when it suggests a page and is no web address.
    """
    name = PurePosixPath(urlsplit(location).path.removesuffix(".gz")).name.lower()
    suffix = PurePosixPath(name).suffix
    if suffix in _FILE_KINDS:
        return _FILE_KINDS[suffix]
    if suffix == ".xml":
        return "sitemap" if "sitemap" in name else "feed"
    scheme, mark, _ = location.partition("://")
    if mark and scheme.lower() not in ("http", "https"):
        raise Invalid(f"{scheme}:// is no web address; name the kind of file: --kind jsonl|parquet")
    return "feed" if name in ("feed", "rss", "atom") else "url"


def _added(kind: str, location: str, source_id: str) -> str:
    return f"added {kind} {location} as source {source_id}; it is crawled while `xinstruct up` runs"


def _row(source: Source) -> tuple[object, ...]:
    return (
        source.source_id[:12],
        cell_text(source.location),
        source.state,
        source.pages_known,
        source.pages_fetched,
        source.pages_failed,
        source.pages_denied,
        source.pages_waiting,
        source.last_error.removeprefix(f"{source.location}: "),
    )


def _steer(source: str, action: str, done: str, id_: str, config: ConfigOption, as_json: bool) -> None:
    from xinstruct.v1 import messages_pb2
    from xinstruct.v1.crawler_service_pb2 import ListSourcesRequest, SubmitCrawlRequest

    with connect(config) as client:
        sources = client.pages(client.crawler.ListSources, ListSourcesRequest(page_size=1000), items="sources")
        names = {source, absolute(source)}
        matching = [known for known in sources if known.location in names or known.source_id.startswith(source)]
        location = matching[0].source_id if len(matching) == 1 else source
        request = SubmitCrawlRequest(
            request_id=request_id(id_),
            location=location,
            action=messages_pb2.CrawlAction.Value(f"CRAWL_ACTION_{action}"),
        )
        response = client.ask(client.crawler.SubmitCrawl, request)
    _say(response.source_id, f"{done} source {response.source_id}", as_json)


def _say(source_id: str, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json({"source_id": source_id})
    else:
        print_line(sentence)
