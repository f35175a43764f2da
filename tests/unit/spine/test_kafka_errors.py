"""Which of the Kafka client's errors are the world's fault, and waited for, and which end the process."""

from __future__ import annotations

import pytest
from kafka import errors as kafka_errors

from xinstruct.spine.errors import Unavailable
from xinstruct.spine.log.kafka_clients import settled, translated

NOBODY_LEADS = kafka_errors.UnknownBrokerIdError(-1)
"""As seen on a cluster that stood still: the broker had been too slow to say that it was alive."""


@pytest.mark.parametrize(
    "error",
    [kafka_errors.KafkaTimeoutError(), kafka_errors.NodeNotReadyError(1), kafka_errors.BrokerNotAvailableError(),
     NOBODY_LEADS],
    ids=lambda error: type(error).__name__,
)
def test_brokers_that_are_away_or_not_settled_are_waited_for(error: Exception) -> None:
    with pytest.raises(Unavailable, match="Kafka does not answer"), translated():
        raise error


def test_an_access_that_was_never_granted_is_no_outage() -> None:
    with pytest.raises(kafka_errors.TopicAuthorizationFailedError), translated():
        raise kafka_errors.TopicAuthorizationFailedError("pages")


def test_a_partition_without_a_leader_is_asked_for_again() -> None:
    asked = []

    @settled
    def ask() -> str:
        asked.append(1)
        if len(asked) == 1:
            raise NOBODY_LEADS
        return "answer"

    assert ask() == "answer" and len(asked) == 2
