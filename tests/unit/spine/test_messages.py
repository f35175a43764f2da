"""Payloads and their bytes: the golden examples, the mapping to the protos, and what is no payload."""

from __future__ import annotations

import dataclasses
import math
import typing
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import builders
from xinstruct.spine import messages
from xinstruct.spine.errors import Invalid
from xinstruct.spine.messages import PAYLOADS, OptOut
from xinstruct.spine.topics import TOPICS
from xinstruct.v1 import messages_pb2

GOLDEN = Path(__file__).parents[2] / "golden"
ENUMS = ("CrawlAction", "SourceKind", "LabelReading", "TakedownKind")

INTEGER_RANGES = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1), FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1), FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_a_golden_example_decodes_and_encodes_to_its_very_bytes(name: str) -> None:
    raw = (GOLDEN / f"{name}.bin").read_bytes()

    assert PAYLOADS[TOPICS[name].payload].decode(raw).encode() == raw


@pytest.mark.parametrize("name", sorted(TOPICS))
def test_a_golden_example_says_what_its_json_says(name: str) -> None:
    message_class = proto_class(TOPICS[name].payload)
    wanted = json_format.Parse((GOLDEN / f"{name}.json").read_text(encoding="utf-8"), message_class())

    assert message_class.FromString((GOLDEN / f"{name}.bin").read_bytes()) == wanted


@pytest.mark.parametrize("cls", [*PAYLOADS.values(), OptOut], ids=lambda cls: cls.__name__)
def test_a_dataclass_has_the_fields_of_its_proto_message_in_the_same_order(cls: type) -> None:
    ours = [field.name for field in dataclasses.fields(cls)]
    theirs = [field.name for field in proto_class(cls.__name__).DESCRIPTOR.fields]

    assert ours == theirs


@pytest.mark.parametrize("cls", [*PAYLOADS.values(), OptOut], ids=lambda cls: cls.__name__)
def test_a_dataclass_field_has_the_type_of_its_proto_field(cls: type) -> None:
    hints = typing.get_type_hints(cls)
    for name, descriptor in proto_class(cls.__name__).DESCRIPTOR.fields_by_name.items():
        assert hints[name] == python_type(descriptor), name


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_members_of_its_proto_enum(name: str) -> None:
    descriptor = getattr(messages_pb2, name).DESCRIPTOR
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).lstrip("_") + "_"
    wanted = {value.name.removeprefix(prefix): value.number for value in descriptor.values}

    assert {member.name: int(member) for member in getattr(messages, name)} == wanted


def test_every_message_of_the_file_is_a_payload_or_part_of_one() -> None:
    assert set(messages_pb2.DESCRIPTOR.message_types_by_name) == {*PAYLOADS, "OptOut"}


@pytest.mark.parametrize("name", sorted(PAYLOADS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(data=st.data())
def test_any_payload_survives_its_bytes(name: str, data: st.DataObject) -> None:
    payload = data.draw(payloads(PAYLOADS[name]))

    assert type(payload).decode(payload.encode()) == payload


def test_an_absent_log_probability_survives_as_nan() -> None:
    decoded = messages.DraftedPair.decode(builders.pair(mean_log_probability=math.nan).encode())

    assert math.isnan(decoded.mean_log_probability)


def test_equal_evidence_in_another_order_gives_equal_bytes() -> None:
    one = builders.drop(evidence={"b": "2", "a": "1"})
    other = builders.drop(evidence={"a": "1", "b": "2"})

    assert one.encode() == other.encode()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff\xff\xff", id="no-proto"),
        pytest.param(builders.document().encode()[:-7], id="cut-off"),
        pytest.param(b"\x0a\x02\xc3\x28", id="text-that-is-no-utf-8"),
        pytest.param(b"<html>a web page</html>", id="a-web-page"),
    ],
)
def test_bytes_that_are_no_payload_are_invalid(raw: bytes) -> None:
    with pytest.raises(Invalid, match="AdmittedDocument"):
        messages.AdmittedDocument.decode(raw)


def test_an_enum_member_that_this_version_does_not_know_is_invalid() -> None:
    proto = messages_pb2.TakedownRequested.FromString(builders.takedown().encode())
    proto.kind = 99  # type: ignore[assignment]

    with pytest.raises(Invalid, match="99"):
        messages.TakedownRequested.decode(proto.SerializeToString())


def test_a_payloads_record_carries_its_key_id_and_bytes() -> None:
    pair = builders.pair()
    record = pair.record("pair-drafted-v1", {"trace": "x"})

    assert (record.topic, record.key, record.id) == ("pair-drafted-v1", pair.pair_id, pair.pair_id)
    assert (record.value, record.headers) == (pair.encode(), {"trace": "x"})
    assert (record.partition, record.offset) == (-1, -1)


def test_two_takedowns_of_one_target_share_a_key_and_not_an_id() -> None:
    one, other = builders.takedown(request_id="a"), builders.takedown(request_id="b")

    assert one.key == other.key == f"url {builders.URL}"
    assert one.id != other.id


def test_a_drop_of_another_slot_or_version_has_another_id() -> None:
    def drop_id(version: str, ordinal: int) -> str:
        return messages.dropped("admit", version, "a" * 32, reason="too_short", ordinal=ordinal).drop_id

    assert len({drop_id("1", 0), drop_id("1", 1), drop_id("2", 0)}) == 3
    assert drop_id("1", 0) == drop_id("1", 0)


def proto_class(name: str) -> Any:
    return getattr(messages_pb2, name)


def python_type(descriptor: FieldDescriptor) -> Any:
    """The annotation that a dataclass has for this proto field."""
    if descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
        return typing.get_type_hints(messages.DroppedRecord)["evidence"]
    if descriptor.message_type is not None:
        return tuple[getattr(messages, descriptor.message_type.name), ...]
    if descriptor.is_repeated:
        return tuple[str, ...]
    if descriptor.enum_type is not None:
        return getattr(messages, descriptor.enum_type.name)
    plain = {
        FieldDescriptor.TYPE_STRING: str, FieldDescriptor.TYPE_BYTES: bytes, FieldDescriptor.TYPE_BOOL: bool,
        FieldDescriptor.TYPE_FLOAT: float,
    }
    return plain.get(descriptor.type, int)


def payloads(cls: type) -> st.SearchStrategy[Any]:
    """Any value of a payload class within the ranges of its proto types."""
    fields = proto_class(cls.__name__).DESCRIPTOR.fields_by_name
    return st.builds(cls, **{name: values(cls, name, field) for name, field in fields.items()})


def values(cls: type, name: str, descriptor: FieldDescriptor) -> st.SearchStrategy[Any]:
    hint = typing.get_type_hints(cls)[name]
    text = st.text(st.characters(codec="utf-8"), max_size=40)
    if descriptor.message_type is not None and descriptor.message_type.name == "OptOut":
        return st.lists(payloads(OptOut), max_size=2).map(tuple)
    if descriptor.message_type is not None:
        return st.dictionaries(text, text, max_size=3)
    if descriptor.is_repeated:
        return st.lists(text, max_size=3).map(tuple)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    if descriptor.type in INTEGER_RANGES:
        return st.integers(*INTEGER_RANGES[descriptor.type])
    return {
        str: text, bytes: st.binary(max_size=40), bool: st.booleans(), float: st.floats(allow_nan=False, width=32),
    }[hint]
