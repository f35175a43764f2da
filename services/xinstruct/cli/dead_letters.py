"""xinstruct dlq: records that no stage could handle, why, and trying them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from xinstruct.cli.client import Client, connect
from xinstruct.cli.options import ConfigOption, JsonOption
from xinstruct.cli.output import print_json, print_line, print_table
from xinstruct.spine.errors import NotFound

if TYPE_CHECKING:
    from xinstruct.v1.messages_pb2 import DeadLetter

group = typer.Typer(name="dlq", help="Dead letters: records that a stage could not handle.", no_args_is_help=True)
StageOption = Annotated[str, typer.Argument(metavar="[STAGE]", help="Stage, for instance backgen; default: all.")]


def mount(app: typer.Typer) -> None:
    """Add the group to the command line."""
    app.add_typer(group)


@group.command("list")
def list_letters(stage: StageOption = "", config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Dead letters of a stage, oldest first."""
    with connect(config) as client:
        letters = list(_letters(client, stage))
    if as_json:
        for letter in letters:
            print_json(letter)
        return
    print_table(
        ("dead letter", "stage", "reason", "tries", "record", "detail"),
        ((x.dead_letter_id[:12], x.stage, x.reason, x.attempts_count, x.input_id[:12], x.detail) for x in letters),
        empty="No dead letters.",
    )


@group.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Dead letter's id, or its start.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Everything about one dead letter."""
    with connect(config) as client:
        found = [letter for letter in _letters(client, "") if letter.dead_letter_id.startswith(letter_id)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} dead letters start with {letter_id!r}; `xinstruct dlq list` shows what there is")
    if as_json:
        print_json(found[0])
        return
    for field, value in found[0].ListFields():
        print_line(f"{field.name:16} {value}")


@group.command()
def replay(
    stage: Annotated[str, typer.Argument(help="Stage whose dead letters are tried again.")],
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Which; default: all of the stage.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give the originals of dead letters to their stage again; only that stage reads them."""
    from xinstruct.v1.curation_service_pb2 import ReplayDeadLettersRequest

    with connect(config) as client:
        chosen = [_full_id(client, stage, start) for start in letter_ids or ()]
        request = ReplayDeadLettersRequest(stage=stage, dead_letter_ids=chosen)
        response = client.ask(client.curation.ReplayDeadLetters, request)
    if as_json:
        print_json(response)
    else:
        print_line(f"{response.replayed_count} records go to {stage} again.")


def _full_id(client: Client, stage: str, start: str) -> str:
    found = [letter.dead_letter_id for letter in _letters(client, stage) if letter.dead_letter_id.startswith(start)]
    if len(found) != 1:
        raise NotFound(f"{len(found)} dead letters of {stage} start with {start!r}; see `xinstruct dlq list {stage}`")
    return found[0]


def _letters(client: Client, stage: str) -> Iterator[DeadLetter]:
    from xinstruct.spine.topics import STAGES
    from xinstruct.v1.curation_service_pb2 import ListDeadLettersRequest

    for name in [stage] if stage else STAGES:
        request = ListDeadLettersRequest(stage=name, page_size=1000)
        yield from client.pages(client.curation.ListDeadLetters, request, items="dead_letters")
