"""What a service hands to the process that runs it, and what it is handed.

`build(config, deps) -> App` in each service's app.py; targets.py knows them all; spine/process.py runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from xinstruct.spine.blobs import Blobs
from xinstruct.spine.inference import Inference
from xinstruct.spine.log import Log
from xinstruct.spine.stage import Stage

Clock = Callable[[], int]
"""Now, in Unix milliseconds. Passed in, so that tests own the time."""


@dataclass(frozen=True)
class Deps:
    """Everything with an effect; `home` is the local data folder.

    `inference` holds one journaled endpoint a role, or "evaluator-a" and "evaluator-b" where slots have their own.
    """

    log: Log
    database: sa.Engine
    blobs: Blobs
    inference: Mapping[str, Inference]
    clock: Clock
    home: Path
    instance: str = "0"
    """Stable name of this process among its replicas (StatefulSet ordinal)."""


class Loop(Protocol):
    """Work that is no ask/decide stage: a projection, the frontier, the job keeper. Run by one thread."""

    name: str

    def step(self) -> bool:
        """Do one bounded piece (≤ about 1 s, interruptible between pieces); True when something was done."""

    def pending(self) -> bool:
        """Whether work is left: records to project, pages to fetch now, jobs to run. For status and tests."""

    def close(self) -> None:
        """Leave everything so that the next start goes on."""


@dataclass(frozen=True)
class Servicer:
    """A gRPC servicer: its full service name, its add_…_to_server function, and the object."""

    name: str
    register: Callable[[Any, Any], None]
    servicer: Any


@dataclass(frozen=True)
class App:
    """A built service.

    stages: called again and again; a stage that appears, changes version or disappears is started, restarted or
    stopped by the process (scoring's slots change with promotions). loops and servicers are fixed.
    """

    stages: Callable[[], Sequence[Stage]] = field(default=lambda: ())
    loops: Sequence[Loop] = ()
    servicers: Sequence[Servicer] = ()
    ready: Callable[[], str] = field(default=lambda: "")
    """Why the service cannot work now, a sentence for a person; empty when it can. Shown in health and status."""
    close: Callable[[], None] = field(default=lambda: None)
