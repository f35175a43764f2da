"""How this program talks to Kafka: settings, the clients made from them, names on the cluster, and errors as ours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import tenacity
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer import IsolationLevel
from pydantic import Field

from xinstruct.spine.config import Settings
from xinstruct.spine.errors import Conflict, NotFound, Unavailable, require
from xinstruct.spine.log.wire import Wire, record_of, wire
from xinstruct.spine.record import RECORD_ID_HEADER, Record, partition_of
from xinstruct.spine.topics import DAY_MS, Topic

TOMBSTONE_RETENTION_MS = 7 * DAY_MS
"""How long a tombstone stays in a compacted topic: a reader that is further behind may miss an erasure."""

COMPACTION_LAG_MS_MAX = DAY_MS
"""A superseded value is gone from the brokers' disks this long after it was superseded, plus one run of the cleaner."""

FETCH_BYTES_MAX = 8 * 1024 * 1024
_REQUEST_TIMEOUT_MS = 15_000
ANSWER_TIMEOUT_MS = 2 * _REQUEST_TIMEOUT_MS
"""The end of a write, and of each step of a transaction."""

AWAY = (kafka_errors.RetriableError, kafka_errors.UnknownBrokerIdError, kafka_errors.BrokerNotAvailableError)
"""What the client raises when no request is to blame, but the brokers. The second is said of "broker -1", by which
metadata name the leader of a partition that has none now: its broker is cut off, or was too slow to say it is alive."""

settled = tenacity.retry(
    # A new broker, topic or group: who leads is being found out, and the administrative client does not wait for it.
    retry=tenacity.retry_if_exception_type((
        kafka_errors.InvalidMetadataError, kafka_errors.NotCoordinatorError, kafka_errors.UnknownBrokerIdError,
        kafka_errors.CoordinatorNotAvailableError, kafka_errors.CoordinatorLoadInProgressError,
    )),
    wait=tenacity.wait_fixed(0.2), stop=tenacity.stop_after_delay(15), reraise=True,
)


class KafkaSettings(Settings):
    """Where the cluster is and how to be let in."""

    bootstrap_servers: str = Field(description='Brokers to ask first: "host:port", separated by commas.')
    prefix: str = Field(
        "", pattern=r"^[a-zA-Z0-9._-]{0,60}$",
        description="Put before the names of topics, groups and transactional ids: several systems on one cluster.",
    )
    topics: Literal["create", "expect"] = Field(
        "create", description="create: make the topics that are missing at start; expect: somebody else makes them."
    )
    replication_factor: int = Field(
        -1, ge=-1, description="Copies of each partition of topics that are created; -1: the cluster's default."
    )
    session_timeout_ms: int = Field(
        10_000, ge=1_000,
        description="A member that is silent this long loses its partitions. Clusters allow 6000 and more.",
    )
    transaction_timeout_ms: int = Field(
        10_000, ge=1_000,
        description="A commit that is left open this long is rolled back; readers wait for it until then.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How connections are protected."
    )
    ssl_ca_file: str = Field(
        "", description="PEM file of the authority that signed the brokers' certificates; empty: the system's."
    )
    ssl_certificate_file: str = Field("", description="PEM file of this client's certificate; empty: none.")
    ssl_key_file: str = Field("", description="PEM file of this client's private key; empty: none.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the user name is proved, with a SASL security protocol."
    )
    sasl_username: str = Field("", description="User name, with a SASL security protocol.")
    sasl_password_file: str = Field("", description="Mounted file that holds the password.")


