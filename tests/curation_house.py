"""A catalog over real parts: SQLite log and database, blobs in a folder, the n-gram encoder, a clock that is set."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import sqlalchemy as sa

import builders
from xinstruct.curation import folder, tables
from xinstruct.curation.app import build
from xinstruct.curation.config import CurationSettings
from xinstruct.curation.release import Releases
from xinstruct.inference.ngram import NgramInference
from xinstruct.spine import registry
from xinstruct.spine.app import App, Deps
from xinstruct.spine.blobs import Blobs, digest_of
from xinstruct.spine.log.sqlite import SqliteLog
from xinstruct.spine.messages import Payload
from xinstruct.spine.record import Record
from xinstruct.spine.rpc import error_of
from xinstruct.spine.sql import METADATA, open_engine, transaction
from xinstruct.spine.topics import TOPICS, Topic

GENERATOR, EVALUATOR = builders.digest("1"), builders.digest("2")
WORDS = (
    "mto", "ziwa", "mlima", "kijiji", "samaki", "ngoma", "soko", "shamba", "nyumba", "barabara", "mvua", "jua", "mwezi",
    "nyota", "upepo", "bahari",
)


@dataclass
class Clock:
    """Time that a test sets."""

    now_ms: int = builders.NOW_MS

    def __call__(self) -> int:
        self.now_ms += 1
        return self.now_ms


@dataclass
class House:
    """A data folder with everything that curation needs, and words to write records with."""

    home: Path
    settings: CurationSettings = field(default_factory=CurationSettings)
    clock: Clock = field(default_factory=Clock)
    database_url: str = ""
    """Empty: SQLite in the data folder."""

    def __post_init__(self) -> None:
        self.log = SqliteLog(self.home / "log.sqlite", self.clock)
        self.database = open_engine(self.database_url or f"sqlite:///{self.home / 'catalog.sqlite'}")
        METADATA.create_all(self.database)
        self.blobs = Blobs(str(self.home / "blobs"))
        self.encoder = NgramInference()
        self.deps = Deps(self.log, self.database, self.blobs, {"encoder": self.encoder}, self.clock, self.home)
        self.app: App = build(self.settings, self.deps)

    def close(self) -> None:
        self.app.close()
        self.log.close()
        self.database.dispose()

    def promote(self, *, evaluator: str = EVALUATOR, generator: str = GENERATOR) -> None:
        """Make two models the ones of their roles."""
        for role, digest in (("evaluator", evaluator), ("generator", generator)):
            registry.register(self.database, registry.Model(digest, role, f"models/{role}"))
            registry.promote(self.database, role, digest, now_ms=self.clock())

    def write(self, topic: Topic, *payloads: Payload) -> None:
        """Append records, without projecting them."""
        self.log.append([payload.record(topic.name) for payload in payloads])

    def bury(self, topic: Topic, key: str) -> None:
        self.log.append([Record(topic.name, key, key, None)])

    def settle(self) -> None:
        """Let curation work until nothing is left."""
        for _ in range(10_000):
            if not any(loop.pending() for loop in self.app.loops):
                return
            for loop in self.app.loops:
                loop.step()
        raise AssertionError("curation never comes to rest")

    def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        """All rows of `table`, by primary key."""
        with transaction(self.database) as connection:
            query = table.select().order_by(*table.primary_key.columns)
            return [dict(row) for row in connection.execute(query).mappings()]

    def ids(self, table: sa.Table) -> list[str]:
        return [row[table.primary_key.columns[0].name] for row in self.rows(table)]

    def values(self, topic: Topic) -> dict[str, bytes | None]:
        """Key → last value in the log, None where it is a tombstone."""
        return {record.key: record.value for record in self.log.read(topic, {})}

    def publishable(self, count: int, *, language: str = "sw", first: int = 0, **changes: Any) -> list[str]:
        """Write `count` pages with a document, a pair and a score each that a release takes; returns the pair ids."""
        names = [f"{language}{index:04d}" for index in range(first, first + count)]
        self.log.append([record for name in names for record in self.chain(name, language=language, **changes)])
        return [f"pair-{name}" for name in names]

    def chain(self, name: str, *, language: str = "sw", p_best: float = 0.9, host: str = builders.HOST) -> list[Record]:
        """A page, its document, a pair and a score, all named after `name`."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        dice = np.random.default_rng(seed)
        text = f"Habari za {name}. " + " ".join(dice.choice(WORDS, 60)) + "."
        body = self.blobs.put(f"<html><body>{text}</body></html>".encode())
        url = f"http://{host}/{name}"
        common = {"page_id": f"page-{name}", "url": url, "host": host, "fetch_time_ms": builders.NOW_MS}
        signature = dice.integers(0, 1 << 62, 112, dtype=np.uint64).astype("<u8").tobytes()
        page = builders.page(fetch_id=f"fetch-{name}", body_digest=body, declared_language=language, **common)
        document = builders.document(
            document_id=f"document-{name}", body_digest=body, text=text, text_digest=digest_of(text.encode()),
            signature=signature, language=language, language_script=f"{language}_Latn", **common,
        )
        pair = builders.pair(
            pair_id=f"pair-{name}", document_id=f"document-{name}", response=text, language=language,
            instruction=f"Write a short report about {name} and its {dice.choice(WORDS)}.",
            language_script=f"{language}_Latn", generator_digest=GENERATOR, **common,
        )
        score = builders.score(
            score_id=f"score-{name}", pair_id=f"pair-{name}", document_id=f"document-{name}", p_best=p_best,
            p_reasonable=1 - p_best, p_worst=0.0, evaluator_digest=EVALUATOR, language=language,
        )
        payloads: tuple[Payload, ...] = (page, document, pair, score)
        return [payload.record(topic.name) for topic, payload in zip(CHAIN, payloads, strict=True)]


def releases(house: House) -> Releases:
    """What the curation of `house` publishes with."""
    return house.app.loops[0]._releases  # type: ignore[attr-defined,no-any-return]


def published_ids(location: str, language: str = "sw") -> list[str]:
    """Ids of the rows of the release that stands there."""
    return [row["id"] for row in folder.read_rows(location, language)]


def refused(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    """The call raises `error` on the client's side, with `words` in its message."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    found = error_of(caught.value)
    assert isinstance(found, error) and words in str(found), found


CHAIN = tuple(TOPICS[f"{name}-v1"] for name in ("page-fetched", "document-admitted", "pair-drafted", "pair-scored"))
CATALOG = (tables.PAGES, tables.DOCUMENTS, tables.PAIRS, tables.SCORES)
