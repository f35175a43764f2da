"""One member of a consumer group on one topic: what it owns, where it reads, and commits that are all or nothing.

Facts of kafka-python 3.0.12 and of brokers that this file is built around, all measured:

- The broker lets a transaction commit a position of a partition that another member owns; it checks only that the
  member and its generation are the group's. So `commit` checks ownership itself, as of the last poll, and sends the
  generation of that moment: if the group has moved on, the broker refuses.
- A partition that comes to a member is placed by the client at the committed offset, whoever stored it. Ours is placed
  again, by version, before anything read from it is handed out.
- A join that outlasts the poll in which it began is thrown away by the client, which then begins another: with short
  polls a group of two rebalances for ever (seen: 39 generations in 30 s). So a poll that has to join waits for it.
- A join that the client begins in its own poll (a new topic's metadata came) and leaves under way is answered while
  something else is asked; then it sees no reason to join, never takes the answer, and sends no heartbeats (seen: one
  new group of four on a busy machine stood still for good). So a poll that finds it so asks to join.
- A member that the group had removed, and that finds out by joining, keeps its assignment and hears of no loss. A
  member id that has changed tells.
- A partition moves in two rebalances: its owner gives it up in the first and asks for the second. An owner that is
  killed between the two and returns in its place hears of what it kept, and the group sees nothing to change: what it
  gave up has no owner until some other rebalance (seen: for minutes). So members look after the whole group.
- A process that takes over an instance fences the older one in heartbeats, which the client only logs. The older learns
  of it at its next commit.
- The client keeps the positions of a refused commit and sends them along with the next transaction, whose outputs they
  are not (seen: 8 records lost in 40 kills). So a producer is thrown away with its aborted transaction.
- A batch that the client gives up on does not stop the transaction that it belongs to. So every output is known to be
  written before the transaction is ended.
- After a commit whose end is not known, the producer is thrown away. A new one of the same id ends the transaction
  either way; then the committed positions say what happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import TopicPartition
from kafka import errors as kafka_errors
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.structs import MemberState, OffsetAndMetadata

from xinstruct.spine.errors import Fenced, Invalid, NotFound, require
from xinstruct.spine.log.kafka_clients import (
    KafkaClients,
    discard,
    end_transaction,
    received,
    translated,
    write_in_transaction,
)
from xinstruct.spine.record import Record
from xinstruct.spine.topics import Topic

_PLACE_TIMEOUT_MS = 5_000  # committed positions are looked up this long: an open transaction may hide them
_JOIN_S_MAX = 15.0  # longest wait for a rebalance: a dead member holds it up for its session


class KafkaSubscription:
    """See the port. `topics` is the table that outputs are checked against."""

    def __init__(
        self, clients: KafkaClients, *, group: str, topic: Topic, version: str, topics: Mapping[str, Topic]
    ) -> None:
        self._clients = clients
        self._topic = topic
        self._version = version
        self._topics = topics
        self._group_id = clients.group_id(group, topic)
        self._name = clients.topic_name(topic)
        self._moves = _Moves()
        self._owned: set[int] = set()
        self._unplaced: set[int] = set()
        self._positions: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._lost: set[int] = set()
        self._noticed_lost: set[int] = set()
        self._replaced = False
        self._unsure = False
        self._looked_at: tuple[str, int] | None = None
        self._look_at_s = 0.0
        with translated():
            clients.partitions(topic)
            # Before the group is joined: what a killed predecessor left open would hide positions from us.
            self._producer: Any = self._new_producer()
            self._consumer = clients.group_consumer(self._group_id)
        self._consumer.subscribe([self._name], listener=self._moves)
        self._member = self._consumer.group_metadata()

    def poll(self, records_max: int, wait_s: float) -> list[Record]:
        """See the port. Fenced, for good, once this instance was replaced. NotFound when a position is not kept."""
        deadline_s = time.monotonic() + wait_s
        while True:
            left_s = max(deadline_s - time.monotonic(), 0.0)
            records = self._poll_once(records_max, left_s)
            if records or time.monotonic() >= deadline_s:
                # What a commit between the polls noticed is told here too: nobody asks after a commit.
                self._lost, self._noticed_lost = self._noticed_lost, set()
                return records

    def lost(self) -> set[int]:
        """See the port."""
        return set(self._lost)

    def positions(self) -> Mapping[int, int]:
        """See the port. A partition is absent from when it is owned until it is placed."""
        return {p: offset for p, offset in self._positions.items() if p not in self._unplaced}

    def commit(self, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        """See the port. Invalid for an offset beyond what was polled.

        A rebalance under way is waited for; partitions that were kept commit with the rest of the group's new
        generation, and Fenced names those that were not. When nobody knows how the commit ended, Fenced names all:
        the next polls read from what turns out to be committed.
        """
        placed = self.positions()
        self._require_owned(next_offsets)
        if stale := (self._noticed_lost | self._unplaced) & set(next_offsets):
            raise Fenced(f"partitions {sorted(stale)} of {self._group_id} are read again", frozenset(stale))
        for partition, offset in next_offsets.items():
            position = placed.get(partition, -1)
            require(0 <= offset <= position, f"commit of offset {offset}, partition {partition} was read to {position}")
        try:
            self._commit_as(self._member, next_offsets, outputs)
        except _OtherGeneration:
            self._regroup(next_offsets)
            try:
                self._commit_as(self._member, next_offsets, outputs)
            except _OtherGeneration as error:
                raise self._given_up(f"the group of {self._group_id} does not come to rest", next_offsets) from error
        self._committed.update(next_offsets)

    def rewind(self, partitions: Collection[int]) -> None:
        """See the port."""
        self._unplaced |= self._owned & set(partitions)

    def lag(self) -> int:
        """See the port."""
        with translated():
            partitions = self._clients.partitions(self._topic)
            return lag_of(self._clients, self._group_id, partitions, version=self._version)

    def close(self) -> None:
        """See the port. The member's place is kept for its session: a process that returns in time finds it."""
        self._discard_producer()
        self._consumer.close(autocommit=False, timeout_ms=1_000)

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _poll_once(self, records_max: int, wait_s: float) -> list[Record]:
        if self._replaced:
            raise Fenced(f"another process is {self._clients.instance} in {self._group_id}")
        with translated():
            self._recover()
            self._place()
            paused = self._consumer.paused()
            if records_max > 0:
                self._consumer.resume(*paused)
            else:
                self._consumer.pause(*self._consumer.assignment())
            batches = self._fetch(max(records_max, 1), wait_s)
            came = self._notice_moves()
            self._place()
            self._look_after_the_group()
            records: list[Record] = []
            for place, batch in batches.items():
                if place.partition in came or place.partition in self._unplaced:
                    continue  # read from where the client put it, before it was placed by version
                if records_max > 0:
                    records += [received(self._topic, message) for message in batch]
                else:
                    self._consumer.seek(place, batch[0].offset)  # came unpaused in a rebalance of this very poll
            # The client may look up first who leads: where nobody answers, what was read is read again.
            self._positions = {p: self._consumer.position(self._at(p)) for p in self._owned - self._unplaced}
        return records

    def _fetch(self, records_max: int, wait_s: float) -> Mapping[TopicPartition, Sequence[Any]]:
        try:
            self._join()
            found: Mapping[TopicPartition, Sequence[Any]] = self._consumer.poll(
                timeout_ms=int(wait_s * 1000), max_records=records_max
            )
            return found
        except kafka_errors.NoOffsetForPartitionError:
            return {}  # nothing committed yet: _place puts the partition at its beginning
        except kafka_errors.OffsetOutOfRangeError as error:
            self._require_kept(error.args[0])
            return {}
        except kafka_errors.FencedInstanceIdError as error:
            raise self._replacement() from error

    def _join(self) -> None:
        coordinator = self._consumer._coordinator
        if coordinator.rejoining and not coordinator.need_rejoin():
            coordinator.request_rejoin()  # its answer came between two polls, and nothing would ever take it
        deadline_s = time.monotonic() + _JOIN_S_MAX
        while coordinator.need_rejoin() and (left_s := deadline_s - time.monotonic()) > 0:
            coordinator.poll(timeout_ms=left_s * 1000)

    def _require_kept(self, offsets: Mapping[TopicPartition, int]) -> None:
        """NotFound for a committed position; one that began at the beginning begins there again."""
        for place, offset in offsets.items():
            if place.partition in self._committed:
                raise NotFound(f"offset {offset} of {self._topic.name}/{place.partition} is not kept any more")
            self._unplaced.add(place.partition)

    def _notice_moves(self) -> set[int]:
        """Bring what we own up to date; returns the partitions that came, which must be placed."""
        gone = self._moves.take()
        owned = {place.partition for place in self._consumer.assignment()}
        gone |= self._owned - owned
        member = self._consumer.group_metadata()
        settled = member.state == MemberState.STABLE
        if settled and self._member.member_id not in ("", member.member_id):
            gone |= self._owned  # the group had removed us: others may have owned all of it meanwhile
        came = owned - (self._owned - gone)
        self._noticed_lost |= gone & self._owned
        self._owned = owned
        self._unplaced = (self._unplaced | came) & owned
        for partition in gone:
            self._committed.pop(partition, None)
            self._positions.pop(partition, None)
        if settled:  # else its generation may be newer than the assignment that we see
            self._member = member
        return came

    def _look_after_the_group(self) -> None:
        """Once after each rebalance: ask for another while some partition has no owner."""
        member = self._member.member_id, self._member.generation_id
        now_s = time.monotonic()
        later_s = now_s + self._clients.settings.session_timeout_ms / 4000
        if self._looked_at != member:
            # Not at once: the second rebalance of a move is on its way as a rule.
            self._looked_at, self._look_at_s = member, later_s
        elif now_s >= self._look_at_s:
            owned = self._clients.owned_in_group(self._group_id)
            whole = owned is not None and owned >= set(self._clients.partitions(self._topic))
            self._look_at_s = math.inf if whole else later_s
            if owned is not None and not whole:
                self._consumer._coordinator.request_rejoin()

    def _place(self) -> None:
        """Put every unplaced partition at the position of our version, or at the beginning."""
        if not self._unplaced:
            return
        places = [self._at(p) for p in sorted(self._unplaced)]
        try:
            stored = {at: self._consumer.committed(at, metadata=True, timeout_ms=_PLACE_TIMEOUT_MS) for at in places}
        except kafka_errors.KafkaTimeoutError:
            return  # a transaction hides them; the next poll asks again
        starts = self._clients.start_offsets(places)
        for place in places:
            at = stored[place]
            ours = at is not None and at.metadata == self._version
            if ours:
                self._committed[place.partition] = at.offset
            else:
                self._committed.pop(place.partition, None)
            self._consumer.seek(place, at.offset if ours else starts[place.partition])
        self._unplaced.clear()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._name, partition)

    # ── committing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _commit_as(self, member: Any, next_offsets: Mapping[int, int], outputs: Sequence[Record]) -> None:
        """One attempt, as the member that we were at the last poll."""
        stored = {self._at(p): OffsetAndMetadata(offset, self._version, -1) for p, offset in next_offsets.items()}
        try:
            if outputs:
                self._transact(member, stored, outputs)
            elif stored:
                self._consumer.commit(stored, timeout_ms=_PLACE_TIMEOUT_MS)
        except _REFUSED as error:
            raise _OtherGeneration from error
        except kafka_errors.FencedInstanceIdError as error:
            raise self._replacement() from error
        except kafka_errors.KafkaError as error:
            self._discard_producer()
            self._unsure = True
            raise self._given_up(f"a commit of {self._group_id} ended unknown: {error!r}", self._owned) from error

    def _transact(self, member: Any, stored: Mapping[TopicPartition, Any], outputs: Sequence[Record]) -> None:
        if self._producer is None:
            raise kafka_errors.ProducerFencedError()  # thrown away; the next poll makes another
        try:
            write_in_transaction(
                self._producer, self._clients.settings.prefix, outputs,
                topics=self._topics, positions=stored, member=member,
            )
        except kafka_errors.KafkaTimeoutError:
            self._discard_producer()  # nobody answers; the next producer of this name ends what is open
            raise
        except kafka_errors.KafkaError:
            with suppress(kafka_errors.KafkaError):
                end_transaction(self._producer, commit=False)
            self._discard_producer()
            raise
        except Invalid:
            end_transaction(self._producer, commit=False)  # an output that no log can hold: nothing was sent
            raise
        end_transaction(self._producer, commit=True)

    def _regroup(self, next_offsets: Mapping[int, int]) -> None:
        """Take part in the rebalance that made a commit refused. Fenced when it took what was to be committed."""
        lost = set(self._noticed_lost)
        self._consumer._coordinator.request_rejoin()  # it may not have noticed yet
        self._poll_once(0, 0.0)
        taken = (self._noticed_lost - lost) & set(next_offsets)
        if taken:
            raise Fenced(f"partitions {sorted(taken)} of {self._group_id} went to another member", frozenset(taken))
        self._require_owned(next_offsets)

    def _require_owned(self, next_offsets: Mapping[int, int]) -> None:
        foreign = set(next_offsets) - self._owned
        if foreign:
            raise Fenced(f"partitions {sorted(foreign)} of {self._group_id} are not ours", frozenset(foreign))

    def _given_up(self, message: str, partitions: Collection[int]) -> Fenced:
        """Read `partitions` again from what is committed, and say so."""
        self.rewind(partitions)
        return Fenced(message, frozenset(partitions))

    def _replacement(self) -> Fenced:
        self._replaced = True
        return Fenced(f"another process is {self._clients.instance} in {self._group_id}", frozenset(self._owned))

    def _discard_producer(self) -> None:
        if self._producer is not None:
            discard(self._producer)
            self._producer = None

    def _recover(self) -> None:
        """Make a new producer where one was thrown away, unless our place was taken; it ends what was open."""
        if self._producer is not None:
            return
        if self._is_taken():
            raise self._replacement()
        self._producer = self._new_producer()
        if self._unsure:
            self._unplaced |= self._owned
            self._unsure = False

    def _is_taken(self) -> bool:
        """Whether another process is the group's member in the place of this instance."""
        described = self._clients.admin().describe_groups([self._group_id])[self._group_id]
        ours = self._consumer.group_metadata()
        members = [member for member in described["members"] if member["group_instance_id"] == ours.group_instance_id]
        return bool(members) and ours.member_id not in {member["member_id"] for member in members}

    def _new_producer(self) -> Any:
        return self._clients.transactional_producer(f"{self._group_id}.{self._clients.instance}")


