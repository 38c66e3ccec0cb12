"""Programs built from the released .proto files work with today's; the comparison sees what breaks them."""

from collections.abc import Callable

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from scripts.check_proto import RELEASED, breaks, current, load


def test_nothing_that_was_released_has_changed() -> None:
    found = breaks(load(RELEASED), current())
    assert not found, "\n".join(found)


def test_the_released_copy_holds_the_api() -> None:
    services = {service.name for file in load(RELEASED).file for service in file.service}
    assert {"Cache", "Lock", "Watch", "Session", "Cluster"} <= services


def message(files: FileDescriptorSet, name: str) -> DescriptorProto:
    return next(one for file in files.file for one in file.message_type if one.name == name)


def field(files: FileDescriptorSet, name: str, of: str) -> FieldDescriptorProto:
    return next(one for one in message(files, of).field if one.name == name)


def drop(repeated: object, name: str) -> None:
    found = next(one for one in repeated if one.name == name)  # type: ignore[attr-defined]
    repeated.remove(found)  # type: ignore[attr-defined]


def method(files: FileDescriptorSet, name: str) -> object:
    return next(m for file in files.file for s in file.service for m in s.method if m.name == name)


def remove_message(files: FileDescriptorSet) -> None:
    for file in files.file:
        if any(one.name == "TouchRequest" for one in file.message_type):
            drop(file.message_type, "TouchRequest")


def remove_service(files: FileDescriptorSet) -> None:
    for file in files.file:
        if any(one.name == "Lock" for one in file.service):
            drop(file.service, "Lock")


def remove_enum(files: FileDescriptorSet) -> None:
    for file in files.file:
        if any(one.name == "LockMode" for one in file.enum_type):
            drop(file.enum_type, "LockMode")


def remove_enum_value(files: FileDescriptorSet) -> None:
    for file in files.file:
        for enum in file.enum_type:
            if enum.name == "ReadLevel":
                drop(enum.value, "READ_LEVEL_ONE")


def renumber_enum_value(files: FileDescriptorSet) -> None:
    for file in files.file:
        for enum in file.enum_type:
            if enum.name == "ReadLevel":
                enum.value[-1].number = 9


def remove_nested_enum_value(files: FileDescriptorSet) -> None:
    drop(message(files, "WatchEvent").enum_type[0].value, "EVICT")


def remove_rpc(files: FileDescriptorSet) -> None:
    for file in files.file:
        for service in file.service:
            if service.name == "Cache":
                drop(service.method, "Touch")


def leave_oneof(files: FileDescriptorSet) -> None:
    field(files, "append", "UpdateRequest").ClearField("oneof_index")


def lose_presence(files: FileDescriptorSet) -> None:
    one = field(files, "if_version", "Condition")
    one.ClearField("proto3_optional")
    one.ClearField("oneof_index")


def move_package(files: FileDescriptorSet) -> None:
    files.file[0].options.go_package = "elsewhere/v1;elsewhere"


CHANGES: list[tuple[Callable[[FileDescriptorSet], object], str]] = [
    (
        lambda files: drop(message(files, "SetRequest").field, "tags"),
        "field replcache.v1.SetRequest.tags = 7 is gone",
    ),
    (
        lambda files: setattr(field(files, "tags", "SetRequest"), "number", 77),
        "field replcache.v1.SetRequest.tags = 7 now has the number 77",
    ),
    (
        lambda files: setattr(field(files, "tags", "SetRequest"), "name", "labels"),
        "field replcache.v1.SetRequest.tags = 7 is now labels",
    ),
    (
        lambda files: setattr(
            field(files, "max_reads", "SetRequest"), "type", FieldDescriptorProto.TYPE_STRING
        ),
        "field replcache.v1.SetRequest.max_reads = 6 was single uint64, is single string",
    ),
    (
        lambda files: setattr(field(files, "ttl", "SetRequest"), "type_name", ".google.protobuf.Timestamp"),
        "field replcache.v1.SetRequest.ttl = 4 was single google.protobuf.Duration, "
        "is single google.protobuf.Timestamp",
    ),
    (
        lambda files: setattr(
            field(files, "tags", "SetRequest"), "label", FieldDescriptorProto.LABEL_OPTIONAL
        ),
        "field replcache.v1.SetRequest.tags = 7 was repeated string, is single string",
    ),
    (
        leave_oneof,
        "field replcache.v1.UpdateRequest.append = 3 was oneof change bytes, is single bytes",
    ),
    (
        lose_presence,
        "field replcache.v1.Condition.if_version = 3 was presence uint64, is single uint64",
    ),
    (remove_message, "message replcache.v1.TouchRequest is gone"),
    (remove_enum, "enum replcache.v1.LockMode is gone"),
    (remove_enum_value, "enum value replcache.v1.ReadLevel.READ_LEVEL_ONE = 3 is gone"),
    (renumber_enum_value, "enum value replcache.v1.ReadLevel.READ_LEVEL_ONE was 3, is 9"),
    (remove_nested_enum_value, "enum value replcache.v1.WatchEvent.Kind.EVICT = 4 is gone"),
    (remove_service, "service replcache.v1.Lock is gone"),
    (remove_rpc, "rpc replcache.v1.Cache.Touch is gone"),
    (
        lambda files: setattr(method(files, "Get"), "input_type", ".replcache.v1.SetRequest"),
        "rpc replcache.v1.Cache.Get: input_type was .replcache.v1.GetRequest, is .replcache.v1.SetRequest",
    ),
    (
        lambda files: setattr(method(files, "Pipeline"), "client_streaming", False),
        "rpc replcache.v1.Cache.Pipeline: client_streaming was True, is False",
    ),
    (
        move_package,
        "file replcache/v1/cache.proto: option go_package was 'replcache/v1;replcachev1', "
        "is 'elsewhere/v1;elsewhere'",
    ),
    (lambda files: files.file.pop(0), "file replcache/v1/cache.proto is gone"),
]


@pytest.mark.parametrize(("change", "seen"), CHANGES, ids=[seen[:60] for _, seen in CHANGES])
def test_a_breaking_change_is_seen(change: Callable[[FileDescriptorSet], object], seen: str) -> None:
    files = current()
    change(files)
    assert seen in breaks(current(), files)


def test_reserved_numbers_and_names_stay_free() -> None:
    old, new = current(), current()
    message(old, "Fence").reserved_range.add(start=7, end=9)
    message(old, "Fence").reserved_name.append("owner")
    message(new, "Fence").field.add(name="owner", number=8, type=FieldDescriptorProto.TYPE_BYTES)
    assert breaks(old, new) == [
        "field replcache.v1.Fence.owner = 8 uses a reserved number",
        "field replcache.v1.Fence.owner uses a reserved name",
    ]


def test_what_is_new_breaks_nobody() -> None:
    new = current()
    message(new, "SetRequest").field.add(name="extra", number=99, type=FieldDescriptorProto.TYPE_BOOL)
    new.file[0].message_type.add(name="Extra")
    new.file[0].service[0].method.add(
        name="Extra", input_type=".replcache.v1.Extra", output_type=".replcache.v1.Extra"
    )
    for file in new.file:
        for enum in file.enum_type:
            enum.value.add(name=f"{enum.name.upper()}_EXTRA", number=99)
    assert breaks(current(), new) == []
