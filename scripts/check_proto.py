"""Compares the public API with the copy of the last release, and refuses what would break a client.

What programs of others were built from (`proto/replcache/v1`) must stay as it is; new things may come. The
released copy is a FileDescriptorSet, proto/released/v1.binpb. Usage:

    python scripts/check_proto.py             compare; exit 1 and one line for each break
    python scripts/check_proto.py --release   store the present API as released (part of a release)
"""

import argparse
import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "proto" / "released" / "v1.binpb"
# Where generators of other languages put the code: a change breaks the imports of their users.
FILE_OPTIONS = ("go_package", "java_package", "java_multiple_files", "csharp_namespace")


def current() -> FileDescriptorSet:
    """The API as it is (`make lint` proves that replcache/pb is what the .proto files say)."""
    found = FileDescriptorSet()
    for path in sorted((ROOT / "proto/replcache/v1").glob("*.proto")):
        module = importlib.import_module(f"replcache.pb.v1.{path.stem}_pb2")
        module.DESCRIPTOR.CopyToProto(found.file.add())
    return found


def load(path: Path) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(path.read_bytes())


def breaks(old: FileDescriptorSet, new: FileDescriptorSet) -> list[str]:
    """What a program that was built from `old` loses with `new`; [] when nothing."""
    messages, enums, services = _messages(new), _enums(new), _services(new)
    found = list(_file_breaks(old, new))
    for name, message in _messages(old).items():
        if name in messages:
            found += _message_breaks(name, message, messages[name])
        else:
            found.append(f"message {name} is gone")
    for name, enum in _enums(old).items():
        if name in enums:
            found += _enum_breaks(name, enum, enums[name])
        else:
            found.append(f"enum {name} is gone")
    for name, service in _services(old).items():
        if name in services:
            found += _service_breaks(name, service, services[name])
        else:
            found.append(f"service {name} is gone")
    return found


def _file_breaks(old: FileDescriptorSet, new: FileDescriptorSet) -> Iterator[str]:
    files = {file.name: file for file in new.file}
    for before in old.file:
        after = files.get(before.name)
        if after is None:
            yield f"file {before.name} is gone"
            continue
        for option in FILE_OPTIONS:
            was, now = getattr(before.options, option), getattr(after.options, option)
            if was != now:
                yield f"file {before.name}: option {option} was {was!r}, is {now!r}"


def _message_breaks(name: str, old: DescriptorProto, new: DescriptorProto) -> Iterator[str]:
    fields = {field.number: field for field in new.field}
    numbers = {field.name: field.number for field in new.field}
    for before in old.field:
        label = f"field {name}.{before.name} = {before.number}"
        after = fields.get(before.number)
        if after is None or after.name != before.name:
            moved = numbers.get(before.name)
            became = (
                f"now has the number {moved}" if moved else f"is now {after.name}" if after else "is gone"
            )
            yield f"{label} {became}"
        else:
            was, now = _shape(old, before), _shape(new, after)
            if was != now:
                yield f"{label} was {was}, is {now}"
    reserved = {number for gap in old.reserved_range for number in range(gap.start, gap.end)}
    for number in sorted(reserved & fields.keys()):
        yield f"field {name}.{fields[number].name} = {number} uses a reserved number"
    for taken in sorted(set(old.reserved_name) & numbers.keys()):
        yield f"field {name}.{taken} uses a reserved name"


def _shape(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    """All that a program's code or bytes depend on, except name and number."""
    kind = field.type_name.lstrip(".") or FieldDescriptorProto.Type.Name(field.type)[len("TYPE_") :].lower()
    label = FieldDescriptorProto.Label.Name(field.label)[len("LABEL_") :].lower()
    if field.label == FieldDescriptorProto.LABEL_OPTIONAL:
        label = "presence" if field.proto3_optional else "single"
    if field.HasField("oneof_index") and not field.proto3_optional:
        label = f"oneof {message.oneof_decl[field.oneof_index].name}"
    return f"{label} {kind}"


def _enum_breaks(name: str, old: EnumDescriptorProto, new: EnumDescriptorProto) -> Iterator[str]:
    values = {value.name: value.number for value in new.value}
    for before in old.value:
        now = values.get(before.name)
        if now is None:
            yield f"enum value {name}.{before.name} = {before.number} is gone"
        elif now != before.number:
            yield f"enum value {name}.{before.name} was {before.number}, is {now}"


def _service_breaks(name: str, old: ServiceDescriptorProto, new: ServiceDescriptorProto) -> Iterator[str]:
    methods = {method.name: method for method in new.method}
    for before in old.method:
        after = methods.get(before.name)
        if after is None:
            yield f"rpc {name}.{before.name} is gone"
            continue
        for part in ("input_type", "output_type", "client_streaming", "server_streaming"):
            was, now = getattr(before, part), getattr(after, part)
            if was != now:
                yield f"rpc {name}.{before.name}: {part} was {was}, is {now}"


def _messages(files: FileDescriptorSet) -> dict[str, DescriptorProto]:
    return dict(pair for file in files.file for pair in _nested(file.package, file.message_type))


def _nested(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    for message in messages:
        name = f"{scope}.{message.name}"
        yield name, message
        yield from _nested(name, message.nested_type)


def _enums(files: FileDescriptorSet) -> dict[str, EnumDescriptorProto]:
    found = {f"{file.package}.{enum.name}": enum for file in files.file for enum in file.enum_type}
    for name, message in _messages(files).items():
        found |= {f"{name}.{enum.name}": enum for enum in message.enum_type}
    return found


def _services(files: FileDescriptorSet) -> dict[str, ServiceDescriptorProto]:
    return {f"{file.package}.{service.name}": service for file in files.file for service in file.service}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", action="store_true", help="store the present API as released")
    release = parser.parse_args().release
    now = current()
    found = breaks(load(RELEASED), now) if RELEASED.exists() else []
    for line in found:
        print(line, file=sys.stderr)
    if release and not found:
        RELEASED.parent.mkdir(exist_ok=True)
        RELEASED.write_bytes(now.SerializeToString(deterministic=True))
        print(f"{RELEASED.relative_to(ROOT)}: {sum(len(file.message_type) for file in now.file)} messages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