def lag_of(clients: KafkaClients, group_id: str, partitions: Collection[TopicPartition], *, version: str) -> int:
    """Offsets between the group's positions of `version` (the beginning where there is none) and the ends."""
    committed = clients.committed(group_id, partitions, version=version)
    starts, ends = clients.start_offsets(partitions), clients.end_offsets(partitions)
    return sum(end - max(committed.get(p, 0), starts[p]) for p, end in ends.items())


class _OtherGeneration(Exception):
    """The broker refused a commit because the group has rebalanced since the last poll."""


_REFUSED = (
    kafka_errors.CommitFailedError, kafka_errors.RebalanceInProgressError, kafka_errors.IllegalGenerationError,
    kafka_errors.UnknownMemberIdError,
)


class _Moves(ConsumerRebalanceListener):
    """Partitions that were taken from us, also those that came back before anybody looked.

    The client's own thread calls it, only while ours waits in poll.
    """

    def __init__(self) -> None:
        self._gone: set[int] = set()

    def take(self) -> set[int]:
        """What was taken since the last call."""
        gone, self._gone = self._gone, set()
        return gone

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by the client."""
        self._gone |= {place.partition for place in revoked}

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Called by the client."""
        self.on_partitions_revoked(lost)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by the client; what came is seen by comparing."""
