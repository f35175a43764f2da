"""xinstruct preview: pairs from the user's own pages through any one OpenAI-compatible endpoint, without training."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from xinstruct.cli.client import CONFIG_FILE, Client, connect_to, read_settings
from xinstruct.cli.crawl import guess_kind
from xinstruct.cli.options import ConfigOption, JsonOption
from xinstruct.cli.output import clean, print_json, print_line, print_note
from xinstruct.spine.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from xinstruct.cli.factory import Factory
    from xinstruct.v1.curation_service_pb2 import Funnel, Row
    from xinstruct.v1.status_service_pb2 import GetStatusResponse

NO_CONTACT = "xinstruct preview, run by hand; no contact given"
"""What sites read in place of a contact when none is given."""
PAGES_PER_PAIR = 5
LOOK_S = 0.5
QUIET_LOOKS = 4


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(preview)


def preview(
    urls: Annotated[list[str], typer.Argument(metavar="URL…", help="Pages, sitemaps or feeds of your own.")],
    n: Annotated[int, typer.Option("--n", min=1, max=200, help="Pairs to show.")] = 10,
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="OpenAI-compatible endpoint; default: the configured one.")
    ] = "",
    model: Annotated[
        str, typer.Option(metavar="NAME", help="Model there; default: the configured or the first one.")
    ] = "",
    depth: Annotated[int, typer.Option(min=0, max=5, help="Links to follow from the pages.")] = 1,
    contact: Annotated[
        str, typer.Option(metavar="URL", help="Your page or mailto:, shown to the sites; default: the configured one.")
    ] = "",
    wait_s: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 600.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show pairs from your own pages, with any one model.

    Crawls a few pages, drafts and scores; trains nothing and keeps nothing.
    """
    from xinstruct.cli.factory import Factory, Member, free_port, terminated_like_interrupted
    from xinstruct.settings import load_settings

    settings = _settings(config, urls, endpoint=endpoint, model=model, contact=contact)
    with terminated_like_interrupted(), tempfile.TemporaryDirectory(prefix="xinstruct-preview-") as folder:
        from xinstruct.cli.demo.plan import write_config

        home, port = Path(folder), free_port()
        _require_endpoint(settings)
        settings |= {"home": str(home / "home"), "rpc": {"port": port}}
        member = Member("all", ("all",), write_config(settings, home / CONFIG_FILE), port)
        factory = Factory([member], home)
        try:
            factory.spawn_all()
            factory.await_all()
            with connect_to(load_settings(member.config)) as client:
                rows = _collect(client, factory, urls, pairs_max=n, depth=depth, wait_s=wait_s)
        finally:
            factory.stop()
    for number, row in enumerate(rows, 1):
        _show(row, number, as_json)
    if len(rows) < n:
        print_note(f"{len(rows)} of {n} pairs: the pages gave no more; name more of them, or follow links (--depth).")


def _require_endpoint(settings: dict[str, Any]) -> None:
    """Unavailable or Invalid, in the endpoint's words, before a page is fetched for it in vain."""
    from xinstruct.inference.config import RoleSettings
    from xinstruct.inference.endpoint import open_backend

    endpoint = open_backend(RoleSettings(**settings["inference"]["evaluator"]))
    try:
        endpoint.probe()
    finally:
        endpoint.close()


def _settings(config: Path | None, urls: Sequence[str], *, endpoint: str, model: str, contact: str) -> dict[str, Any]:
    """The configuration of the preview: the user's own with one endpoint for both roles, and nothing to train."""
    read = read_settings(config)
    own = read.model_dump(mode="json")
    role = own["inference"]["generator"]
    if endpoint:
        role = {"kind": "openai", "url": endpoint, "model": model}
    elif model:
        role["model"] = model
    if role["kind"] != "openai":
        raise Invalid(
            "preview needs a model that follows instructions: --endpoint http://localhost:8000/v1 [--model NAME]"
        )
    fetch = own["crawler"]["fetch"]
    # A private address that the user typed is one that the user wants. A name is not: its owner says where it leads.
    typed = (_host_port(url) for url in urls if _is_private(url))
    fetch["private_hosts_allowed"] = [*fetch["private_hosts_allowed"], *typed]
    fetch["contact_url"] = contact or fetch["contact_url"] or NO_CONTACT
    if fetch["contact_url"] == NO_CONTACT:
        agent = read.crawler.fetch.model_copy(update={"contact_url": NO_CONTACT}).user_agent
        print_note(f"Sites are asked as {agent!r}; --contact names your page or mailto: to them.")
    return {
        "inference": {"generator": role, "evaluator": role | {"votes_count": role.get("votes_count", 0) or 5}},
        "crawler": own["crawler"],
        "backgen": own["backgen"] | {"prompt_family": "chat"},
        "scoring": own["scoring"] | {"prompt_family": "chat"},
        "curation": own["curation"],
    }


