"""The protos: every field, member and call says what it is; every enum can tell "not set" from a value."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from architecture.source import ROOT

# Numbers of descriptor.proto: where a message, a field … stands in the path of a source location.
MESSAGES, ENUMS, SERVICES, FIELDS, MEMBERS, METHODS = 4, 5, 6, 2, 2, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[FileDescriptorProto]:
    out = tmp_path_factory.mktemp("protos") / "set.bin"
    paths = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto"))
    options = ["-I", "protos", "--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *paths], cwd=ROOT, check=True)
    return list(FileDescriptorSet.FromString(Path(out).read_bytes()).file)


def test_every_field_member_and_call_has_a_comment(files: list[FileDescriptorProto]) -> None:
    wrong = []
    for file in files:
        comments = {
            tuple(place.path): (place.leading_comments + place.trailing_comments).strip()
            for place in file.source_code_info.location
        }
        wrong += [f"{file.name}: {name}" for path, name in _things(file) if not comments.get(path)]
    assert not wrong, "\n".join(wrong)


def test_the_zero_of_every_enum_is_unspecified(files: list[FileDescriptorProto]) -> None:
    wrong = [
        f"{file.name}: {enum.name}"
        for file in files
        for enum in file.enum_type
        if not enum.value[0].name.endswith("_UNSPECIFIED") or enum.value[0].number != 0
    ]
    assert not wrong, wrong


def test_no_field_number_is_skipped_unless_it_is_reserved(files: list[FileDescriptorProto]) -> None:
    # A gap without `reserved` is a number that somebody may use again for something else.
    wrong = [f"{file.name}: {message.name}" for file in files for message in file.message_type if _gaps(message)]
    assert not wrong, wrong


def _things(file: FileDescriptorProto) -> Iterator[tuple[tuple[int, ...], str]]:
    for index, message in enumerate(file.message_type):
        for number, field in enumerate(message.field):
            yield (MESSAGES, index, FIELDS, number), f"{message.name}.{field.name}"
        real = [nested.name for nested in message.nested_type if not nested.options.map_entry]
        assert not real, f"{message.name} nests {real}: nested messages are not looked at here"
    for index, enum in enumerate(file.enum_type):
        for number, member in enumerate(enum.value):
            yield (ENUMS, index, MEMBERS, number), member.name
    for index, service in enumerate(file.service):
        for number, method in enumerate(service.method):
            yield (SERVICES, index, METHODS, number), f"{service.name}.{method.name}"


def _gaps(message: DescriptorProto) -> set[int]:
    used = {field.number for field in message.field}
    for reserved in message.reserved_range:
        used |= set(range(reserved.start, reserved.end))
    return set(range(1, max(used, default=0) + 1)) - used
