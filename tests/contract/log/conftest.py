"""Every test of this folder that takes `backend` runs on each backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, TopicPartition

import servers
from contract.log.backends import EVENTS, TOPICS, Backend, Clock
from xinstruct.spine.log import Log
from xinstruct.spine.log.kafka import KafkaLog, KafkaSettings
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.topics import Topic


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def backend(request: pytest.FixtureRequest) -> Backend:
    made: Backend = request.getfixturevalue(f"{request.param}_backend")
    return made


@pytest.fixture
def log(backend: Backend) -> Log:
    """One client of the backend, with the suite's topics, empty."""
    return backend.open("0")


@pytest.fixture
def opened() -> Iterator[Callable[[Log], Log]]:
    """Hand a log to this and it is closed after the test."""
    logs: list[Log] = []

    def keep(log: Log) -> Log:
        logs.append(log)
        return log

    yield keep
    for log in logs:
        log.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sqlite_backend(tmp_path: Path, clock: Clock, opened: Callable[[Log], Log]) -> Backend:
    def open_log(_instance: str) -> Log:
        return opened(SqliteLog(tmp_path / "log.sqlite", clock, topics=TOPICS))

    def forget_before(log: Log, topic: Topic, offsets: Mapping[int, int]) -> None:
        # Only the clock makes the SQLite log forget: everything so far is older than the retention then.
        assert offsets == log.end_offsets(topic)
        clock.now_ms += EVENTS.retention_ms + 1
        log.compact(topic, clock.now_ms)

    return Backend("sqlite", open_log, forget_before)


@pytest.fixture
def kafka_settings(kafka_bootstrap: str) -> Iterator[KafkaSettings]:
    """A namespace of its own on the shared broker, with short timeouts."""
    with servers.kafka_prefix(kafka_bootstrap) as prefix:
        yield KafkaSettings(
            bootstrap_servers=kafka_bootstrap, prefix=prefix, session_timeout_ms=3_000, transaction_timeout_ms=3_000
        )


@pytest.fixture
def kafka_backend(kafka_settings: KafkaSettings, opened: Callable[[Log], Log]) -> Backend:
    def open_log(instance: str) -> Log:
        return opened(KafkaLog(kafka_settings, instance=instance, topics=TOPICS))

    def forget_before(_log: Log, topic: Topic, offsets: Mapping[int, int]) -> None:
        admin = KafkaAdminClient(bootstrap_servers=kafka_settings.bootstrap_servers)
        name = kafka_settings.prefix + topic.name
        admin.delete_records({TopicPartition(name, partition): offset for partition, offset in offsets.items()})
        admin.close()

    return Backend("kafka", open_log, forget_before)
