"""What garbage collection plans."""

from __future__ import annotations

from xinstruct.curation.gc import Blob, Plan, plan

DAY = 86_400_000


def planned(*blobs: Blob, bodies: dict[str, int] | None = None, kept: str = "", retention_days: int = 30) -> Plan:
    """The plan on day 100, with a grace of one day."""
    return plan(
        blobs, body_fetch_time_ms=bodies or {}, kept=frozenset(kept), now_ms=100 * DAY,
        body_retention_ms=retention_days * DAY, orphan_grace_ms=DAY,
    )


def test_a_body_goes_at_the_end_of_its_retention() -> None:
    found = planned(Blob("a", 5, 0), Blob("b", 7, 0), bodies={"a": 70 * DAY, "b": 70 * DAY + 1})
    assert found == Plan(("a",), (), 5)


def test_without_retention_bodies_stay() -> None:
    assert planned(Blob("a", 5, 0), bodies={"a": 0}, retention_days=0) == Plan((), (), 0)


def test_an_orphan_goes_after_its_grace_time() -> None:
    found = planned(Blob("b", 7, 99 * DAY), Blob("a", 5, 0), Blob("c", 9, 99 * DAY + 1))
    assert found == Plan((), ("a", "b"), 12)


def test_what_is_referred_to_is_never_touched() -> None:
    assert planned(Blob("a", 5, 0), Blob("b", 5, 0), bodies={"b": 0}, kept="ab") == Plan((), (), 0)


def test_an_empty_store_has_no_garbage() -> None:
    assert planned() == Plan((), (), 0)
