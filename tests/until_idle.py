"""Services run in the test's own thread, in order, until nothing is left to do: a process without its threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xinstruct.spine.app import App, Deps
from xinstruct.spine.runner import Runner, RunnerSettings
from xinstruct.spine.stage import Stage


def run_until_idle(apps: Mapping[str, App], deps: Deps, settings: RunnerSettings) -> None:
    """Run every loop and stage in this thread, in order, until a whole pass finds nothing to do. No sleeps.

    The same input gives the same sequence of effects, as far as ports are deterministic.
    """
    runners: dict[str, Runner] = {}
    try:
        while _pass(apps, deps, settings, runners):
            pass
    finally:
        for runner in runners.values():
            runner.close()


def _pass(apps: Mapping[str, App], deps: Deps, settings: RunnerSettings, runners: dict[str, Runner]) -> bool:
    worked = False
    for app in apps.values():
        for loop in app.loops:
            while loop.pending():
                worked = loop.step() or worked
        for runner in _runners_of(app, deps, settings, runners):
            while not runner.idle():
                worked = runner.turn(wait_s=0.05) or worked
    return worked


def _runners_of(app: App, deps: Deps, settings: RunnerSettings, runners: dict[str, Runner]) -> Iterator[Runner]:
    for stage in app.stages():
        known = runners.get(stage.name)
        if known is None or identity(known.stage) != identity(stage):
            if known is not None:
                known.close()
            runners[stage.name] = Runner(stage, deps.log, blobs=deps.blobs, clock=deps.clock, settings=settings)
        yield runners[stage.name]


def identity(stage: Stage) -> tuple[str, str, str]:
    """What a runner is started again for when it changes, as in spine/process.py."""
    return stage.name, stage.version, stage.position_version
