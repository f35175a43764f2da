"""document-admitted-v1 → pair-drafted-v1: ask the generator, guard its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from xinstruct.backgen.config import BackgenSettings
from xinstruct.backgen.domain import BackgenReason, clean, guard, injected
from xinstruct.backgen.prompts import GENERATOR_PROMPT_VERSIONS, generator_prompt
from xinstruct.spine.inference import Answer, Generate, Generated, Refused
from xinstruct.spine.languages import language
from xinstruct.spine.messages import AdmittedDocument, DraftedPair, Payload
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.stage import Drop, Emit, Outcome, Port, Reject, Stage
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAIR_DRAFTED

NAME = "backgen"
CODE_VERSION = "1"


def stage(config: BackgenSettings, *, generator_digest: str, port: Port) -> Stage:
    """The backgen stage with one generator. A new generator drafts later documents only: positions are kept."""
    version = version_of(config, generator_digest)

    def ask(_record: Record, payload: Payload) -> Sequence[Generate]:
        assert isinstance(payload, AdmittedDocument)
        return questions(payload, config, generator_digest)

    def decide(_record: Record, payload: Payload, answers: Sequence[Answer]) -> Sequence[Outcome]:
        assert isinstance(payload, AdmittedDocument)
        return [outcome_of(payload, answers, config, version=version, generator_digest=generator_digest)]

    return Stage(NAME, version, CODE_VERSION, DOCUMENT_ADMITTED, AdmittedDocument.decode, ask, decide, port)


def version_of(config: BackgenSettings, generator_digest: str) -> str:
    """Code, prompt, settings and model: whatever changes a draft changes its id."""
    settings = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]
    return f"{CODE_VERSION}/{GENERATOR_PROMPT_VERSIONS[config.prompt_family]}/{settings}/{generator_digest}"


def questions(document: AdmittedDocument, config: BackgenSettings, generator_digest: str) -> Sequence[Generate]:
    """The one question about a document; none where its text addresses a model: no model is shown it."""
    if injected(document.text):
        return []
    prompt = generator_prompt(document.text, language(document.language).english_name, config.prompt_family)
    return [Generate("generator", generator_digest, prompt, config.decoding(), subject=document.document_id)]


def outcome_of(
    document: AdmittedDocument, answers: Sequence[Answer], config: BackgenSettings, *, version: str,
    generator_digest: str,
) -> Outcome:
    """A pair, a drop by the guard that refused text or draft, or a rejection when the server refused the question.

    `answers`: to `questions` of the same document.
    """
    if not answers:
        return _drop(document, BackgenReason.INJECTED_INSTRUCTIONS)
    answer = answers[0]
    if isinstance(answer, Refused):
        reason = BackgenReason.TOO_LONG_FOR_MODEL if "long" in answer.reason else BackgenReason.REFUSED_BY_SERVER
        return Reject(reason, answer.detail)
    assert isinstance(answer, Generated)
    instruction = clean(answer.text)
    broken = BackgenReason.CUT_OFF if answer.finish_reason == "length" else guard(
        instruction, document.text, chars_min=config.instruction_chars_min, chars_max=config.instruction_chars_max,
        copied_ratio_max=config.copied_ratio_max,
    )
    if broken is not None:
        return _drop(document, broken)
    pair = DraftedPair(
        slot_id(NAME, version, document.document_id, 0), document.document_id, document.page_id, document.url,
        document.host, instruction, document.text, document.language, document.language_script, document.licence,
        generator_digest, GENERATOR_PROMPT_VERSIONS[config.prompt_family], config.decoding().canonical(),
        answer.mean_log_probability, document.fetch_time_ms,
    )
    return Emit(PAIR_DRAFTED, pair)


def _drop(document: AdmittedDocument, reason: BackgenReason) -> Drop:
    return Drop(reason, document.document_id, url=document.url, language=document.language)
