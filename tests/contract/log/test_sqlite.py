"""What only the SQLite log promises: compaction when asked, erased bytes, one file for threads and processes."""

from __future__ import annotations

import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.log.backends import (
    EVENTS,
    NUMBERS,
    SUMS,
    TOPICS,
    Clock,
    event,
    next_offsets,
    number,
    poll_until,
    total,
    values,
)
from xinstruct.spine.errors import Conflict, Unavailable
from xinstruct.spine.log import Log
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.log.sqlite_file import TOMBSTONE_RETENTION_MS
from xinstruct.spine.record import Record
from xinstruct.spine.topics import Topic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


@pytest.fixture
def log(path: Path, clock: Clock, opened: Callable[[Log], Log]) -> Log:
    return opened(SqliteLog(path, clock, topics=TOPICS))


def tombstone(key: str) -> Record:
    return Record(NUMBERS.name, key, f"{key}-gone", None)


def bytes_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


# ── compaction ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compaction_keeps_the_newest_record_of_every_key_at_its_offset(log: Log, clock: Clock) -> None:
    log.append([number(i, key=f"key-{i % 5}") for i in range(50)])
    newest = {record.key: record for record in log.read(NUMBERS, {})}
    ends = log.end_offsets(NUMBERS)
    assert log.compact(NUMBERS, clock()) == 45
    assert {record.key: record for record in log.read(NUMBERS, {})} == newest
    assert log.end_offsets(NUMBERS) == ends
    assert log.compact(NUMBERS, clock()) == 0


def test_a_tombstone_stays_seven_days_and_no_longer(log: Log, clock: Clock) -> None:
    log.append([number(1, key="k")])
    log.append([tombstone("k")])
    clock.now_ms += TOMBSTONE_RETENTION_MS - 1
    assert log.compact(NUMBERS, clock()) == 1
    assert [record.value for record in log.read(NUMBERS, {})] == [None]
    clock.now_ms += 1
    assert log.compact(NUMBERS, clock()) == 1
    assert list(log.read(NUMBERS, {})) == []


def test_offsets_are_never_given_twice_when_the_newest_records_are_gone(log: Log, clock: Clock) -> None:
    log.append([tombstone("k")])
    end = max(log.end_offsets(NUMBERS).values())
    clock.now_ms += TOMBSTONE_RETENTION_MS
    log.compact(NUMBERS, clock())
    log.append([number(1, key="k")])
    assert [record.offset for record in log.read(NUMBERS, {})] == [end]


