"""The crawler's names and pure rules: ids, URLs, reasons, and what a page's own signals mean."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from enum import StrEnum
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from xinstruct.spine.errors import Invalid, require
from xinstruct.spine.messages import OptOut, SourceKind
from xinstruct.spine.record import slot_id

POLICY_VERSION = "1"
"""Version of the rules of `denies`; stored with every fetched page."""
URL_CHARS_MAX = 2_000
DIRECTIVE_CHARS_MAX = 200
_DEFAULT_PORTS = {"http": 80, "https": 443}


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


def canonical_url(url: str, base: str = "") -> str:
    """`url`, resolved against `base`, in the one form that names its page: lower-case scheme and host, no default port,
    no fragment, no dot segments, percent signs in upper case. Invalid when it is no absolute http(s) URL within bounds.
    """
    try:
        parts = urlsplit(urljoin(base, url.strip()) if base else url.strip())
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise Invalid(f"not a URL: {error}") from error
    require(parts.scheme in _DEFAULT_PORTS, f"a page's URL begins with http:// or https://, not {parts.scheme[:20]!r}")
    require(bool(host) and parts.username is None, "a page's URL names a host and no user")
    netloc = _ascii_host(host)
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        netloc = f"{netloc}:{port}"
    try:
        path, query = _normal_path(parts.path), quote(parts.query, safe="%/?:@!$&'()*+,;=-._~[]")
    except UnicodeError as error:  # a lone surrogate, which JSON can spell
        raise Invalid("not a URL: it is no Unicode text") from error
    found = urlunsplit((parts.scheme, netloc, path, query, ""))
    require(len(found) <= URL_CHARS_MAX, f"a URL of {len(found)} characters, {URL_CHARS_MAX} at most")
    return found


def host_of(url: str) -> str:
    """Host of an absolute URL, with its port where that is not the scheme's own; "" for URLs without one."""
    return urlsplit(url).netloc


def host_and_port(url: str) -> tuple[str, int]:
    """Host and port that a connection for a canonical URL goes to."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def normal_host(host: str) -> str:
    """A listed "host" or "host:port" in the form of host_of; Invalid when it is neither."""
    return host_of(canonical_url(host if "://" in host else f"http://{host}/"))


def denies(signal: str, directive: str) -> bool:
    """Whether policy version 1 reads `directive` (lower case) of `signal` as a refusal of use for training.

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


def _ascii_host(host: str) -> str:
    try:
        name = (host if host.isascii() else host.encode("idna").decode("ascii")).rstrip(".").lower()
    except UnicodeError as error:
        raise Invalid("the host of the URL is no domain name") from error
    require(bool(re.fullmatch(r"[a-z0-9._\-:\[\]%]+", name)), "the host of the URL is no domain name")
    return f"[{name}]" if ":" in name else name


def _normal_path(path: str) -> str:
    quoted = quote(path or "/", safe="%/:@!$&'()*+,;=-._~")
    quoted = re.sub(r"%[0-9a-fA-F]{2}", lambda match: match.group().upper(), quoted)
    if "/." not in quoted and "//" not in quoted:
        return quoted
    # normpath also removes the last slash, which names another resource.
    normal = posixpath.normpath(re.sub(r"/{2,}", "/", quoted))
    return normal + ("/" if quoted.endswith(("/", "/.", "/..")) and normal != "/" else "")
