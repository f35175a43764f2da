"""The two scoring slots as training assigns them: which evaluator labels in which, up to where. SQL."""

from __future__ import annotations

import sqlalchemy as sa

from xinstruct.spine.errors import Conflict
from xinstruct.spine.registry import SLOTS
from xinstruct.spine.sql import transaction, upsert
from xinstruct.spine.topics import SLOT_NAMES


def assign(engine: sa.Engine, evaluator_digest: str, target_offsets: str) -> str:
    """Give the evaluator an idle slot; returns "a" or "b".

    The same evaluator again keeps its slot. Conflict when both slots are at work: one catching up, one promoted.
    """
    with transaction(engine) as connection:
        rows = {row.slot: row.evaluator_digest for row in connection.execute(sa.select(SLOTS))}
        for slot, digest in rows.items():
            if digest == evaluator_digest:
                return str(slot)
        free = [slot for slot in SLOT_NAMES if not rows.get(slot)]
        if not free:
            raise Conflict("both scoring slots are at work; promote or rest one first")
        row = {"slot": free[0], "evaluator_digest": evaluator_digest, "target_offsets": target_offsets}
        upsert(connection, SLOTS, [row], key=("slot",))
    return free[0]


def rest(engine: sa.Engine, slot: str) -> None:
    """Stop a slot: it scores nothing until an evaluator is assigned again."""
    with transaction(engine) as connection:
        upsert(connection, SLOTS, [{"slot": slot, "evaluator_digest": "", "target_offsets": "{}"}], key=("slot",))