def _collect(
    client: Client, factory: Factory, urls: Sequence[str], *, pairs_max: int, depth: int, wait_s: float
) -> list[Row]:
    """Scored rows, as soon as there are enough, or all when nothing more comes."""
    from xinstruct.v1.curation_service_pb2 import GetFunnelRequest, ListRowsRequest
    from xinstruct.v1.status_service_pb2 import GetStatusRequest

    for number, url in enumerate(urls):
        _add(client, url, f"preview-{number}", pages_max=max(pairs_max * PAGES_PER_PAIR, 20), depth=depth)
    deadline, quiet = time.monotonic() + wait_s, 0
    while True:
        factory.require_alive()
        funnel = client.ask(client.curation.GetFunnel, GetFunnelRequest())
        status = client.ask(client.status_of("curation").GetStatus, GetStatusRequest())
        _tell(funnel, status)
        quiet = quiet + 1 if status.idle else 0
        enough = sum(row.pairs_scored for row in funnel.languages) >= pairs_max
        stopped = any(stage.stopped for stage in status.stages)
        if enough or stopped or quiet >= QUIET_LOOKS or time.monotonic() > deadline:
            break
        time.sleep(LOOK_S)
    if sys.stderr.isatty():
        print_note("")
    rows = [row for row in client.ask(client.curation.ListRows, ListRowsRequest(page_size=1000)).rows if row.scores]
    if not rows:
        raise Unavailable(_why_nothing(funnel, status))
    return sorted(rows, key=lambda row: -row.scores[0].p_best)[:pairs_max]


def _add(client: Client, url: str, request_id: str, *, pages_max: int, depth: int) -> None:
    from xinstruct.v1 import crawler_service_pb2 as pb
    from xinstruct.v1 import messages_pb2

    kind = messages_pb2.SourceKind.Value(f"SOURCE_KIND_{guess_kind(url).upper()}")
    client.ask(
        client.crawler.SubmitCrawl,
        pb.SubmitCrawlRequest(
            request_id=request_id,
            action=messages_pb2.CRAWL_ACTION_ADD,
            kind=kind,
            location=url,
            pages_max=pages_max,
            depth_max=depth,
        ),
    )


def _tell(funnel: Funnel, status: GetStatusResponse) -> None:
    if not sys.stderr.isatty():
        return
    counts = {
        title: sum(getattr(row, name) for row in funnel.languages)
        for name, title in (
            ("pages_fetched", "pages"),
            ("documents_admitted", "texts"),
            ("pairs_drafted", "drafted"),
            ("pairs_scored", "scored"),
        )
    }
    waiting = next((stage.waiting_for for stage in status.stages if stage.waiting_for), "")
    text = "  ".join(f"{count} {title}" for title, count in counts.items()) + (f"  waits: {waiting}" if waiting else "")
    sys.stderr.write(f"\r\x1b[K{clean(text)[:110]}")
    sys.stderr.flush()


def _why_nothing(funnel: Funnel, status: GetStatusResponse) -> str:
    waiting = next((stage.waiting_for for stage in status.stages if stage.waiting_for), "")
    if waiting:
        return f"no pair came out: {waiting}"
    reasons = sorted(funnel.dropped.items(), key=lambda item: -item[1])[:5]
    if not reasons:
        return "no pair came out: no page could be fetched; is the address right, and does it allow crawlers?"
    return f"no pair came out; pages and texts were dropped: {', '.join(f'{name} {count}' for name, count in reasons)}"


def _show(row: Row, number: int, as_json: bool) -> None:
    score = row.scores[0]
    if as_json:
        print_json(
            {
                "instruction": row.pair.instruction,
                "response": row.pair.response,
                "language": row.pair.language,
                "url": row.pair.url,
                "p_best": round(score.p_best, 6),
                "p_reasonable": round(score.p_reasonable, 6),
                "p_worst": round(score.p_worst, 6),
                "kept": row.kept,
            }
        )
        return
    kept = "kept" if row.kept else "not kept"
    print_line(f"── {number} · {row.pair.language} · P(best) {score.p_best:.2f}, {kept} · {row.pair.url}")
    print_line(f"{row.pair.instruction}\n\n{row.pair.response}\n")


def _host_port(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _is_private(url: str) -> bool:
    """Whether the URL itself, not what its name may resolve to, says that it stays in this machine or network."""
    host = urlsplit(url).hostname or ""
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
