"""What a page itself says about the use of its text: headers and meta elements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from xinstruct.crawler.domain import Signal, opt_out
from xinstruct.crawler.robots import Speaker, preferences
from xinstruct.spine.messages import OptOut

# An X-Robots-Tag item may begin with an agent: "otherbot: noindex". These directives carry a colon themselves.
_DIRECTIVES_WITH_VALUE = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")


def header_signals(headers: Mapping[str, Sequence[str]], speaker: Speaker) -> tuple[OptOut, ...]:
    """Signals in the headers (lower-case name → values), refusals and permissions."""
    return tuple(
        item
        for name, values in headers.items()
        for value in values
        for item in _of_header(name, value, speaker)
    )


def meta_signals(metas: Sequence[tuple[str, str]], speaker: Speaker) -> tuple[OptOut, ...]:
    """Signals in meta elements ((lower-case name, content)); one named like our agent, or like a token of AI training
    at large, counts as robots."""
    found: list[OptOut] = []
    for name, content in metas:
        if name == "robots" or name in speaker.names:
            found += [opt_out(Signal.ROBOTS_META, item, "meta") for item in _items(content)]
        elif name == "tdm-reservation":
            found.append(opt_out(Signal.TDMREP, f"tdm-reservation={content.strip()}", "meta"))
        elif name == "content-signal":
            found += preferences(Signal.CONTENT_SIGNAL, content, "meta")
        elif name == "content-usage":
            found += preferences(Signal.CONTENT_USAGE, content, "meta")
    return tuple(found)


def _of_header(name: str, value: str, speaker: Speaker) -> Iterator[OptOut]:
    if name == "x-robots-tag":
        for item in _x_robots_items(value, speaker):
            yield opt_out(Signal.X_ROBOTS_TAG, item, "header")
    elif name == "tdm-reservation":
        yield opt_out(Signal.TDMREP, f"tdm-reservation={value.strip()}", "header")
    elif name == "content-signal":
        yield from preferences(Signal.CONTENT_SIGNAL, value, "header")
    elif name == "content-usage":
        yield from preferences(Signal.CONTENT_USAGE, value, "header")


def _x_robots_items(value: str, speaker: Speaker) -> Iterator[str]:
    """Directives for everybody, for us or for AI training at large; those after another agent's name are its own, to
    the end of the value."""
    ours = True
    for item in _items(value):
        agent, colon, rest = item.partition(":")
        if colon and agent.strip() not in _DIRECTIVES_WITH_VALUE:
            ours = agent.strip() == "*" or agent.strip() in speaker.names
            item = rest.strip()
        if ours and item:
            yield item


def _items(value: str) -> list[str]:
    return [item for item in (part.strip().lower() for part in re.split(r"[,;]", value)) if item]
