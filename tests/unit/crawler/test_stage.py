"""The admit stage: what is asked about a page, and what is decided from the answer."""

from __future__ import annotations

import base64

import pytest

from builders import page as fetched_page
from xinstruct.crawler.config import CrawlerSettings, FilterSettings
from xinstruct.crawler.domain import AdmitReason, FetchFailure
from xinstruct.crawler.minhash import signature
from xinstruct.crawler.stage import MeasureRequest, PageMeasures, ask, decide, version_of
from xinstruct.spine.languages import language
from xinstruct.spine.messages import AdmittedDocument, OptOut
from xinstruct.spine.record import Record, slot_id
from xinstruct.spine.stage import Drop, Emit

GOOD = {
    "chars": 400, "sentences": 4, "shortest_line_chars": 40, "terminal_ratio": 1.0, "digits_ratio": 0.01,
    "upper_ratio": 0.02, "duplicate_lines_ratio": 0.0, "top_5gram_ratio": 0.0, "keyword_ratio": 0.02,
    "repeated_ratio": 0.0, "boilerplate_phrases": 0.0, "function_words_ratio": 0.3, "broken_ratio": 0.0,
    "mojibake_ratio": 0.0, "masked_ratio": 0.0, "injected_count": 0,
}


def passage(*, measures=None, **fields):
    return {
        "text": "Teksti.", "title": "Otsikko", "masked_count": 1, "language": "fi", "confidence_ratio": 0.99,
        "runner_up": "et", "script_ratio": 1.0, "foreign_ratio": 0.0, "text_digest": "sha256:" + "0" * 64,
        "signature": base64.b64encode(signature("Teksti.", word_separated=True)).decode(),
        "measures": GOOD | (measures or {}), **fields,
    }


def decided(page, answer, config=None):
    config = config or CrawlerSettings()
    record = Record("page-fetched-v1", page.key, page.id, page.encode(), {}, 3, 7)
    return decide(record, page, [answer], config=config, version=version_of(config))


def reasons(outcomes):
    return [item.reason if isinstance(item, Drop) else "emitted" for item in outcomes]


def check_passage(expected, config=None, **fields):
    found = decided(fetched_page(), PageMeasures(passages=(passage(**fields),), visible_chars=500), config)
    assert reasons(found) == [expected]


def test_a_body_is_asked_for_with_the_place_of_its_record():
    page = fetched_page(content_encoding_text="plain")
    record = Record("page-fetched-v1", page.key, page.id, page.encode(), {}, 3, 7)
    assert ask(record, page) == [
        MeasureRequest(page.fetch_id, 3, 7, page.url, page.body_digest, page.content_type, True)
    ]


@pytest.mark.parametrize(
    "fields", [{"failure": "timeout"}, {"opt_outs": (OptOut("robots_meta", "noai", "meta", True),)}]
)
def test_no_body_is_asked_for_when_it_may_not_be_used(fields):
    page = fetched_page(**fields)
    assert ask(Record("t", "", "", b""), page)[0].body_digest == ""


def test_a_good_passage_is_emitted_with_the_facts_of_its_page():
    page = fetched_page(licence="")
    config = CrawlerSettings()
    found = decided(page, PageMeasures(passages=(passage(),), licence="CC-BY-4.0"), config)
    assert isinstance(found[0], Emit)
    document = found[0].payload
    assert isinstance(document, AdmittedDocument)
    assert document == AdmittedDocument(
        document_id=slot_id("admit", version_of(config), f"{page.page_id}:{page.body_digest}", 0), page_id=page.page_id,
        body_digest=page.body_digest, ordinal=0, url=page.url, host=page.host, text="Teksti.", language="fi",
        language_script="fin_Latn", language_confidence_ratio=0.99, licence="CC-BY-4.0",
        signature=signature("Teksti.", word_separated=True), text_digest="sha256:" + "0" * 64,
        fetch_time_ms=page.fetch_time_ms, masked_count=1, title="Otsikko", source_id=page.source_id,
    )


def test_an_asserted_licence_wins_over_the_pages_own():
    found = decided(fetched_page(licence="CC0-1.0"), PageMeasures(passages=(passage(),), licence="CC-BY-4.0"))
    assert found[0].payload.licence == "CC0-1.0"


