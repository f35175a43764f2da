"""ScoringService: decode, call, encode."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from xinstruct.scoring.config import ScoringSettings
from xinstruct.scoring.domain import caught_up, slot_name
from xinstruct.scoring.prompts import EVALUATOR_PROMPT_VERSIONS
from xinstruct.scoring.stage import reading_of, request
from xinstruct.spine import registry
from xinstruct.spine.app import Deps
from xinstruct.spine.errors import Invalid, Unavailable, require
from xinstruct.spine.inference import Classified, Inference
from xinstruct.spine.stage import scoring_position_version
from xinstruct.spine.topics import PAIR_DRAFTED, SLOT_NAMES
from xinstruct.v1 import messages_pb2, scoring_service_pb2, scoring_service_pb2_grpc

INSTRUCTION_CHARS_MAX = 4_000
RESPONSE_CHARS_MAX = 20_000


class ScoringServicer(scoring_service_pb2_grpc.ScoringServiceServicer):
    """Labels for one pair at a time.

    `evaluator` tells the promoted evaluator's digest, empty when there is none; `endpoint_of` where a digest answers.
    """

    def __init__(
        self, config: ScoringSettings, deps: Deps, evaluator: Callable[[], str], endpoint_of: Callable[[str], Inference]
    ) -> None:
        self._config = config
        self._deps = deps
        self._evaluator = evaluator
        self._endpoint_of = endpoint_of

    def ScorePair(
        self, message: scoring_service_pb2.ScorePairRequest, context: Any
    ) -> scoring_service_pb2.ScorePairResponse:
        """See scoring_service.proto."""
        _require_chars("instruction", message.instruction, INSTRUCTION_CHARS_MAX)
        _require_chars("response", message.response, RESPONSE_CHARS_MAX)
        digest = self._evaluator()
        if not digest:
            raise Unavailable("no evaluator is promoted yet; see `xinstruct models list`")
        question = request(message.instruction, message.response, message.language, config=self._config,
                           evaluator_digest=digest, subject="")
        answer = self._endpoint_of(digest).submit(question).result(context.time_remaining())
        if not isinstance(answer, Classified):
            raise Invalid(f"the model refused the pair: {answer}")
        best, reasonable, worst = answer.probabilities
        return scoring_service_pb2.ScorePairResponse(
            p_best=best, p_reasonable=reasonable, p_worst=worst, evaluator_digest=digest,
            reading=messages_pb2.LabelReading.ValueType(reading_of(answer).value),
        )

    def ListSlots(
        self, message: scoring_service_pb2.ListSlotsRequest, context: Any
    ) -> scoring_service_pb2.ListSlotsResponse:
        """See scoring_service.proto."""
        running = registry.slots(self._deps.database)
        slots = [self._slot(slot, *running.get(slot, ("", "{}"))) for slot in SLOT_NAMES]
        return scoring_service_pb2.ListSlotsResponse(slots=slots)

    def _slot(self, slot: str, digest: str, target: str) -> scoring_service_pb2.Slot:
        if not digest:
            return scoring_service_pb2.Slot(slot=slot)
        version = scoring_position_version(digest, EVALUATOR_PROMPT_VERSIONS[self._config.prompt_family])
        log, name = self._deps.log, slot_name(slot)
        offsets = {int(partition): int(offset) for partition, offset in json.loads(target).items()}
        return scoring_service_pb2.Slot(
            slot=slot, evaluator_digest=digest, promoted=digest == self._evaluator(),
            caught_up=caught_up(log.committed(name, PAIR_DRAFTED, version), offsets),
            lag_records=log.lag(name, PAIR_DRAFTED, version),
        )


def _require_chars(name: str, text: str, chars_max: int) -> None:
    require(0 < len(text) <= chars_max, f"{name} must have 1–{chars_max} characters, has {len(text)}")
