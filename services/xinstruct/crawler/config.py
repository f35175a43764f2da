"""Settings of the crawler. What changes the admitted text goes into the admit stage's version."""

from __future__ import annotations

import hashlib

from pydantic import Field, field_validator

from xinstruct.crawler.domain import AdmitReason
from xinstruct.spine.config import LanguageTag, Settings


class FetchSettings(Settings):
    """How pages are asked for."""

    agent_name: str = Field(
        default="xinstruct", description="Product token in User-Agent; the name that robots.txt may use."
    )
    contact_url: str = Field(
        default="",
        description="Page or mailto: that tells site owners who crawls. Must be set to fetch from public hosts.",
    )
    ai_use_tokens: tuple[str, ...] = Field(
        default=(
            "Google-Extended", "GPTBot", "CCBot", "ClaudeBot", "anthropic-ai", "Applebot-Extended",
            "meta-externalagent",
        ),
        description="Tokens of AI training at large: where a robots.txt names one, its group binds us too.",
    )
    private_hosts_allowed: tuple[str, ...] = Field(
        default=(), description="host:port pairs that may be fetched although their address is private or loopback."
    )
    host_delay_ms: int = Field(
        default=1000, ge=0,
        description="Milliseconds between two requests to one host; robots.txt and tdmrep.json count as one.",
    )
    host_requests_max: int = Field(default=2, ge=1, le=64, description="Requests in flight to one host at most.")
    requests_max: int = Field(default=16, ge=1, le=256, description="Requests in flight at most.")
    connect_timeout_s: float = Field(default=10.0, gt=0, description="Seconds to connect at most.")
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds for a whole answer at most.")
    body_bytes_max: int = Field(default=5_000_000, gt=0, description="Bytes of a body, decompressed, at most.")
    redirects_max: int = Field(default=5, ge=0, description="Redirects in a row at most.")
    attempts_max: int = Field(default=3, ge=1, description="Tries of a page that answers 429 or 503, or not at all.")
    retry_delay_ms: int = Field(
        default=2000, ge=0, description="Milliseconds before the second try; doubled for each further."
    )
    retry_after_s_max: int = Field(
        default=3600, ge=0, description="Seconds that a Retry-After may postpone a host at most."
    )
    robots_cache_s: int = Field(default=86_400, ge=0, le=86_400, description="Seconds for which robots.txt is kept.")
    robots_retry_s: int = Field(
        default=600, ge=0, description="Seconds after which a robots.txt that failed is asked again."
    )
    pages_max: int = Field(
        default=10_000, ge=1, description="Pages of a source at most, where its command names no number."
    )
    feed_poll_interval_s: int = Field(default=900, ge=1, description="Seconds between two looks at a feed.")
    lease_s: int = Field(default=60, ge=5, description="Seconds for which a process owns a host after its last claim.")
    body_retention_days: int = Field(default=90, ge=1, description="Days after which a raw body is erased.")

    @property
    def user_agent(self) -> str:
        """The User-Agent: product token and contact."""
        return f"{self.agent_name}/1 (+{self.contact_url})" if self.contact_url else f"{self.agent_name}/1"

    @field_validator("private_hosts_allowed")
    @classmethod
    def _with_port(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        for pair in pairs:
            if not pair.rpartition(":")[2].isdigit():
                raise ValueError(f"expected host:port, for instance 127.0.0.1:8080, not {pair!r}")
        return pairs


class FilterSettings(Settings):
    """Thresholds of the quality filters; each filter is named by the drop reason that it gives."""

    filters_off: tuple[str, ...] = Field(
        default=(), description="Names of filters (drop reasons) that are not applied."
    )
    sentences_min: int = Field(default=2, ge=1, description="Sentences of a passage at least.")
    line_chars_min: int = Field(default=5, ge=1, description="Characters of a line at least.")
    terminal_lines_ratio_min: float = Field(
        default=0.5, ge=0, le=1,
        description="Share of paragraphs that end in terminal punctuation, where the script has it.",
    )
    digits_ratio_max: float = Field(
        default=0.2, ge=0, le=1, description="Share of digits among characters, native ones too."
    )
    upper_ratio_max: float = Field(default=0.3, ge=0, le=1, description="Share of upper-case letters among letters.")
    duplicate_lines_ratio_max: float = Field(
        default=0.3, ge=0, le=1, description="Share of lines that repeat another one."
    )
    top_5gram_ratio_max: float = Field(
        default=0.15, ge=0, le=1, description="Share of characters in the most frequent 5-gram."
    )
    script_ratio_min: float = Field(
        default=0.7, ge=0, le=1, description="Share of letters in the language's own script."
    )
    foreign_ratio_max: float = Field(default=0.2, ge=0, le=1, description="Share of text surely in another language.")
    broken_ratio_max: float = Field(default=0.01, ge=0, le=1, description="Share of impossible letter sequences.")
    mojibake_ratio_max: float = Field(default=0.005, ge=0, le=1, description="Wrongly decoded characters among all.")
    keyword_ratio_max: float = Field(default=0.12, ge=0, le=1, description="Share of the most frequent content word.")
    repeated_ratio_max: float = Field(
        default=0.3, ge=0, le=1, description="Share of word pairs that occur three times or more."
    )
    boilerplate_phrases_max: float = Field(
        default=4.0, ge=0, description="Different phrases of web sites' furniture a thousand characters, three or more."
    )
    function_words_ratio_min: float = Field(
        default=0.01, ge=0, le=1, description="Share of a language's function words, where it separates words."
    )
    agreement_ratio_min: float = Field(
        default=0.3, ge=0, le=1, description="Agreement of the two extraction engines on a page's words."
    )
    masked_ratio_max: float = Field(default=0.2, ge=0, le=1, description="Share of words that were personal data.")

    @field_validator("filters_off")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in {item.value for item in AdmitReason}:
                raise ValueError(f"no filter is called {name!r}; drop reasons are the filters' names")
        return names


class CrawlerSettings(Settings):
    """The crawler: fetching and admission."""

    fetch: FetchSettings = FetchSettings()
    filters: FilterSettings = FilterSettings()
    languages: tuple[LanguageTag, ...] = Field(
        default=(), description="BCP 47 tags of the languages to admit; empty: all targets."
    )
    extract_workers_count: int = Field(default=2, ge=1, le=64, description="Worker processes that parse pages.")
    worker_memory_mb_max: int = Field(
        default=1500, ge=256, description="Address space of a worker process, MiB at most."
    )
    worker_deadline_s: float = Field(default=20.0, gt=0, description="CPU seconds for one page in a worker at most.")

    def admission_digest(self) -> str:
        """Twelve hex digits over everything that changes which text is admitted."""
        text = f"{self.filters.model_dump_json()} {sorted(self.languages)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]