def test_every_passage_is_decided_in_its_own_slot():
    answer = PageMeasures(passages=(passage(), passage(measures={"sentences": 1}), passage()))
    found = decided(fetched_page(), answer)
    assert reasons(found) == ["emitted", AdmitReason.FEW_SENTENCES, "emitted"]
    assert [found[0].payload.ordinal, found[1].ordinal, found[2].payload.ordinal] == [0, 1, 2]


@pytest.mark.parametrize(
    ("expected", "measures"),
    [
        (AdmitReason.TOO_SHORT, {"chars": 199}), (AdmitReason.TOO_LONG, {"chars": 2001}),
        (AdmitReason.MOJIBAKE, {"mojibake_ratio": 0.1}), (AdmitReason.BROKEN_TEXT, {"broken_ratio": 0.1}),
        (AdmitReason.INJECTED_INSTRUCTIONS, {"injected_count": 1}), (AdmitReason.PERSONAL_DATA, {"masked_ratio": 0.5}),
        (AdmitReason.FEW_SENTENCES, {"sentences": 1}), (AdmitReason.SHORT_LINES, {"shortest_line_chars": 4}),
        (AdmitReason.FEW_TERMINALS, {"terminal_ratio": 0.4}), (AdmitReason.MANY_DIGITS, {"digits_ratio": 0.3}),
        (AdmitReason.MANY_CAPITALS, {"upper_ratio": 0.5}),
        (AdmitReason.DUPLICATE_LINES, {"duplicate_lines_ratio": 0.4}),
        (AdmitReason.REPEATED_PHRASES, {"top_5gram_ratio": 0.2}), (AdmitReason.KEYWORD_SPAM, {"keyword_ratio": 0.2}),
        (AdmitReason.KEYWORD_SPAM, {"repeated_ratio": 0.5}),
        (AdmitReason.BOILERPLATE_ONLY, {"boilerplate_phrases": 9.0}),
        (AdmitReason.FEW_FUNCTION_WORDS, {"function_words_ratio": 0.0}),
    ],
)
def test_each_filter_drops_by_its_name_and_can_be_switched_off(expected, measures):
    check_passage(expected, measures=measures)
    check_passage("emitted", CrawlerSettings(filters=FilterSettings(filters_off=(expected.value,))), measures=measures)


@pytest.mark.parametrize("measures", [{"chars": 200}, {"chars": 2000}, {"sentences": 2}, {"digits_ratio": 0.2}])
def test_the_limits_themselves_are_allowed(measures):
    check_passage("emitted", measures=measures)


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        (AdmitReason.WRONG_LANGUAGE, {"language": "et"}),
        (AdmitReason.LANGUAGE_UNCERTAIN, {"confidence_ratio": 0.5}),
        (AdmitReason.MIXED_SCRIPT, {"script_ratio": 0.5}),
        (AdmitReason.MIXED_LANGUAGE, {"foreign_ratio": 0.4}),
    ],
)
def test_the_language_decides(expected, fields):
    check_passage(expected, **fields)


def test_an_unknown_language_is_wrong_whatever_is_switched_off():
    off = CrawlerSettings(filters=FilterSettings(filters_off=("wrong_language",)))
    answer = PageMeasures(passages=({"text": "x", "title": "", "masked_count": 0, "language": "de",
                                     "confidence_ratio": 0.9, "measures": {"chars": 400}},))
    assert reasons(decided(fetched_page(), answer, off)) == [AdmitReason.WRONG_LANGUAGE]


def test_a_configured_language_list_excludes_the_others():
    check_passage(AdmitReason.WRONG_LANGUAGE, CrawlerSettings(languages=("sw",)))
    check_passage("emitted", CrawlerSettings(languages=("sw", "fi")))


def test_evidence_is_numbers_and_never_text():
    found = decided(fetched_page(), PageMeasures(passages=(passage(measures={"digits_ratio": 0.25}),)))
    assert found[0].evidence == {"digits_ratio": "0.2500", "limit": "0.2000"}


def test_engines_that_disagree_drop_the_page():
    answer = PageMeasures(passages=(passage(),), agreement_ratio=0.1)
    assert reasons(decided(fetched_page(), answer)) == [AdmitReason.ENGINES_DISAGREE]