def test_a_member_reads_over_the_holes_of_a_compaction_to_the_end(log: Log, clock: Clock) -> None:
    log.append([number(i, key="k") for i in range(20)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    first = poll_until(subscription, bool, records_max=3)
    log.append([tombstone("k")])
    clock.now_ms += TOMBSTONE_RETENTION_MS
    log.compact(NUMBERS, clock())
    assert values(first) == [0, 1, 2]
    assert subscription.poll(100, 0.0) == []
    assert dict(subscription.positions()) == log.end_offsets(NUMBERS)
    subscription.commit(dict(subscription.positions()), [])
    assert subscription.lag() == 0


def test_a_delete_topic_forgets_by_age_only(log: Log, clock: Clock) -> None:
    log.append([event(i, key="k") for i in range(3)])
    clock.now_ms += EVENTS.retention_ms - 1
    log.append([event(3, key="k")])
    assert log.compact(EVENTS, clock()) == 0
    clock.now_ms += 1
    assert log.compact(EVENTS, clock()) == 3
    assert values(list(log.read(EVENTS, {}))) == [3]


@pytest.mark.parametrize("seed", range(3))
def test_what_compaction_removed_is_nowhere_in_the_files(log: Log, clock: Clock, path: Path, seed: int) -> None:
    chance = random.Random(seed)
    sizes = (50, 300, 1_500, 3_000, 9_000, 40_000)
    keys = [f"key-{i:05}" for i in range(400)]
    for key in keys:
        log.append([Record(NUMBERS.name, key, key, f"<secret of {key}>".encode() * (chance.choice(sizes) // 22))])
    gone = chance.sample(keys, 150)
    for key in gone:
        log.append([tombstone(key)])
    assert b"<secret of key-" in bytes_on_disk(path)
    log.compact(NUMBERS, clock())
    raw = bytes_on_disk(path)
    assert [key for key in gone if f"<secret of {key}>".encode() in raw] == []
    assert [key for key in keys if key not in gone and f"<secret of {key}>".encode() not in raw] == []


def test_compaction_says_so_when_a_reader_keeps_erased_bytes_alive(log: Log, clock: Clock, path: Path) -> None:
    log.append([number(1, key="k"), number(2, key="k")])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM partitions").fetchall()
    with pytest.raises(Unavailable):
        log.compact(NUMBERS, clock())
    reader.close()
    log.compact(NUMBERS, clock())
    assert values(list(log.read(NUMBERS, {}))) == [2]


# ── one file, many users ────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_that_write_at_once_lose_nothing(log: Log) -> None:
    def work(worker: int) -> None:
        for i in range(50):
            log.append([number(worker * 1_000 + i)])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values(list(log.read(NUMBERS, {})))) == [w * 1_000 + i for w in range(4) for i in range(50)]


def test_a_waiting_poll_sees_what_another_process_wrote(log: Log, path: Path) -> None:
    subscription = log.subscribe("adder", NUMBERS, "1")
    program = (
        "from contract.log.backends import *; from xinstruct.spine.log.sqlite import SqliteLog\n"
        f"SqliteLog({str(path)!r}, Clock(), topics=TOPICS).append([number(7)])"
    )
    with subprocess.Popen([sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}):
        assert values(poll_until(subscription, bool)) == [7]


def test_two_members_of_different_groups_pass_records_on_in_two_threads(log: Log) -> None:
    log.append([number(i) for i in range(100)])

    def add() -> None:
        subscription = log.subscribe("adder", NUMBERS, "1")
        for record in poll_until(subscription, lambda found: len(found) == 100, records_max=10):
            subscription.commit({record.partition: record.offset + 1}, [total(int(record.value or b""))])

    thread = threading.Thread(target=add)
    thread.start()
    reader = log.subscribe("reader", SUMS, "1")
    records = poll_until(reader, lambda found: len(found) >= 100)
    thread.join()
    assert sorted(values(records)) == list(range(100))


def test_a_log_is_found_again_as_it_was_left(log: Log, path: Path, clock: Clock, opened: Callable[[Log], Log]) -> None:
    log.append([number(i) for i in range(5)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_until(subscription, lambda found: len(found) == 5)
    subscription.commit(next_offsets(records), [total(1)])
    log.close()
    again = opened(SqliteLog(path, clock, topics=TOPICS))
    assert again.committed("adder", NUMBERS, "1") == next_offsets(records)
    assert sorted(values(list(again.read(NUMBERS, {})))) == list(range(5))


def test_prefixes_are_separate_logs_in_one_file(
    log: Log, path: Path, clock: Clock, opened: Callable[[Log], Log]
) -> None:
    other = opened(SqliteLog(path, clock, "other.", topics=TOPICS))
    other.append([number(1)])
    assert list(log.read(NUMBERS, {})) == []
    assert [record.topic for record in other.read(NUMBERS, {})] == [NUMBERS.name]


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_topic_cannot_change_its_number_of_partitions(log: Log) -> None:
    log.append([number(1)])
    wider = Topic(NUMBERS.name, NUMBERS.payload, NUMBERS.key, NUMBERS.producers, NUMBERS.consumers, 6, "compact")
    with pytest.raises(Conflict):
        log.end_offsets(wider)


def test_a_file_of_a_later_format_is_refused(path: Path, clock: Clock) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(Conflict):
        SqliteLog(path, clock)


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(Unavailable):
        SqliteLog(tmp_path / "no" / "such" / "folder", clock)


@pytest.fixture
def file_bytes_max() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond so many bytes, as a full disk would not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size_bytes: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size_bytes < 0 else size_bytes, hard))

    yield limit
    limit(-1)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_unavailable_writes_nothing_and_heals(log: Log, file_bytes_max: Callable[[int], None]) -> None:
    log.append([number(1)])
    subscription = log.subscribe("adder", NUMBERS, "1")
    records = poll_until(subscription, bool)
    large = [Record(SUMS.name, f"k{i}", "i", b"x" * 900_000) for i in range(8)]
    file_bytes_max(2_000_000)
    with pytest.raises(Unavailable):
        subscription.commit(next_offsets(records), large)
    file_bytes_max(-1)
    assert list(log.read(SUMS, {})) == []
    assert log.committed("adder", NUMBERS, "1") == {}
    subscription.commit(next_offsets(records), large)
    assert len(list(log.read(SUMS, {}))) == 8
