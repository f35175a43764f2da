"""robots.txt by RFC 9309, with what it and /.well-known/tdmrep.json say about training on a host's pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from protego import Protego

from xinstruct.crawler.domain import Signal, opt_out
from xinstruct.spine.messages import OptOut

ROBOTS_BYTES_MAX = 512_000
"""RFC 9309 asks for at least 500 KiB; the rest is ignored."""
CRAWL_DELAY_S_MAX = 60.0
"""A longer Crawl-delay is taken as this."""
ROBOTS_EVIDENCE = "/robots.txt"
TDMREP_EVIDENCE = "/.well-known/tdmrep.json"


@dataclass(frozen=True, slots=True)
class HostRules:
    """What a host's two files said. robots_status: HTTP status, 0 without an answer. tdmrep_text: "" when absent.

    retry_after_s: what a file that could not be read asked for just now. failure: why we ask nothing of the host at
    all, a FetchFailure, "" when we do. The frontier keeps neither.
    """

    robots_status: int
    robots_text: str
    tdmrep_text: str = ""
    retry_after_s: float = 0.0
    failure: str = ""

    @property
    def reachable(self) -> bool:
        """False when robots.txt gave a server error or no answer: everything is disallowed then."""
        return 200 <= self.robots_status < 500 and self.robots_status != 429


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who asks. agent: our product token. ai_tokens: tokens of AI training at large, obeyed where a site names them."""

    agent: str
    ai_tokens: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Every name by which a page's tags address us, lower case."""
        return frozenset(name.lower() for name in (self.agent, *self.ai_tokens))


def denial(rules: HostRules, url: str, speaker: Speaker) -> OptOut | None:
    """The rule of robots.txt that forbids `url`, None when it may be fetched. Only for reachable rules."""
    parsed = _parsed(rules)
    if parsed is None:
        return None
    named = _named_agents(rules.robots_text)
    for token in (speaker.agent, *(item for item in speaker.ai_tokens if item.lower() in named)):
        if not parsed.can_fetch(url, token):
            return opt_out(Signal.ROBOTS_TXT, f"disallow for {token.lower()}", ROBOTS_EVIDENCE)
    return None


def crawl_delay_s(rules: HostRules, speaker: Speaker) -> float:
    """Seconds that the host asks to leave between two requests, 0 to CRAWL_DELAY_S_MAX."""
    parsed = _parsed(rules)
    delay = parsed.crawl_delay(speaker.agent) if parsed is not None else None
    return min(max(float(delay or 0.0), 0.0), CRAWL_DELAY_S_MAX)


def host_signals(rules: HostRules, url: str, speaker: Speaker) -> tuple[OptOut, ...]:
    """Every signal of the two files that concerns `url`, refusals and permissions."""
    robots = rules.robots_text if _parsed(rules) is not None else ""
    return (*_robots_signals(robots, url, speaker), *_tdmrep_signals(rules.tdmrep_text, url))


def _parsed(rules: HostRules) -> Any | None:
    # 4xx but 429 means that there is no robots.txt: everything is allowed.
    return _parse(rules.robots_text) if 200 <= rules.robots_status < 300 else None


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    return Protego.parse(text)


@lru_cache(maxsize=256)
def _named_agents(text: str) -> frozenset[str]:
    return frozenset(value.lower() for key, value in _lines(text) if key == "user-agent")


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _robots_signals(text: str, url: str, speaker: Speaker) -> Iterator[OptOut]:
    """Content-Signal and Content-Usage lines of our group, of * when we have none, and of lines before any group."""
    named = _named_agents(text)
    own = speaker.agent.lower()
    wanted = {own} if own in named else {"*"}
    agents: set[str] = set()
    in_group_head = False
    for key, value in _lines(text):
        if key == "user-agent":
            agents = {*agents, value.lower()} if in_group_head else {value.lower()}
        elif key in ("content-signal", "content-usage") and (not agents or agents & wanted):
            signal = Signal.CONTENT_SIGNAL if key == "content-signal" else Signal.CONTENT_USAGE
            yield from preferences(signal, _of_path(value, url), ROBOTS_EVIDENCE)
        in_group_head = key == "user-agent"


def preferences(signal: Signal, value: str, evidence: str) -> Iterator[OptOut]:
    """The "key=value" items of a Content-Signal or Content-Usage value, separated by commas."""
    for item in re.split(r"[,;]", value):
        key, equals, said = item.partition("=")
        if equals:
            yield opt_out(signal, f"{key.strip()}={said.strip()}", evidence)


def _of_path(value: str, url: str) -> str:
    """The preferences of a line that may begin with a path pattern; "" when the pattern does not match the URL."""
    pattern, _, rest = value.partition(" ")
    if not pattern.startswith("/"):
        return value
    return rest if matches_path(pattern, url) else ""


def matches_path(pattern: str, url: str) -> bool:
    """Whether a path pattern with * and $ (RFC 9309) matches the path and query of `url`."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    anchored = pattern.endswith("$")
    pieces = pattern.removesuffix("$").split("*")
    # Piece by piece, not as a regular expression: a pattern of many stars must not cost exponential time.
    if not path.startswith(pieces[0]):
        return False
    place = len(pieces[0])
    for piece in pieces[1:]:
        found = path.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return not anchored or place == len(path) or (len(pieces) > 1 and path.endswith(pieces[-1]))


def _tdmrep_signals(text: str, url: str) -> Sequence[OptOut]:
    """The first rule of tdmrep.json whose location matches; malformed files say nothing."""
    try:
        rules = json.loads(text) if text else []
    except (ValueError, RecursionError):  # brackets nested by the thousand
        return ()
    for rule in rules if isinstance(rules, list) else []:
        if not isinstance(rule, dict):
            continue
        location, reservation = rule.get("location"), rule.get("tdm-reservation")
        if isinstance(location, str) and reservation in (0, 1, "0", "1") and matches_path(location, url):
            return (opt_out(Signal.TDMREP, f"tdm-reservation={reservation}", TDMREP_EVIDENCE),)
    return ()
