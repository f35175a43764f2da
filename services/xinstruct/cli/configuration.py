"""xinstruct init and xinstruct config: write a commented configuration, check one, print its schema."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xinstruct.cli.client import CONFIG_FILE, read_settings
from xinstruct.cli.options import AlwaysJsonOption, ConfigOption, JsonOption
from xinstruct.cli.output import print_json, print_line
from xinstruct.spine.errors import Conflict

if TYPE_CHECKING:
    from pydantic import BaseModel

group = typer.Typer(name="config", help="The configuration file.", no_args_is_help=True)

WIDTH = 118
_HEAD = """\
# Configuration of xinstruct. Everything that is commented out shows its default; a key that is unknown is refused.
# `xinstruct config check` reads this file and names every mistake. Relative folders start at this file's folder.
#
# Seed pairs of your own teach generator and evaluator: a JSONL file, one pair a line, 100 or more a language:
#   {"instruction": "How do people in Mbeya cook ugali?", "response": "Ugali hupikwa …", "language": "sw"}
# `xinstruct train generator --seeds FILE --promote` and the same for `evaluator` use it. Without seeds, any model that
# follows instructions serves as both: `xinstruct init --endpoint URL --model NAME` writes it into this file. Where its
# server gives no log-probabilities, set votes_count under inference: evaluator: to 5, or pairs wait for their labels.
"""


def mount(app: typer.Typer) -> None:
    """Add `init` and the group to the command line."""
    app.command()(init)
    app.add_typer(group)


def init(
    file: Annotated[Path, typer.Argument(help="File to write.")] = Path(CONFIG_FILE),
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="OpenAI-compatible endpoint for generator and evaluator.")
    ] = "",
    model: Annotated[str, typer.Option(metavar="NAME", help="Model that the endpoint serves.")] = "",
    contact: Annotated[
        str, typer.Option(metavar="URL", help="Your page or address, which the crawler's name shows to sites.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented configuration file."""
    if file.exists() and not force:
        raise Conflict(f"{file} is there already; --force replaces it, or name another file")
    file.write_text(commented_settings(chosen_settings(endpoint=endpoint, model=model, contact=contact)), "utf-8")
    if as_json:
        print_json({"file": str(file)})
        return
    config = "" if file == Path(CONFIG_FILE) else f" --config {file}"
    print_line(
        f"Wrote {file}. Next:\n  xinstruct config check{config}\n  xinstruct crawl add https://your.site/ --depth-max 3"
        f"{config}\n  xinstruct up{config}"
    )


@group.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Read the configuration and name every mistake.

    All at once, each with its line and what was expected.
    """
    settings = read_settings(config, ["all"])
    if as_json:
        print_json(settings.model_dump(mode="json"))
    else:
        default = CONFIG_FILE if Path(CONFIG_FILE).exists() else "built-in defaults"
        print_line(f"{config or default}: good. Data in {settings.home_path()}, records in {settings.log.kind}.")


@group.command()
def schema(as_json: AlwaysJsonOption = False) -> None:
    """The JSON schema of the configuration, for editors."""
    from xinstruct.settings import XinstructSettings

    print_json(XinstructSettings.model_json_schema())


def chosen_settings(*, endpoint: str, model: str, contact: str) -> dict[str, Any]:
    """The settings that `init` was asked to write as active keys: {} when nothing was chosen."""
    chosen: dict[str, Any] = {}
    if endpoint:
        role = {"kind": "openai", "url": endpoint, "model": model}
        chosen["inference"] = {"generator": role, "evaluator": role}
    if contact:
        chosen["crawler"] = {"fetch": {"contact_url": contact}}
        chosen["curation"] = {"removal_contact": contact}
    return chosen


def commented_settings(chosen: Mapping[str, Any]) -> str:
    """A YAML file with every key, its description and default; keys of `chosen` active, all others commented out."""
    from xinstruct.settings import XinstructSettings

    return "\n".join([_HEAD, *_section(XinstructSettings(), chosen, depth=0)]) + "\n"


def _section(settings: BaseModel, chosen: Mapping[str, Any], depth: int) -> Iterator[str]:
    from pydantic import BaseModel

    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if depth == 0:
            yield ""
        description = field.description or (type(value).__doc__ if isinstance(value, BaseModel) else "")
        yield from _comment(description or "", depth)
        active = name in chosen
        if isinstance(value, BaseModel):
            yield _key(name, "", depth, active)
            yield from _section(value, chosen.get(name, {}) if active else {}, depth + 1)
        else:
            yield from _value(name, chosen.get(name, value), depth, active)


def _comment(text: str, depth: int) -> Iterator[str]:
    import textwrap

    indent = "  " * depth
    for row in textwrap.wrap(" ".join(text.split()), WIDTH - len(indent)):
        yield f"{indent}# {row}"


def _key(name: str, value: str, depth: int, active: bool) -> str:
    return f"{'  ' * depth}{'' if active else '#'}{name}:{value and ' ' + value}"


def _value(name: str, value: Any, depth: int, active: bool) -> Iterator[str]:
    from ruamel.yaml import YAML

    plain = _plain(value)
    yaml = YAML(typ="safe")
    yaml.default_flow_style = True
    yaml.width = 10_000
    yaml.allow_unicode = True
    stream = io.StringIO()
    yaml.dump({name: plain}, stream)
    text = stream.getvalue().strip().removeprefix("{").removesuffix("}").partition(": ")[2]
    yield _key(name, text, depth, active)


def _plain(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value
