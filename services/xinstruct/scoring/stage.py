"""pair-drafted-v1 → pair-scored-v1: ask the evaluator for three label probabilities in one decode step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xinstruct.scoring.config import ScoringSettings
from xinstruct.scoring.domain import Calibration, ScoringReason, slot_name
from xinstruct.scoring.prompts import EVALUATOR_PROMPT_VERSIONS, LABELS, evaluator_prompt
from xinstruct.spine.inference import Answer, Classified, Classify, Refused
from xinstruct.spine.languages import language
from xinstruct.spine.messages import DraftedPair, LabelReading, Payload, ScoredPair
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.stage import Emit, Outcome, Port, Reject, Stage, scoring_position_version
from xinstruct.spine.topics import PAIR_DRAFTED, PAIR_SCORED

NAME = "scoring"


def stage(
    config: ScoringSettings, *, slot: str, evaluator_digest: str, port: Port, calibration: Calibration | None = None
) -> Stage:
    """One slot with its evaluator, and how its folder says that it is to be read.

    The evaluator's digest is in the position: a new one starts at the beginning.
    Ids name the evaluator and not the slot: the same evaluator writes the same ids in either.
    """
    version = scoring_position_version(evaluator_digest, EVALUATOR_PROMPT_VERSIONS[config.prompt_family])

    def ask(_record: Record, payload: Payload) -> Sequence[Classify]:
        assert isinstance(payload, DraftedPair)
        return [request(payload.instruction, payload.response, payload.language, config=config,
                        evaluator_digest=evaluator_digest, subject=payload.document_id)]

    def decide(_record: Record, payload: Payload, answers: Sequence[Answer]) -> Sequence[Outcome]:
        assert isinstance(payload, DraftedPair)
        return [_outcome(payload, answers[0], config, version=version, evaluator_digest=evaluator_digest,
                         calibration=calibration)]

    return Stage(slot_name(slot), version, version, PAIR_DRAFTED, DraftedPair.decode, ask, decide, port)


def request(
    instruction: str, response: str, tag: str, *, config: ScoringSettings, evaluator_digest: str, subject: str
) -> Classify:
    """The one question about a pair; `tag` is the response's language, `subject` whom a takedown would name."""
    prompt = evaluator_prompt(instruction, response, language(tag).english_name, config.prompt_family)
    return Classify("evaluator", evaluator_digest, prompt, LABELS, subject=subject)


def reading_of(answer: Classified) -> LabelReading:
    """How the probabilities were read: marked in every record, never a silent difference."""
    return LabelReading.VOTE if answer.votes_count else LabelReading.LOG_PROBABILITY


def _calibrated(
    answer: Classified, pair: DraftedPair, calibration: Calibration | None
) -> tuple[tuple[float, ...], LabelReading]:
    """Votes, and drafts of endpoints that give no log-probability, are left as they were read."""
    reading = reading_of(answer)
    if calibration is None or reading is not LabelReading.LOG_PROBABILITY or math.isnan(pair.mean_log_probability):
        return answer.probabilities, reading
    return calibration.applied(answer.probabilities, pair.mean_log_probability), LabelReading.CALIBRATED


def _outcome(
    pair: DraftedPair, answer: Answer, config: ScoringSettings, *, version: str, evaluator_digest: str,
    calibration: Calibration | None,
) -> Outcome:
    if isinstance(answer, Refused):
        reason = ScoringReason.TOO_LONG_FOR_MODEL if "long" in answer.reason else ScoringReason.REFUSED_BY_SERVER
        return Reject(reason, answer.detail)
    assert isinstance(answer, Classified)
    (best, reasonable, worst), reading = _calibrated(answer, pair, calibration)
    scored = ScoredPair(
        slot_id(NAME, version, pair.pair_id, 0), pair.pair_id, pair.document_id, best, reasonable, worst,
        evaluator_digest, reading, answer.votes_count, EVALUATOR_PROMPT_VERSIONS[config.prompt_family],
        pair.language,
    )
    return Emit(PAIR_SCORED, scored)
