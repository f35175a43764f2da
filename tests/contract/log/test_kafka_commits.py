"""Commits to a cluster that end unknown, or that it refuses: nothing is lost, nothing is done twice."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer
from kafka import errors as kafka_errors
from kafka.producer.transaction_manager import TransactionalRequestResult

from contract.log.backends import (
    NUMBERS,
    PATIENCE_S,
    SUMS,
    Backend,
    eventually,
    next_offsets,
    number,
    poll_all,
    raising,
    total,
    totals,
    values,
)
from xinstruct.spine.errors import Fenced
from xinstruct.spine.log import kafka_clients
from xinstruct.spine.log.kafka import KafkaSettings
from xinstruct.spine.log.kafka_subscription import KafkaSubscription

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("ended", ["committed", "open"])
def test_after_a_commit_that_ended_unknown_nothing_is_lost_or_done_twice(kafka_backend: Backend, ended: str) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(5)])
    member = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(member, log, NUMBERS)
    producer = member._producer  # type: ignore[attr-defined]
    begin_commit = producer._transaction_manager.begin_commit

    def lose_the_answer() -> None:
        if ended == "committed":
            result = begin_commit()
            producer._sender.wakeup()
            assert result.wait(timeout_ms=PATIENCE_S * 1000)
        raise kafka_errors.KafkaTimeoutError("no answer")

    producer._transaction_manager.begin_commit = lose_the_answer
    with pytest.raises(Fenced) as caught:
        member.commit(next_offsets(records), totals(records))
    assert caught.value.partitions == frozenset(range(NUMBERS.partitions))
    again = poll_all(member, log, NUMBERS)
    assert sorted(values(again)) == ([] if ended == "committed" else list(range(5)))
    if again:
        member.commit(next_offsets(again), totals(again))
    assert sorted(values(list(log.read(SUMS, {})))) == list(range(5))
    member.close()


@pytest.mark.parametrize("step", ["send_offsets_to_transaction", "begin_commit"])
def test_a_step_of_a_commit_that_nobody_ever_answers_ends_and_its_records_are_committed_once(
    kafka_backend: Backend, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # A broker that was killed while it had the request: the client forgets it, and its own wait has no end.
    monkeypatch.setattr(kafka_clients, "ANSWER_TIMEOUT_MS", 300)
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(5)])
    member = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(member, log, NUMBERS)
    manager = member._producer._transaction_manager  # type: ignore[attr-defined]
    monkeypatch.setattr(manager, step, lambda *_: TransactionalRequestResult())
    with pytest.raises(Fenced):
        member.commit(next_offsets(records), totals(records))
    again = poll_all(member, log, NUMBERS)
    assert sorted(values(again)) == list(range(5))
    monkeypatch.setattr(kafka_clients, "ANSWER_TIMEOUT_MS", 30_000)
    member.commit(next_offsets(again), totals(again))
    assert sorted(values(list(log.read(SUMS, {})))) == list(range(5))
    member.close()


def test_a_member_whose_transactions_were_ended_for_it_goes_on(
    kafka_backend: Backend, kafka_settings: KafkaSettings
) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(5)])
    member = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(member, log, NUMBERS)
    # As the coordinator does with a transaction that takes too long.
    stranger = KafkaProducer(
        bootstrap_servers=kafka_settings.bootstrap_servers,
        transactional_id=f"{kafka_settings.prefix}adder.{NUMBERS.name}.0",
    )
    stranger.init_transactions()
    stranger.close()
    with pytest.raises(Fenced):
        member.commit(next_offsets(records), [total(1)])
    again = poll_all(member, log, NUMBERS)
    assert sorted(values(again)) == list(range(5))
    member.commit(next_offsets(again), [total(2)])
    assert values(list(log.read(SUMS, {}))) == [2]
    member.close()


def test_a_position_whose_commit_was_refused_is_not_committed_with_the_next(
    kafka_backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = kafka_backend.open("0")
    log.append([number(i) for i in range(30)])
    member = log.subscribe("adder", NUMBERS, "1")
    records = poll_all(member, log, NUMBERS)
    assert isinstance(member, KafkaSubscription)
    with monkeypatch.context() as patch:
        patch.setattr(member, "_member", member._member._replace(generation_id=99))
        patch.setattr(member, "_regroup", lambda offsets: raising(Fenced("taken", frozenset(offsets))))
        with pytest.raises(Fenced):
            member.commit({0: next_offsets(records)[0]}, [total(1)])
    member.poll(0, 0.0)
    member.commit({1: next_offsets(records)[1]}, [total(2)])
    eventually(lambda: log.committed("adder", NUMBERS, "1") == {1: next_offsets(records)[1]})
    assert values(list(log.read(SUMS, {}))) == [2]
    member.close()
