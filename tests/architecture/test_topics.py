"""The table of topics: every row is complete, and what it says of writers and readers is so."""

from __future__ import annotations

import re

import pytest

from architecture.source import ROOT, modules
from xinstruct.spine.messages import PAYLOADS
from xinstruct.spine.topics import DEAD_LETTERS, STAGES, TOPICS, Topic

GOLDEN = ROOT / "tests" / "golden"

SERVICE_OF = {
    "crawler": "crawler", "fetch": "crawler", "admit": "crawler", "backgen": "backgen", "scoring-a": "scoring",
    "scoring-b": "scoring", "training": "training", "curation": "curation",
}
"""Stage, or servicer that appends commands → folder of its code."""

WRITTEN_BY_RUNNER = {"record-dropped-v1", *(topic.name for topic in DEAD_LETTERS.values())}
"""No stage names these: the runner turns its Drop and Reject into them."""

rows = pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)


@rows
def test_a_topic_is_named_noun_participle_version(topic: Topic) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z])?-([a-z]+ed|dlq)-v[1-9]", topic.name), topic.name


@rows
def test_a_topic_has_a_payload_class_and_the_key_of_that_class(topic: Topic) -> None:
    payload = PAYLOADS[topic.payload]
    key = "kind + target" if payload.KEY_FIELD == "takedown_key" else payload.KEY_FIELD
    assert topic.key == key


@rows
def test_a_topic_has_a_producer_and_a_consumer_or_is_terminal(topic: Topic) -> None:
    assert topic.producers
    assert bool(topic.consumers) != topic.terminal
    assert set(topic.consumers) <= set(STAGES)
    assert set(topic.producers) <= set(SERVICE_OF)


@rows
def test_a_topic_keeps_for_ever_what_it_compacts_and_for_a_time_what_it_deletes(topic: Topic) -> None:
    assert (topic.retention_ms == -1) == (topic.cleanup == "compact")
    assert topic.partitions >= 1


@rows
def test_a_topic_has_a_golden_example_in_bytes_and_in_json(topic: Topic) -> None:
    for suffix in ("bin", "json"):
        assert (GOLDEN / f"{topic.name}.{suffix}").is_file(), "run make golden"


def test_no_golden_example_is_left_of_a_topic_that_is_gone() -> None:
    assert {path.stem for path in GOLDEN.glob("*-v*.*")} == set(TOPICS)


def test_every_stage_has_its_dead_letters() -> None:
    assert {topic.name for topic in DEAD_LETTERS.values()} == {f"{stage}-dlq-v1" for stage in STAGES}


@rows
def test_a_topics_writers_and_readers_name_it_in_their_code(topic: Topic) -> None:
    constant = topic.name.removesuffix("-v1").replace("-", "_").upper()
    wanted = {SERVICE_OF[stage] for stage in (*topic.producers, *topic.consumers)}
    if topic in DEAD_LETTERS.values():
        constant = "DEAD_LETTERS"
    if topic.name in WRITTEN_BY_RUNNER:
        wanted = {SERVICE_OF[stage] for stage in topic.consumers}
    for part in sorted(wanted):
        lines = (line for module in modules() if module.part == part for line in module.lines)
        assert any(re.search(rf"\b{constant}\b", line) for line in lines), f"nothing in {part} names {constant}"


@rows
def test_nobody_else_names_a_topic(topic: Topic) -> None:
    if topic.name in WRITTEN_BY_RUNNER:
        return
    constant = topic.name.removesuffix("-v1").replace("-", "_").upper()
    wanted = {SERVICE_OF[stage] for stage in (*topic.producers, *topic.consumers)} | {"spine", "cli", "targets"}
    wrong = [
        f"{module.shown}:{number}"
        for module in modules()
        for number, line in enumerate(module.lines, 1)
        if module.part not in wanted and re.search(rf"\btopics\.{constant}\b|import .*\b{constant}\b", line)
    ]
    assert not wrong, f"{topic.name} has a reader or writer that its row does not name: {wrong}"
