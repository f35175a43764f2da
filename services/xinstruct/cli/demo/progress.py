"""Progress of the demo's phases: live bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_INTERVAL_S = 10.0


class Phase:
    """One phase at work: how far it is, of how much."""

    def __init__(self, title: str, progress: Progress | None, task: TaskID | None) -> None:
        self._title = title
        self._progress = progress
        self._task = task
        self._said_s = time.monotonic()

    def at(self, done: float, total: float, detail: str = "") -> None:
        """Say that `done` of `total` is reached; total 0: not known yet."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total or None, detail=detail)
        elif time.monotonic() - self._said_s >= LINE_INTERVAL_S:
            self._said_s = time.monotonic()
            share = f" {done / total:.0%}" if total else ""
            _say(f"  {self._title}{share} {detail}".rstrip())


class Screen:
    """Shows phases and remembers how long each took."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[Phase]:
        """Show a phase for the duration of the block; `name` is its key in `seconds`."""
        started_s = time.monotonic()
        task = None if self._progress is None else self._progress.add_task(title, total=None, detail="")
        if self._progress is None:
            _say(title)
        yield Phase(title, self._progress, task)
        took_s = time.monotonic() - started_s
        self.seconds[name] = round(self.seconds.get(name, 0.0) + took_s, 2)
        if self._progress is None or task is None:
            _say(f"  {title}: done in {took_s:.1f} s")
            return
        total = self._progress.tasks[self._progress.task_ids.index(task)].total or 1
        self._progress.update(task, completed=total, total=total)
        self._progress.stop_task(task)

    def say(self, text: str) -> None:
        """A line above the bars."""
        if self._progress is None:
            _say(text)
        else:
            self._progress.console.print(text, markup=False)


@contextmanager
def screen() -> Iterator[Screen]:
    """A screen on stderr: with live bars when it is a terminal."""
    if not sys.stderr.isatty():
        yield Screen(None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True, highlight=False), refresh_per_second=5) as progress:
        yield Screen(progress)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
