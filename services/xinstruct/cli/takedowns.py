"""xinstruct takedown and xinstruct gc: erase what somebody asked to have erased, and what nothing needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xinstruct.cli.client import LONG_DEADLINE_S, Work, connect
from xinstruct.cli.options import ConfigOption, JsonOption, RequestIdOption, is_id, request_id
from xinstruct.cli.output import print_json, print_line, short_digest
from xinstruct.spine.errors import Invalid

if TYPE_CHECKING:
    from xinstruct.v1.curation_service_pb2 import Takedown


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(takedown)
    app.command()(gc)


def takedown(
    target: Annotated[
        str, typer.Argument(metavar="URL|HOST|ID", help="A page's URL, a whole host, or the id of a document or pair.")
    ],
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete releases, reports and training snapshots that hold it.")
    ] = False,
    reason: Annotated[str, typer.Option(help="For the record, at most 500 characters.")] = "",
    id_: RequestIdOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a page, a host or a document for good.

    Waits until it is erased. It is never admitted again and is in no later release. Releases, training snapshots and
    reports that hold it are named; --purge deletes them.
    """
    from xinstruct.v1 import messages_pb2
    from xinstruct.v1.curation_service_pb2 import SubmitTakedownRequest, WatchTakedownRequest

    request = SubmitTakedownRequest(
        request_id=request_id(id_),
        kind=messages_pb2.TakedownKind.Value(f"TAKEDOWN_KIND_{kind_of(target)}"),
        target=target,
        reason=reason,
        purge=purge,
    )
    with connect(config, Work.CHANGE) as client:
        state = client.ask(client.curation.SubmitTakedown, request)
        if state.state != "erased":
            for event in client.watch(client.curation.WatchTakedown, WatchTakedownRequest(request_id=state.request_id)):
                state = event.takedown
                if state.state == "erased":
                    break
    if as_json:
        print_json(state)
    else:
        _tell(state, purged=purge)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be erased.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase what nothing needs any more.

    Page bodies past their retention, blobs that nothing refers to, and the files that a publication left when it was
    killed; the first two are counted.
    """
    from xinstruct.v1.curation_service_pb2 import CollectGarbageRequest

    with connect(config) as client:
        request = CollectGarbageRequest(dry_run=dry_run)
        done = client.ask(client.curation.CollectGarbage, request, deadline_s=LONG_DEADLINE_S)
    if as_json:
        print_json(done)
        return
    would = "would be erased" if dry_run else "erased"
    print_line(
        f"{done.bodies_expired:,} bodies past their retention and {done.blobs_orphaned:,} blobs that nothing refers to"
        f" {would}, {done.bytes_erased / 1e6:,.1f} MB in all."
    )


def kind_of(target: str) -> str:
    """What a target names: "URL" when it has a scheme, "DOCUMENT" for an id of 32 hex digits, otherwise "HOST".

    Invalid for what can be none of them: it would be put on the permanent list, and what was meant would stay.
    """
    if "://" in target:
        return "URL"
    if is_id(target):
        return "DOCUMENT"
    if not target or any(character.isspace() or character in "/?#@" for character in target):
        raise Invalid(f"{target!r} is no URL with http:// or https://, no host and no id")
    return "HOST"


def _tell(state: Takedown, *, purged: bool) -> None:
    print_line(f"{state.target}: {state.state} (records: {state.records_erased:,}, bodies: {state.blobs_erased:,})")
    hold = "that held rows of it, deleted" if purged else "that hold rows of it"
    name = "that named it, deleted" if purged else "that name it"
    named = (
        (f"releases {hold}", list(state.releases_affected)),
        (f"training snapshots {hold}", [short_digest(item) for item in state.snapshots_affected]),
        ("models trained on those", [short_digest(item) for item in state.models_affected]),
        (f"reports {name}", list(state.reports_affected)),
    )
    if not state.records_erased and not any(names for _, names in named):
        print_line("  nothing of it was there; nothing of it will be admitted")
    for what, names in named:
        if names:
            print_line(f"  {what}: {', '.join(names)}")
