"""The log on a Kafka cluster: real transactions, real consumer groups. See kafka_subscription.py for the hard part.

Not covered by a commit: a broker disk lost with replication 1, power loss with the brokers' fsync off (their default).
Kafka's transactions are used at version 1: kafka-python 3.0.12 does not speak version 2 (KIP-890).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import TopicPartition

from xinstruct.spine.errors import NotFound, Unavailable
from xinstruct.spine.log.kafka_clients import (
    KafkaClients,
    KafkaSettings,
    create_topics,
    discard,
    received,
    send_all,
    translated,
)
from xinstruct.spine.log.kafka_subscription import KafkaSubscription, lag_of
from xinstruct.spine.record import Record
from xinstruct.spine.topics import TOPICS, Topic

__all__ = ["KafkaLog", "KafkaSettings"]

_FLUSH_S_MAX = 30.0
_STANDSTILL_S_MAX = 30.0  # longer than a commit that was left open can hide records


class KafkaLog:
    """The log on the cluster that `settings` name. `instance` is this process's stable name among its replicas.

    Two processes of one instance fence each other: the newer wins. `topics` is the table that written records are
    checked against, and made on the cluster if settings say so. Unavailable when no broker answers.
    """

    def __init__(self, settings: KafkaSettings, *, instance: str, topics: Mapping[str, Topic] = TOPICS) -> None:
        self._clients = KafkaClients(settings, instance=instance)
        self._topics = topics
        self._producer: Any = None
        self._readers: list[Any] = []
        self._lock = threading.Lock()
        if settings.topics == "create":
            self.ensure_topics()

    def ensure_topics(self) -> None:
        """Make the table's topics that are missing on the cluster, with its partitions, cleanup and retention."""
        with translated():
            create_topics(self._clients, self._topics.values())

    def subscribe(self, group: str, topic: Topic, version: str) -> KafkaSubscription:
        """See the port. Takes the place of an older member of the same instance, and ends what it left open."""
        return KafkaSubscription(self._clients, group=group, topic=topic, version=version, topics=self._topics)

    def append(self, records: Sequence[Record]) -> None:
        """See the port. Invalid for a record that no log can hold, or of a topic that is not in the table."""
        with translated():
            producer = self._shared_producer()
            sent = send_all(producer, self._clients.settings.prefix, records, self._topics)
            producer.flush(timeout=_FLUSH_S_MAX)
            for future in sent:
                future.get(timeout=0)

    def read(self, topic: Topic, from_offsets: Mapping[int, int]) -> Iterator[Record]:
        """See the port. NotFound for an offset above 0 that is not kept, or not yet written.

        Waits for commits that were open at the call, at most their transaction timeout.
        """
        with translated():
            places = self._clients.partitions(topic)
            starts, ends = self._clients.start_offsets(places), self._clients.end_offsets(places)
        spans = {}
        for place in places:
            first = from_offsets.get(place.partition, 0) or starts[place.partition]
            if not starts[place.partition] <= first <= ends[place.partition]:
                kept = f"there are {starts[place.partition]} to {ends[place.partition]}"
                raise NotFound(f"offset {first} of {topic.name}/{place.partition} is not kept: {kept}")
            if first < ends[place.partition]:
                spans[place] = (first, ends[place.partition])
        return self._read_spans(topic, spans)

    def end_offsets(self, topic: Topic) -> dict[int, int]:
        """See the port."""
        with translated():
            return self._clients.end_offsets(self._clients.partitions(topic))

    def lag(self, group: str, topic: Topic, version: str) -> int:
        """See the port."""
        with translated():
            partitions = self._clients.partitions(topic)
            return lag_of(self._clients, self._clients.group_id(group, topic), partitions, version=version)

    def committed(self, group: str, topic: Topic, version: str) -> dict[int, int]:
        """See the port. While a commit is open, what was committed before it."""
        with translated():
            partitions = self._clients.partitions(topic)
            return self._clients.committed(self._clients.group_id(group, topic), partitions, version=version)

    def compact(self, topic: Topic, now_ms: int) -> int:
        """See the port: Kafka compacts on its own schedule, nothing is removed now."""
        return 0

    def close(self) -> None:
        """See the port. Subscriptions are closed by who opened them."""
        with self._lock:
            if self._producer is not None:
                discard(self._producer)
                self._producer = None
            while self._readers:
                self._readers.pop().close(autocommit=False, timeout_ms=1_000)
        self._clients.close()

    def _shared_producer(self) -> Any:
        with self._lock:
            if self._producer is None:
                self._producer = self._clients.producer()
            return self._producer

    def _read_spans(self, topic: Topic, spans: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[Record]:
        if not spans:
            return
        with self._reader() as consumer:
            consumer.assign(list(spans))
            consumer.resume(*spans)
            for place, (first, _) in spans.items():
                consumer.seek(place, first)
            left = set(spans)
            deadline_s = time.monotonic() + _STANDSTILL_S_MAX
            while left:
                with translated():
                    batches = consumer.poll(timeout_ms=1_000)
                    # The client may look up first who leads.
                    done = {place for place in left if consumer.position(place) >= spans[place][1]}
                for place, batch in batches.items():
                    yield from (received(topic, message) for message in batch if message.offset < spans[place][1])
                consumer.pause(*done)
                left -= done
                if batches or done:
                    deadline_s = time.monotonic() + _STANDSTILL_S_MAX
                elif time.monotonic() > deadline_s:
                    raise Unavailable(f"{topic.name} cannot be read to its end: nothing came for {_STANDSTILL_S_MAX} s")

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        """A consumer without a group, kept for the next read: projections read often, and a connection takes 0.1 s."""
        with self._lock:
            consumer = self._readers.pop() if self._readers else None
        if consumer is None:
            with translated():
                consumer = self._clients.reader()
        try:
            yield consumer
        except BaseException:
            consumer.close(autocommit=False, timeout_ms=1_000)
            raise
        with self._lock:
            self._readers.append(consumer)
