"""The admit stage: which passages of a fetched page are fit to be responses. Pure; the port measures, this decides."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from xinstruct.crawler.config import CrawlerSettings
from xinstruct.crawler.domain import POLICY_VERSION, PRIVATE_SETTING, AdmitReason, FetchFailure, refused
from xinstruct.spine.languages import Language, known_language, languages
from xinstruct.spine.messages import AdmittedDocument, FetchedPage, Payload
from xinstruct.spine.record import FOR_GROUP_HEADER, Record, slot_id
from xinstruct.spine.stage import Drop, Emit, Outcome, Port, Stage
from xinstruct.spine.topics import DOCUMENT_ADMITTED, PAGE_FETCHED

CODE_VERSION = "3"
"""Raised when a change of code changes which text is admitted, or what it looks like."""
DECLARED_SURE_RATIO = 0.9
"""Above it a text speaks for its language clearly, whatever its page declares."""


@dataclass(frozen=True, slots=True)
class MeasureRequest:
    """What is asked about a page: is this record the first of its fetch, and what is in its body.

    body_digest: "" when there is no body to look into.
    """

    fetch_id: str
    """Empty for a dead letter that is replayed: its first try has claimed the fetch."""
    partition: int
    offset: int
    url: str
    body_digest: str
    content_type: str
    plain: bool


@dataclass(frozen=True, slots=True)
class PageMeasures:
    """The answer. refusal: "repeated", "suppressed", "body_expired" or "parser_died", "" when the page was measured.

    passages: as measure.measure gives them. detail: how the parser died.
    """

    refusal: str = ""
    detail: str = ""
    passages: tuple[Mapping[str, Any], ...] = ()
    agreement_ratio: float = 1.0
    visible_chars: int = 0
    licence: str = ""


def stage(config: CrawlerSettings, port: Port) -> Stage:
    """The admit stage, ready to run."""
    version = version_of(config)
    return Stage(
        name="admit", version=version, position_version="1", source=PAGE_FETCHED, payload=FetchedPage.decode, ask=ask,
        decide=partial(decide, config=config, version=version), port=port,
    )


def version_of(config: CrawlerSettings) -> str:
    """The stage's version: code, filters, languages and the policy that reads opt-outs."""
    return f"{CODE_VERSION}-{POLICY_VERSION}-{config.admission_digest()}"


def ask(record: Record, page: Payload) -> Sequence[MeasureRequest]:
    """One question, for pages without a body too: only the first record of a fetch counts."""
    assert isinstance(page, FetchedPage)
    wanted = "" if page.failure or refused(page.opt_outs) else page.body_digest
    return [MeasureRequest(
        "" if FOR_GROUP_HEADER in record.headers else page.fetch_id, record.partition, record.offset, page.url, wanted,
        page.content_type,
        page.content_encoding_text == "plain" or page.content_type.startswith("text/plain"),
    )]


def decide(
    record: Record, page: Payload, answers: Sequence[Any], *, config: CrawlerSettings, version: str
) -> Sequence[Outcome]:
    """A document or a drop for every passage; one drop for a page that has none."""
    assert isinstance(page, FetchedPage)
    answer: PageMeasures = answers[0]
    dropped = _page_drop(page, answer, config)
    if dropped is not None:
        return [dropped]
    return [
        _passage(page, answer, measured, ordinal=ordinal, config=config, version=version)
        for ordinal, measured in enumerate(answer.passages)
    ]


def _page_drop(page: FetchedPage, answer: PageMeasures, config: CrawlerSettings) -> Drop | None:
    """Why nothing of the page is looked at, None when it is."""
    if answer.refusal:
        evidence = {"detail": answer.detail} if answer.detail else {}
        drop = _drop(page, AdmitReason(answer.refusal), evidence)
        # Under an id of its own: a repeat must not overwrite what was decided about the page.
        return replace(drop, subject_id=page.fetch_id) if answer.refusal == AdmitReason.REPEATED else drop
    if page.failure or refused(page.opt_outs) or not page.body_digest:
        failure = page.failure or (FetchFailure.OPTED_OUT if refused(page.opt_outs) else FetchFailure.HTTP_ERROR)
        setting = {"setting": PRIVATE_SETTING} if failure == FetchFailure.PRIVATE_ADDRESS else {}
        said = {"detail": page.detail} if page.detail else {}
        evidence = {"status": str(page.status), **said, **_signals(page), **setting}
        return _drop(page, AdmitReason(failure), evidence)
    figures = {"visible_chars": str(answer.visible_chars), "agreement_ratio": f"{answer.agreement_ratio:.3f}"}
    if not answer.passages:
        return _drop(page, AdmitReason.BOILERPLATE_ONLY if answer.visible_chars else AdmitReason.NO_TEXT, figures)
    return None