class KafkaClients:
    """Clients of one cluster. The administrative one is shared by all threads; the others are the callers' to close."""

    def __init__(self, settings: KafkaSettings, *, instance: str) -> None:
        self.settings = settings
        self.instance = instance
        self._common = _common_options(settings)
        self._admin: Any = None
        self._lock = threading.Lock()
        self._partitions: dict[str, int] = {}
        # Below that the client tells of every connection and rebalance, in lines that are no JSON.
        logging.getLogger("kafka").setLevel(logging.WARNING)

    def topic_name(self, topic: Topic) -> str:
        """The topic's name on the cluster."""
        return self.settings.prefix + topic.name

    def group_id(self, group: str, topic: Topic) -> str:
        """One Kafka group a (group, topic): members of a service that reads several topics rebalance apart."""
        return f"{self.settings.prefix}{group}.{topic.name}"

    def partitions(self, topic: Topic) -> list[TopicPartition]:
        """The topic's partitions. NotFound when it is not there, Conflict when it has another number of them."""
        name = self.topic_name(topic)
        if name not in self._partitions:
            (described,) = self.admin().describe_topics([name])
            error = kafka_errors.for_code(described["error_code"])
            if error is kafka_errors.UnknownTopicOrPartitionError:
                raise NotFound(f"no topic {name} on the cluster; set log.topics to create, or have it created")
            if error is not kafka_errors.NoError:
                raise error(name)
            self._partitions[name] = len(described["partitions"])
        if self._partitions[name] != topic.partitions:
            raise Conflict(f"{name} has {self._partitions[name]} partitions on the cluster, not {topic.partitions}")
        return [TopicPartition(name, number) for number in range(topic.partitions)]

    def admin(self) -> Any:
        """The administrative client, made at its first use."""
        with self._lock:
            if self._admin is None:
                options = {name: value for name, value in self._common.items() if name != "metrics_enabled"}
                self._admin = KafkaAdminClient(**options)
            return self._admin

    def group_consumer(self, group_id: str) -> Any:
        """A member of `group_id`, in the place that belongs to this instance."""
        return KafkaConsumer(
            **self._common, group_id=group_id, group_instance_id=f"{group_id}.{self.instance}",
            # The other assignors report all partitions revoked while kept ones keep their position.
            partition_assignment_strategy=[CooperativeStickyAssignor],
            session_timeout_ms=self.settings.session_timeout_ms,
            heartbeat_interval_ms=self.settings.session_timeout_ms // 4,
            max_poll_interval_ms=300_000, **_READING,
        )

    def reader(self) -> Any:
        """A consumer without a group."""
        return KafkaConsumer(**self._common, group_id=None, **_READING)

    def producer(self) -> Any:
        """A producer whose retries make no repeats; its records are visible at once."""
        return KafkaProducer(**self._common, **_WRITING)

    def transactional_producer(self, transactional_id: str) -> Any:
        """A producer for commits. Making it ends what a predecessor of the same id left open, and fences that one."""
        producer = KafkaProducer(
            **self._common, **_WRITING, transactional_id=transactional_id,
            transaction_timeout_ms=self.settings.transaction_timeout_ms,
        )
        try:
            producer.init_transactions()
        except BaseException:
            discard(producer)
            raise
        return producer

    @settled
    def committed(self, group_id: str, partitions: Collection[TopicPartition], *, version: str) -> dict[int, int]:
        """Partition → next offset that the group committed at `version`."""
        found = self.admin().list_group_offsets({group_id: list(partitions)})[group_id]
        return {tp.partition: at.offset for tp, at in found.items() if at.offset >= 0 and at.metadata == version}

    @settled
    def owned_in_group(self, group_id: str) -> set[TopicPartition] | None:
        """What the group's members own in all; None while it rebalances."""
        described = self.admin().describe_groups([group_id])[group_id]
        if described["group_state"] != "Stable":
            return None
        given = [member["member_assignment"] for member in described["members"] if member["member_assignment"]]
        topics = [topic for one in given for topic in one["assigned_partitions"]]
        return {TopicPartition(topic["topic"], number) for topic in topics for number in topic["partitions"]}

    def start_offsets(self, partitions: Collection[TopicPartition]) -> dict[int, int]:
        """Partition → first offset that is kept."""
        return self._offsets(partitions, OffsetSpec.EARLIEST)

    def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[int, int]:
        """Partition → offset after the last record or marker.

        Records of a commit whose markers are still on their way count: a reader gets there once they have arrived, so
        nobody takes a topic for drained while a finished commit is not visible yet.
        """
        return self._offsets(partitions, OffsetSpec.LATEST)

    def close(self) -> None:
        """Close the administrative client."""
        with self._lock:
            if self._admin is not None:
                self._admin.close()
                self._admin = None

    @settled
    def _offsets(self, partitions: Collection[TopicPartition], spec: Any) -> dict[int, int]:
        specs = dict.fromkeys(partitions, spec)
        found = self.admin().list_partition_offsets(specs, isolation_level=IsolationLevel.READ_UNCOMMITTED)
        return {tp.partition: at.offset for tp, at in found.items()}


def create_topics(clients: KafkaClients, topics: Collection[Topic]) -> None:
    """Make those of `topics` that are missing, with cleanup and retention as the table says; leave the others alone."""
    there = set(clients.admin().list_topics())
    missing = {
        clients.topic_name(topic): {
            "num_partitions": topic.partitions,
            "replication_factor": clients.settings.replication_factor,
            "configs": topic_configs(topic),
        }
        for topic in topics
        if clients.topic_name(topic) not in there
    }
    if not missing:
        return
    answer = clients.admin().create_topics(missing, raise_errors=False)
    for made in answer["topics"]:
        error = kafka_errors.for_code(made["error_code"])
        if error not in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            raise Unavailable(f"cannot create topic {made['name']}: {made.get('error_message') or error.__name__}")
    clients.admin().wait_for_topics(list(missing), timeout_ms=30_000)


def topic_configs(topic: Topic) -> dict[str, str]:
    """The topic's configuration on the cluster, from its row of the table."""
    # Retention and tombstones count from when the broker took the record, whatever clock the writer had.
    configs = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": topic.cleanup}
    if topic.cleanup == "compact":
        configs["delete.retention.ms"] = str(TOMBSTONE_RETENTION_MS)
        configs["max.compaction.lag.ms"] = str(COMPACTION_LAG_MS_MAX)
    else:
        configs["retention.ms"] = str(topic.retention_ms)
    return configs


