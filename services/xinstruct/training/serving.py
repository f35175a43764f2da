"""The port that has a model answer where its role is asked, and the loop that keeps scoring's slots to it."""

from __future__ import annotations

from typing import Protocol

from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.topics import SLOT_NAMES

LOOK_S = 5.0
"""Seconds until a server that was given a model is looked at again."""


class Serving(Protocol):
    """Whoever runs model servers. May be asked by several threads."""

    def serve(self, model: registry.Model, slot: str = "") -> str:
        """Have `model` answer for its role, in a scoring slot if it is an evaluator. Repeating changes nothing.

        Returns what that waits for, a sentence, and "" as soon as it answers. Unavailable when nothing can be known.
        """

    def rest(self, role: str, slot: str) -> None:
        """Nobody asks that slot any more: what serves it may end. Unavailable when it cannot be told now."""

    def first(self, role: str, model: registry.Model | None) -> str:
        """Have `model` answer for a role without slots if what serves that names none: that was installed anew. Without
        a model it may end. Returns what serve() does. Unavailable as above.
        """

    def close(self) -> None:
        """Release connections; servers work on."""


class ServedElsewhere:
    """Models in process, and servers that people look after: adapters ask by digest, and wait for it."""

    def serve(self, model: registry.Model, slot: str = "") -> str:
        """See Serving."""
        return ""

    def rest(self, role: str, slot: str) -> None:
        """See Serving."""

    def first(self, role: str, model: registry.Model | None) -> str:
        """See Serving."""
        return ""

    def close(self) -> None:
        """See Serving."""


class SlotServers:
    """Each slot's server has the evaluator that the slot has, whoever changed either; that of a resting slot rests, and
    so does the encoder's before one is promoted: both are installed running, by a chart that knows no cluster.
    """

    name = "training-serving"

    def __init__(self, deps: Deps, serving: Serving) -> None:
        self._deps = deps
        self._serving = serving
        self._look_ms = 0

    def step(self) -> bool:
        """Compare both slots, and an encoder's server that names no model.

        Unavailable, with a sentence, while a model is not served.
        """
        if self._deps.clock() < self._look_ms + LOOK_S * 1000:
            return False
        # One that names a model is left alone: it may be the next one's, which is promoted as soon as it answers.
        waiting = [self._serving.first("encoder", registry.promoted(self._deps.database, "encoder"))]
        held = registry.slots(self._deps.database)
        for slot in SLOT_NAMES:
            if slot in held:
                model = registry.get(self._deps.database, "evaluator", held[slot][0])
                waiting.append(self._serving.serve(model, slot))
            else:
                self._serving.rest("evaluator", slot)
        if any(waiting):
            raise Unavailable("; ".join(filter(None, waiting)), LOOK_S)
        self._look_ms = self._deps.clock()
        return False

    def pending(self) -> bool:
        """Nothing that scoring does not wait for itself."""
        return False

    def close(self) -> None:
        """Release connections."""
        self._serving.close()