def _signals(page: FetchedPage) -> dict[str, str]:
    denying = [f"{item.signal}:{item.directive}@{item.evidence}" for item in page.opt_outs if item.denies]
    return {"signals": " ".join(denying)[:500], "policy_version": page.policy_version} if denying else {}


def _passage(
    page: FetchedPage, answer: PageMeasures, measured: Mapping[str, Any], *, ordinal: int, config: CrawlerSettings,
    version: str,
) -> Outcome:
    found = known_language(measured["language"])
    reason, evidence = refusal_of(
        measured, found, config, agreement_ratio=answer.agreement_ratio, declared=page.declared_language
    )
    if reason is not None or found is None:
        return _drop(page, reason or AdmitReason.WRONG_LANGUAGE, evidence, measured["language"], ordinal)
    return Emit(DOCUMENT_ADMITTED, AdmittedDocument(
        document_id=slot_id("admit", version, f"{page.page_id}:{page.body_digest}", ordinal), page_id=page.page_id,
        body_digest=page.body_digest, ordinal=ordinal, url=page.url, host=page.host, text=measured["text"],
        language=found.code, language_script=found.language_script,
        language_confidence_ratio=float(measured["confidence_ratio"]), licence=page.licence or answer.licence,
        signature=base64.b64decode(measured["signature"]), text_digest=measured["text_digest"],
        fetch_time_ms=page.fetch_time_ms, masked_count=int(measured["masked_count"]), title=measured["title"],
        source_id=page.source_id,
    ))


def refusal_of(
    measured: Mapping[str, Any], found: Language | None, config: CrawlerSettings, *, agreement_ratio: float,
    declared: str = "",
) -> tuple[AdmitReason | None, dict[str, str]]:
    """The first filter that a passage does not pass, with the numbers behind it; None and {} when it passes all.

    declared: the language that its page or source declares, "" when none; see _declared_otherwise.
    Filters that are switched off are left out; nothing switches off the wrong language.
    """
    for reason, fails, figures in _filters(measured, found, config, agreement_ratio, declared):
        if fails and (reason is AdmitReason.WRONG_LANGUAGE or _applies(reason, config)):
            return reason, {name: _figure(value) for name, value in figures.items()}
    return None, {}


def _filters(
    measured: Mapping[str, Any], found: Language | None, config: CrawlerSettings, agreement_ratio: float, declared: str
) -> Sequence[tuple[AdmitReason, bool, Mapping[str, Any]]]:
    """(filter, whether the passage fails it, figures), in the order in which they are asked."""
    chars = measured["measures"]["chars"]
    chars_min = found.chars_min if found else 200
    chars_max = found.chars_max if found else 2000
    length = [
        (AdmitReason.TOO_SHORT, chars < chars_min, {"chars": chars, "chars_min": chars_min}),
        (AdmitReason.TOO_LONG, chars > chars_max, {"chars": chars, "chars_max": chars_max}),
        (AdmitReason.ENGINES_DISAGREE, agreement_ratio < config.filters.agreement_ratio_min,
         {"agreement_ratio": agreement_ratio}),
    ]
    if found is None or "sentences" not in measured["measures"]:
        figures = {"language": measured["language"], "confidence_ratio": measured.get("confidence_ratio", 0.0)}
        return [*length, (AdmitReason.WRONG_LANGUAGE, True, figures)]
    named = _language_filters(measured, found, config, declared)
    return [*length, *named, *_quality_filters(measured["measures"], config)]