def send_all(producer: Any, prefix: str, records: Collection[Record], topics: Mapping[str, Topic]) -> list[Any]:
    """Hand `records` to the producer in the order given; the futures of their places. Invalid before any is sent."""
    return _send(producer, _messages(prefix, records, topics))


def write_in_transaction(
    producer: Any, prefix: str, records: Collection[Record], *, topics: Mapping[str, Topic],
    positions: Mapping[TopicPartition, Any], member: Any,
) -> None:
    """Begin a transaction, write `records` and the group's `positions` in it, and return when all is written.

    The caller ends it. Invalid before anything is sent; else the client's errors, a refused position before others.
    """
    producer.begin_transaction()
    messages = _messages(prefix, records, topics)
    # The client's own methods ask the coordinator once for every partition that a record is first sent to, and wait for
    # the positions before anything else: several times as many turns as this, which asks for all at once and sends the
    # records meanwhile.
    manager = producer._transaction_manager
    for place in {TopicPartition(message["topic"], message["partition"]) for message in messages}:
        manager.maybe_add_partition_to_transaction(place)
    stored = manager.send_offsets_to_transaction(dict(positions), member) if positions else None
    try:
        sent = _send(producer, messages)
        producer._sender.wakeup()
        producer.flush()
        for future in sent:
            future.get(timeout=0)
    except kafka_errors.KafkaError:
        if stored is not None and stored.failed:
            raise stored.exception from None  # the cause; what failed here is its consequence
        raise
    if stored is not None:
        _await_answer(stored)


def end_transaction(producer: Any, *, commit: bool) -> None:
    """Commit or abort the open transaction. KafkaTimeoutError when its coordinator stays silent."""
    manager = producer._transaction_manager
    result = manager.begin_commit() if commit else manager.begin_abort()
    producer._sender.wakeup()
    _await_answer(result)


def _await_answer(result: Any) -> None:
    # The client's own methods wait without an end, and a broker that dies takes some requests along.
    if not result.wait(timeout_ms=ANSWER_TIMEOUT_MS):
        raise kafka_errors.KafkaTimeoutError(f"no answer of the transaction's coordinator in {ANSWER_TIMEOUT_MS} ms")


def _messages(prefix: str, records: Collection[Record], topics: Mapping[str, Topic]) -> list[dict[str, Any]]:
    messages = []
    for record in records:
        require(record.topic in topics, f"no topic {record.topic!r}; spine/topics.py lists them")
        written = wire(record)
        headers = [(RECORD_ID_HEADER, written.id), *written.headers]
        partition = partition_of(record.key, topics[record.topic].partitions)
        messages.append({
            "topic": prefix + record.topic, "value": written.value, "key": written.key, "headers": headers,
            "partition": partition,
        })
    return messages


def _send(producer: Any, messages: Collection[dict[str, Any]]) -> list[Any]:
    return [producer.send(**message) for message in messages]


def received(topic: Topic, message: Any) -> Record:
    """The record in a message of `topic`; one that another program wrote has no id of its own."""
    headers = [(name, raw or b"") for name, raw in message.headers]
    record_id = next((raw for name, raw in headers if name == RECORD_ID_HEADER), b"")
    others = [header for header in headers if header[0] != RECORD_ID_HEADER]
    written = Wire(message.key or b"", record_id, others, message.value)
    return record_of(topic.name, message.partition, message.offset, written)


def discard(producer: Any) -> None:
    """Stop a producer now, whatever it still had to send."""
    # close() alone waits for what can never be sent, then gives up half-way and leaves its thread running.
    producer._sender.force_close()
    with suppress(kafka_errors.KafkaError):
        producer.close(timeout=1)


@contextmanager
def translated() -> Iterator[None]:
    """The world's errors become Unavailable; what is left is a bug, or access that was never granted, and crashes."""
    try:
        yield
    except AWAY as error:
        raise Unavailable(f"Kafka does not answer: {error or type(error).__name__}") from error


_READING = {
    "isolation_level": "read_committed",
    "enable_auto_commit": False,
    # A position that is not kept any more is an error, never a silent jump.
    "auto_offset_reset": "none",
    "allow_auto_create_topics": False,
    "fetch_max_bytes": FETCH_BYTES_MAX,
}
_WRITING: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "max_block_ms": _REQUEST_TIMEOUT_MS,
    "delivery_timeout_ms": ANSWER_TIMEOUT_MS,
    "batch_size": 256 * 1024,
    "max_request_size": 1_048_576,
}


def _common_options(settings: KafkaSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in settings.bootstrap_servers.split(",")],
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": _REQUEST_TIMEOUT_MS,
        "bootstrap_timeout_ms": _REQUEST_TIMEOUT_MS,
        "reconnect_backoff_max_ms": 1_000,
        "metrics_enabled": False,
    }
    if "SSL" in settings.security_protocol:
        options["ssl_cafile"] = settings.ssl_ca_file or None
        options["ssl_certfile"] = settings.ssl_certificate_file or None
        options["ssl_keyfile"] = settings.ssl_key_file or None
    if "SASL" in settings.security_protocol:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = Path(settings.sasl_password_file).read_text("utf-8").strip()
    return options
