"""The crawler's names and pure rules: ids, reasons, and what a page's own signals mean."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from urllib.parse import urlsplit

from xinstruct.spine.messages import OptOut, SourceKind
from xinstruct.spine.record import slot_id

POLICY_VERSION = "2"
"""Version of the rules of `denies` and of whose tags count; stored with every fetched page. 2: those of AI agents."""
DIRECTIVE_CHARS_MAX = 200


class FetchFailure(StrEnum):
    """Why a fetch gave no body."""

    DENIED_BY_ROBOTS = "denied_by_robots"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    OPTED_OUT = "opted_out"
    HOST_NOT_LISTED = "host_not_listed"
    PRIVATE_ADDRESS = "private_address"
    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECTION_FAILED = "connection_failed"
    MALFORMED_ANSWER = "malformed_answer"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    DECOMPRESSION_BOMB = "decompression_bomb"
    ENCODING_BROKEN = "encoding_broken"
    REDIRECTED = "redirected"
    REDIRECT_LOOP = "redirect_loop"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    CANONICAL_ELSEWHERE = "canonical_elsewhere"
    HTTP_ERROR = "http_error"
    GONE = "gone"
    NOT_TEXT = "not_text"
    MALFORMED_LISTING = "malformed_listing"
    MALFORMED_ROW = "malformed_row"
    SUPPRESSED = "suppressed"
    PARSER_DIED = "parser_died"


class AdmitReason(StrEnum):
    """Why a page or passage was not admitted. A page's fetch failures keep their names."""

    # what fetching found: equal to FetchFailure
    DENIED_BY_ROBOTS = "denied_by_robots"
    ROBOTS_UNREACHABLE = "robots_unreachable"
    OPTED_OUT = "opted_out"
    HOST_NOT_LISTED = "host_not_listed"
    PRIVATE_ADDRESS = "private_address"
    NAME_NOT_RESOLVED = "name_not_resolved"
    CONNECTION_FAILED = "connection_failed"
    MALFORMED_ANSWER = "malformed_answer"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    DECOMPRESSION_BOMB = "decompression_bomb"
    ENCODING_BROKEN = "encoding_broken"
    REDIRECTED = "redirected"
    REDIRECT_LOOP = "redirect_loop"
    TOO_MANY_REDIRECTS = "too_many_redirects"
    CANONICAL_ELSEWHERE = "canonical_elsewhere"
    HTTP_ERROR = "http_error"
    GONE = "gone"
    NOT_TEXT = "not_text"
    MALFORMED_LISTING = "malformed_listing"
    MALFORMED_ROW = "malformed_row"
    PARSER_DIED = "parser_died"
    # the page as a whole
    REPEATED = "repeated"
    SUPPRESSED = "suppressed"
    BODY_EXPIRED = "body_expired"
    NO_TEXT = "no_text"
    BOILERPLATE_ONLY = "boilerplate_only"
    ENGINES_DISAGREE = "engines_disagree"
    # one passage: the named filters
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    WRONG_LANGUAGE = "wrong_language"
    LANGUAGE_UNCERTAIN = "language_uncertain"
    MIXED_LANGUAGE = "mixed_language"
    MIXED_SCRIPT = "mixed_script"
    MOJIBAKE = "mojibake"
    BROKEN_TEXT = "broken_text"
    INJECTED_INSTRUCTIONS = "injected_instructions"
    PERSONAL_DATA = "personal_data"
    FEW_SENTENCES = "few_sentences"
    SHORT_LINES = "short_lines"
    FEW_TERMINALS = "few_terminals"
    MANY_DIGITS = "many_digits"
    MANY_CAPITALS = "many_capitals"
    DUPLICATE_LINES = "duplicate_lines"
    REPEATED_PHRASES = "repeated_phrases"
    KEYWORD_SPAM = "keyword_spam"
    FEW_FUNCTION_WORDS = "few_function_words"


RETRIED = frozenset((FetchFailure.CONNECTION_FAILED, FetchFailure.TIMEOUT))
"""Failures that may pass by themselves. So may the statuses 429 and 503."""


CLOSED = frozenset((FetchFailure.ROBOTS_UNREACHABLE, FetchFailure.PRIVATE_ADDRESS))
"""Failures of a host of which nothing may be asked now."""
PRIVATE_SETTING = "crawler.fetch.private_hosts_allowed"


class Signal(StrEnum):
    """Where a page or host speaks about the use of its text: the closed list of OptOut.signal."""

    ROBOTS_TXT = "robots_txt"
    ROBOTS_META = "robots_meta"
    X_ROBOTS_TAG = "x_robots_tag"
    TDMREP = "tdmrep"
    CONTENT_SIGNAL = "content_signal"
    CONTENT_USAGE = "content_usage"


def page_id_of(url: str) -> str:
    """Id of the page with that canonical URL."""
    return slot_id("page", "1", url, 0)


def source_id_of(kind: SourceKind, location: str) -> str:
    """Id of a source: the same kind and location is the same source."""
    return slot_id("source", "1", f"{kind.name} {location}", 0)


def fetch_id_of(url: str, fetch_number: int) -> str:
    """Id of the n-th fetch of a URL, from 1."""
    return slot_id("fetch", "1", url, fetch_number)


def host_and_port(url: str) -> tuple[str, int]:
    """Host and port that a connection for a canonical URL goes to; port 0 for other URLs without one."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)


def private_advice(url: str) -> str:
    """What to change, if the private host of a canonical URL is to be fetched."""
    host, port = host_and_port(url)
    return f"list {host}:{port} in {PRIVATE_SETTING} if it is your own"


def denies(signal: str, directive: str) -> bool:
    """Whether policy version 2 reads `directive` (lower case) of `signal` as a refusal of use for training.

    Refusals: noindex, none, noai, noarchive of robots tags; tdm-reservation 1; ai-train=no; train-ai, tdm, ai, bots=n.
    Everything else, noimageai and nofollow among it, is no refusal.
    """
    if signal == Signal.ROBOTS_TXT:
        return directive.startswith("disallow")
    if signal in (Signal.ROBOTS_META, Signal.X_ROBOTS_TAG):
        return directive in ("noindex", "none", "noai", "noarchive")
    if signal == Signal.TDMREP:
        return directive == "tdm-reservation=1"
    if signal == Signal.CONTENT_SIGNAL:
        return directive in ("ai-train=no", "ai-train=n")
    return directive in ("train-ai=n", "tdm=n", "ai=n", "bots=n", "train-genai=n", "genai=n")


def opt_out(signal: Signal, directive: str, evidence: str) -> OptOut:
    """A signal as it is recorded, with the policy's reading of it."""
    said = " ".join(directive.lower().split())[:DIRECTIVE_CHARS_MAX]
    return OptOut(signal.value, said, evidence, denies(signal, said))


def refused(opt_outs: Sequence[OptOut]) -> bool:
    """Whether one of the signals refuses."""
    return any(item.denies for item in opt_outs)
