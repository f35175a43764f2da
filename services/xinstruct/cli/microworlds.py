"""xinstruct microworld: the invented country's web site, and the truth about its pages."""

from __future__ import annotations

import typer

_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def mount(app: typer.Typer) -> None:
    """Add the group to the command line. Its own module is imported when it runs: the site's server is heavy."""
    app.command("microworld", context_settings=_SETTINGS, add_help_option=False)(microworld)


def microworld(context: typer.Context) -> None:
    """An invented web site: serve, truth, seeds."""
    from xinstruct.microworld.command import application

    command = typer.main.get_command(application)
    code = command(context.args or ["--help"], prog_name="xinstruct microworld", standalone_mode=False)
    raise typer.Exit(int(code or 0))
