"""xinstruct draft and xinstruct score: one text, one pair, now."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from xinstruct.cli.client import LONG_DEADLINE_S, connect
from xinstruct.cli.options import ConfigOption, JsonOption
from xinstruct.cli.output import print_json, print_line, short_digest
from xinstruct.spine.errors import Invalid

TextArgument = Annotated[
    str, typer.Argument(metavar="TEXT|@FILE|-", help="The native text; @FILE reads a file, - reads stdin.")
]
LanguageArgument = Annotated[
    str, typer.Option("--language", metavar="TAG", help="Language of the text, for instance sw.")
]

INJECTED = "injected_instructions"
"""The one reason of backgen that is about the text, not about its draft."""


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(draft)
    app.command()(score)


def draft(
    text: TextArgument, language: LanguageArgument, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Write the English instruction that a text answers."""
    from xinstruct.v1.backgen_service_pb2 import DraftInstructionRequest

    request = DraftInstructionRequest(text=read_text(text), language=language)
    with connect(config) as client:
        response = client.ask(client.backgen.DraftInstruction, request, deadline_s=LONG_DEADLINE_S)
    if as_json:
        print_json(response)
        return
    print_line(response.instruction or refusal(response.dropped_reason))


def score(
    instruction: Annotated[str, typer.Argument(help="The English instruction.")],
    response: TextArgument,
    language: LanguageArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Label one pair: best, reasonable or worst."""
    from xinstruct.v1.scoring_service_pb2 import ScorePairRequest

    request = ScorePairRequest(instruction=instruction, response=read_text(response), language=language)
    with connect(config) as client:
        scored = client.ask(client.scoring.ScorePair, request, deadline_s=LONG_DEADLINE_S)
    if as_json:
        print_json(scored)
        return
    print_line(
        f"best {scored.p_best:.3f}  reasonable {scored.p_reasonable:.3f}  worst {scored.p_worst:.3f}"
        f"  (evaluator {short_digest(scored.evaluator_digest)})"
    )


def refusal(reason: str) -> str:
    """Why a text got no instruction, in a sentence."""
    if reason == INJECTED:
        return f"No instruction: the text was refused as {reason}, because it addresses a model; none was shown it."
    return f"No instruction: the draft was refused as {reason}."


def read_text(argument: str) -> str:
    """The text itself, the content of @FILE, or stdin for "-". Invalid when the file cannot be read as UTF-8."""
    try:
        if argument == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        return Path(argument[1:]).read_text("utf-8") if argument.startswith("@") else argument
    except OSError as error:
        raise Invalid(f"cannot read {argument[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{argument}: not UTF-8 at byte {error.start}") from error
