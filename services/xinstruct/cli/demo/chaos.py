"""Kills processes of a run with SIGKILL while they hold records in flight, and starts them again."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from xinstruct.cli.factory import Factory, Member
from xinstruct.spine.errors import Unavailable, XinstructError

REST_S_MIN, REST_S_MAX = 4.0, 20.0
"""Between two kills; the moment within is drawn."""
LOOK_S = 0.02


@contextmanager
def kills(factory: Factory, *, count: int, seed: int) -> Iterator[list[str]]:
    """Kill so many processes during the block; yields the growing list of who was killed, and where it stood.

    Unavailable when the block ended before all of them. Not covered: power loss, a full disk.
    """
    done: list[str] = []
    if not count:
        yield done
        return
    stopping = threading.Event()
    killer = threading.Thread(target=_run, args=(factory, count, random.Random(seed), stopping, done), daemon=True)
    killer.start()
    try:
        yield done
    finally:
        stopping.set()
        killer.join()
    if len(done) < count:
        raise Unavailable(f"only {len(done)} of {count} kills found a process with records in flight")


def _run(factory: Factory, count: int, chance: random.Random, stopping: threading.Event, done: list[str]) -> None:
    while len(done) < count and not stopping.wait(chance.uniform(REST_S_MIN, REST_S_MAX)):
        members = list(factory.members)
        chance.shuffle(members)
        while not stopping.wait(LOOK_S):
            busy = next((found for member in members if (found := _busy(member))), None)
            if busy:
                member, where = busy
                done.append(where)
                factory.replace(member)
                break


def _busy(member: Member) -> tuple[Member, str] | None:
    """The member and where it stands, when it holds records between poll and commit."""
    import grpc

    from xinstruct.spine import rpc
    from xinstruct.v1.status_service_pb2 import GetStatusRequest
    from xinstruct.v1.status_service_pb2_grpc import StatusServiceStub

    with suppress(grpc.RpcError, XinstructError), rpc.channel(f"127.0.0.1:{member.port}") as channel:
        status = StatusServiceStub(channel).GetStatus(GetStatusRequest(), timeout=1.0)
        for stage in status.stages:
            if stage.in_flight_records:
                return member, f"{member.name}: {stage.stage} with {stage.in_flight_records} records in flight"
    return None