def _language_filters(
    measured: Mapping[str, Any], found: Language, config: CrawlerSettings, declared: str
) -> Sequence[tuple[AdmitReason, bool, Mapping[str, Any]]]:
    wanted = config.languages or tuple(item.code for item in languages())
    confidence, rules = measured["confidence_ratio"], config.filters
    said = {"language": found.code, "confidence_ratio": confidence, "runner_up": measured["runner_up"]}
    measures = measured["measures"]
    return [
        # Damage before language: what is damaged cannot be identified, and the reason should say so.
        (AdmitReason.MOJIBAKE, measures["mojibake_ratio"] > rules.mojibake_ratio_max,
         {"mojibake_ratio": measures["mojibake_ratio"]}),
        (AdmitReason.BROKEN_TEXT, measures["broken_ratio"] > rules.broken_ratio_max,
         {"broken_ratio": measures["broken_ratio"]}),
        (AdmitReason.WRONG_LANGUAGE, found.code not in wanted, said),
        (AdmitReason.MIXED_SCRIPT, measured["script_ratio"] < rules.script_ratio_min,
         {"script_ratio": measured["script_ratio"]}),
        (AdmitReason.MIXED_LANGUAGE, measured["foreign_ratio"] > rules.foreign_ratio_max,
         {"foreign_ratio": measured["foreign_ratio"], **said}),
        (AdmitReason.LANGUAGE_UNCERTAIN, confidence < found.identification_threshold_ratio, said),
        (AdmitReason.LANGUAGE_UNCERTAIN, _declared_otherwise(measured, found, declared),
         {"declared_language": declared, **said}),
    ]


def _declared_otherwise(measured: Mapping[str, Any], found: Language, declared: str) -> bool:
    """Whether the text leaves it open between `found` and a neighbour, and its page declares the neighbour.

    A declaration only ever drops: one that could admit would admit a neighbour's text wherever a site's template
    declares its own language. It counts between languages that each name the other as a confusable, so not English,
    which templates declare for every language.
    """
    tags = {tag.partition("-")[0].lower() for tag in re.split(r"[\s,;]+", declared)}
    other = known_language(measured["runner_up"])
    return (
        other is not None and other.code in tags and found.code not in tags
        and other.code in found.confusables and found.code in other.confusables
        and measured["confidence_ratio"] < DECLARED_SURE_RATIO
    )


def _quality_filters(
    measures: Mapping[str, float], config: CrawlerSettings
) -> Sequence[tuple[AdmitReason, bool, Mapping[str, Any]]]:
    rules = config.filters
    return [
        (reason, measures[name] > limit if above else measures[name] < limit, {name: measures[name], "limit": limit})
        for reason, name, limit, above in (
            (AdmitReason.INJECTED_INSTRUCTIONS, "injected_count", 0, True),
            (AdmitReason.PERSONAL_DATA, "masked_ratio", rules.masked_ratio_max, True),
            (AdmitReason.FEW_SENTENCES, "sentences", rules.sentences_min, False),
            (AdmitReason.SHORT_LINES, "shortest_line_chars", rules.line_chars_min, False),
            (AdmitReason.FEW_TERMINALS, "terminal_ratio", rules.terminal_lines_ratio_min, False),
            (AdmitReason.MANY_DIGITS, "digits_ratio", rules.digits_ratio_max, True),
            (AdmitReason.MANY_CAPITALS, "upper_ratio", rules.upper_ratio_max, True),
            (AdmitReason.DUPLICATE_LINES, "duplicate_lines_ratio", rules.duplicate_lines_ratio_max, True),
            (AdmitReason.REPEATED_PHRASES, "top_5gram_ratio", rules.top_5gram_ratio_max, True),
            (AdmitReason.KEYWORD_SPAM, "keyword_ratio", rules.keyword_ratio_max, True),
            (AdmitReason.KEYWORD_SPAM, "repeated_ratio", rules.repeated_ratio_max, True),
            (AdmitReason.BOILERPLATE_ONLY, "boilerplate_phrases", rules.boilerplate_phrases_max, True),
            (AdmitReason.FEW_FUNCTION_WORDS, "function_words_ratio", rules.function_words_ratio_min, False),
        )
    ]


def _applies(reason: AdmitReason, config: CrawlerSettings) -> bool:
    return reason.value not in config.filters.filters_off


def _figure(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _drop(
    page: FetchedPage, reason: AdmitReason, evidence: Mapping[str, str], language: str = "", ordinal: int = 0
) -> Drop:
    return Drop(reason, page.page_id, evidence, page.url, language, ordinal)