@pytest.mark.parametrize(("visible", "expected"), [(900, AdmitReason.BOILERPLATE_ONLY), (0, AdmitReason.NO_TEXT)])
def test_a_page_without_passages_says_whether_anything_was_there(visible, expected):
    assert reasons(decided(fetched_page(), PageMeasures(visible_chars=visible))) == [expected]


@pytest.mark.parametrize("refusal", ["suppressed", "body_expired", "parser_died"])
def test_a_page_that_was_not_measured_says_why(refusal):
    page = fetched_page()
    found = decided(page, PageMeasures(refusal, "timeout"))
    assert [(item.reason, item.subject_id) for item in found] == [(AdmitReason(refusal), page.page_id)]


def test_a_repeat_is_dropped_under_its_fetch_so_that_the_pages_own_verdict_stays():
    page = fetched_page()
    found = decided(page, PageMeasures("repeated"))
    assert [(item.reason, item.subject_id) for item in found] == [(AdmitReason.REPEATED, page.fetch_id)]


@pytest.mark.parametrize("failure", sorted(FetchFailure))
def test_every_fetch_failure_is_a_reason_of_the_same_name(failure):
    page = fetched_page(failure=failure.value, body_digest="", status=0)
    assert [item.reason.value for item in decided(page, PageMeasures())] == [failure.value]


def test_an_opt_out_is_recorded_with_its_signal_and_policy():
    page = fetched_page(opt_outs=(OptOut("robots_meta", "noai", "meta", True),), policy_version="1")
    found = decided(page, PageMeasures())
    assert found[0].reason is AdmitReason.OPTED_OUT
    assert found[0].evidence["signals"] == "robots_meta:noai@meta"
    assert found[0].evidence["policy_version"] == "1"


def test_the_version_changes_with_filters_and_languages_and_not_with_fetching():
    plain = version_of(CrawlerSettings())
    assert version_of(CrawlerSettings(extract_workers_count=9)) == plain
    assert version_of(CrawlerSettings(languages=("fi",))) != plain
    assert version_of(CrawlerSettings(filters=FilterSettings(sentences_min=3))) != plain


def check_declared(expected, declared, **fields):
    measured = {"language": "id", "runner_up": "ms", "confidence_ratio": 0.8, **fields}
    found = decided(fetched_page(declared_language=declared), PageMeasures(passages=(passage(**measured),)))
    assert reasons(found) == [expected]
    return found[0]


@pytest.mark.parametrize("declared", ["ms", "ms-MY", "MS", "en, ms"])
def test_a_text_that_is_open_is_dropped_when_its_page_declares_the_neighbour(declared):
    dropped = check_declared(AdmitReason.LANGUAGE_UNCERTAIN, declared)
    assert dropped.evidence == {
        "declared_language": declared, "language": "id", "confidence_ratio": "0.8000", "runner_up": "ms",
    }


@pytest.mark.parametrize("declared", ["", "id", "id-ID", "id, ms", "fi", "jv", "en", "klingon", ";,", "msx"])
def test_a_text_that_is_open_is_admitted_when_its_page_declares_no_other_neighbour(declared):
    check_declared("emitted", declared)


def test_a_declaration_does_not_overrule_a_clear_text():
    check_declared("emitted", "ms", confidence_ratio=0.9)


def test_a_declaration_never_admits_what_the_text_does_not_say():
    check_declared(AdmitReason.LANGUAGE_UNCERTAIN, "id", confidence_ratio=0.59)
    check_declared(AdmitReason.WRONG_LANGUAGE, "id", language="ms", runner_up="id", confidence_ratio=0.51)


def test_english_that_a_template_declares_for_every_page_drops_nothing():
    check_declared("emitted", "en", language="sw", runner_up="en", confidence_ratio=0.5)


def test_thresholds_come_from_the_languages_data():
    limit = language("sw").identification_threshold_ratio
    check_passage("emitted", language="sw", confidence_ratio=limit)
    check_passage(AdmitReason.LANGUAGE_UNCERTAIN, language="sw", confidence_ratio=limit - 0.01)
