"""The crawler's keys: adding one is a visible change, with its reason in DECISIONS.md."""

from __future__ import annotations

import pytest

from xinstruct.crawler.config import CrawlerSettings, FetchSettings, FilterSettings
from xinstruct.crawler.domain import AdmitReason
from xinstruct.spine.config import parse
from xinstruct.spine.errors import Invalid


def test_the_keys_are_these():
    assert sorted(CrawlerSettings.model_fields) == [
        "extract_workers_count", "fetch", "filters", "languages", "worker_deadline_s", "worker_memory_mb_max",
    ]
    assert sorted(FetchSettings.model_fields) == [
        "agent_name", "ai_use_tokens", "attempts_max", "body_bytes_max", "body_retention_days", "connect_timeout_s",
        "contact_url", "feed_poll_interval_s", "host_delay_ms", "host_requests_max", "lease_s", "pages_max",
        "private_hosts_allowed", "redirects_max", "requests_max", "retry_after_s_max", "retry_delay_ms",
        "robots_cache_s", "robots_retry_s", "timeout_s",
    ]
    assert sorted(FilterSettings.model_fields) == [
        "agreement_ratio_min", "boilerplate_phrases_max", "broken_ratio_max", "digits_ratio_max",
        "duplicate_lines_ratio_max", "filters_off", "foreign_ratio_max", "function_words_ratio_min",
        "keyword_ratio_max", "line_chars_min", "masked_ratio_max", "mojibake_ratio_max", "repeated_ratio_max",
        "script_ratio_min", "sentences_min", "terminal_lines_ratio_min", "top_5gram_ratio_max", "upper_ratio_max",
    ]


def test_every_key_is_described():
    for model in (FetchSettings, FilterSettings):
        for name, field in model.model_fields.items():
            assert field.description, name


def test_a_filter_that_does_not_exist_cannot_be_switched_off():
    with pytest.raises(Invalid, match="no filter is called 'few_words'"):
        parse("filters:\n  filters_off: [few_words]\n", CrawlerSettings)
    names = [AdmitReason.FEW_SENTENCES.value, AdmitReason.MOJIBAKE.value]
    assert parse(f"filters:\n  filters_off: {names}\n", CrawlerSettings).filters.filters_off == tuple(names)


def test_robots_txt_is_never_kept_longer_than_a_day():
    with pytest.raises(Invalid, match="robots_cache_s"):
        parse("fetch:\n  robots_cache_s: 100000\n", CrawlerSettings)


def test_a_host_that_is_allowed_names_its_port():
    with pytest.raises(Invalid, match="host:port"):
        parse("fetch:\n  private_hosts_allowed: [localhost]\n", CrawlerSettings)
