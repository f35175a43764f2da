"""A page of the site: what it says, how it is delivered, and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xinstruct.microworld.documents import Block, Document


class Reason(StrEnum):
    """Why a page must not be admitted."""

    WRONG_LANGUAGE = "wrong_language"
    MIXED_LANGUAGE = "mixed_language"
    MOJIBAKE = "mojibake"
    BROKEN_TEXT = "broken_text"
    BOILERPLATE = "boilerplate"
    KEYWORD_SPAM = "keyword_spam"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    TOO_BIG = "too_big"
    ROBOTS_DISALLOWED = "robots_disallowed"
    OPT_OUT_ROBOTS_META = "opt_out_robots_meta"
    OPT_OUT_X_ROBOTS_TAG = "opt_out_x_robots_tag"
    OPT_OUT_TDM = "opt_out_tdm"
    OPT_OUT_CONTENT_SIGNAL = "opt_out_content_signal"
    OPT_OUT_CONTENT_USAGE = "opt_out_content_usage"
    REDIRECT = "redirect"
    REDIRECT_LOOP = "redirect_loop"
    NOT_FOUND = "not_found"
    GONE = "gone"
    SERVER_ERROR = "server_error"
    LISTING = "listing"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the main text; its heading is empty where the page's own heading is the text's title."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the server hands the page out."""

    status: int = 200
    status_first: int = 0
    """The status of the first request only, 0 for the same as always."""
    location: str = ""
    """Path that a redirect leads to."""
    headers: tuple[tuple[str, str], ...] = ()
    metas: tuple[tuple[str, str], ...] = ()
    charset: str = "utf-8"
    """What the bytes are in."""
    charset_header: str = "utf-8"
    """What the Content-Type header declares, "" for nothing."""
    charset_meta: str = "utf-8"
    compression: str = ""
    """gzip or br where the client accepts it, "" for none."""
    slow: bool = False
    padded: bool = False
    """True where the body is streamed beyond any sensible limit."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page, with its truth. Paths are absolute, without scheme and host."""

    path: str
    site: str
    language: str
    """The language that its main text is in, which is not the site's on a page in the wrong language."""
    heading: str
    sections: tuple[Section, ...] = ()
    intro: str = ""
    documents: tuple[Document, ...] = ()
    reason: Reason | None = None
    near_duplicate_of: str | None = None
    pii: tuple[str, ...] = ()
    delivery: Delivery = field(default_factory=Delivery)

    @property
    def main_text(self) -> str:
        """Everything that belongs to the text and not to the site around it, headings included."""
        lines = [self.heading, self.intro]
        for section in self.sections:
            lines += [section.heading, *(block.text for block in section.blocks)]
        return "\n\n".join(line for line in lines if line)

    def truth(self, origin: str) -> dict[str, Any]:
        """Return the page's line of the truth; origin is scheme, host and port."""
        return {
            "url": origin + self.path,
            "language": self.language,
            "admissible": self.reason is None,
            "reason": self.reason.value if self.reason else None,
            "near_duplicate_of": origin + self.near_duplicate_of if self.near_duplicate_of else None,
            "main_text": self.main_text,
            "documents": [
                {
                    "text": document.text,
                    "instruction": document.instruction,
                    "slots": [{"name": slot.name, "accepts": list(slot.accepts)} for slot in document.slots],
                }
                for document in self.documents
            ],
            "pii": list(self.pii),
        }


def single(path: str, site: str, document: Document) -> Page:
    """Return the ordinary page: one document, its title the page's heading."""
    return Page(path, site, document.language, document.title, (Section("", document.blocks),), documents=(document,))


def collection(path: str, site: str, documents: tuple[Document, ...], heading: str, intro: str) -> Page:
    """Return a long page of several documents, each a section of its own."""
    sections = tuple(Section(document.title, document.blocks) for document in documents)
    return Page(path, site, documents[0].language, heading, sections, intro, documents)
