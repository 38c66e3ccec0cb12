"""Every message of the public API survives the wire, also through programs that are older than it.

Compared are bytes (in canonical form), not messages: a NaN equals itself only there.
"""

import importlib
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from replcache.pb.v1 import cache_pb2
from scripts.check_proto import RELEASED, ROOT, load
from tests.fuzz.inputs import fuzz, messages
from tests.helpers.serving import serving, stubs

MODULES = [
    importlib.import_module(f"replcache.pb.v1.{path.stem}_pb2")
    for path in sorted(Path(ROOT / "proto/replcache/v1").glob("*.proto"))
]
KINDS = {
    descriptor.full_name: GetMessageClass(descriptor)
    for module in MODULES
    for descriptor in module.DESCRIPTOR.message_types_by_name.values()
}
# Field 9,999 of every message, which nobody has: text, a number and a nested message.
UNKNOWN = b"\xfa\xf0\x04\x04text" + b"\xf0\xf0\x04\x2a" + b"\xfa\xf0\x04\x02\x08\x01"


def canonical(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def released_kinds() -> dict[str, type[Message]]:
    """The messages as a program knows them that was built from the released files."""
    pool = DescriptorPool()
    released = {file.name: file for file in load(RELEASED).file}

    def add(name: str) -> None:
        file = released.get(name)
        if file is None:
            file = FileDescriptorProto()
            Default().FindFileByName(name).CopyToProto(file)
        for needed in file.dependency:
            add(needed)
        pool.Add(file)

    for name in released:
        add(name)
    found: dict[str, Descriptor] = {}
    for name in released:
        for descriptor in pool.FindFileByName(name).message_types_by_name.values():
            found[descriptor.full_name] = descriptor
    return {name: GetMessageClass(descriptor) for name, descriptor in found.items()}


OLD_KINDS = released_kinds()
ANY_MESSAGE = st.sampled_from(sorted(KINDS)).flatmap(lambda name: messages(KINDS[name]))


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_message_with_all_its_fields_comes_back(name: str) -> None:
    """Each field on its own: a wrong number or type could hide behind a field that is drawn seldom."""
    for field in KINDS[name].DESCRIPTOR.fields:
        message = KINDS[name]()
        fill(message, field.name)
        again = KINDS[name].FromString(canonical(message))
        assert again == message
        assert [one.name for one, _ in again.ListFields()] == [field.name]


def fill(message: Message, name: str) -> None:
    """Gives the field a value that is not its default."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        getattr(message, name)["key"] = "value"
    elif field.message_type is not None:
        if field.is_repeated:
            getattr(message, name).add()
        else:
            getattr(message, name).SetInParent()
    else:
        one = b"x" if field.type == field.TYPE_BYTES else "x" if field.type == field.TYPE_STRING else 1
        if field.is_repeated:
            getattr(message, name).append(one)
        else:
            setattr(message, name, one)


@fuzz(150)
@given(ANY_MESSAGE)
def test_any_message_comes_back(message: Message) -> None:
    """As it was; with what its reader does not know; and through a program of the released API."""
    kind, data = type(message), canonical(message)
    assert canonical(kind.FromString(data)) == data

    with_unknown = kind.FromString(data + UNKNOWN)
    assert UNKNOWN in canonical(with_unknown)
    with_unknown.DiscardUnknownFields()
    assert canonical(with_unknown) == data

    old = OLD_KINDS.get(message.DESCRIPTOR.full_name)
    if old is not None:
        assert canonical(kind.FromString(canonical(old.FromString(data)))) == data


async def test_a_node_ignores_fields_of_a_later_version() -> None:
    async with serving(http_listen="") as one:
        path = "/replcache.v1.Cache/Set"
        call = one.channel.unary_unary(path, response_deserializer=cache_pb2.SetResponse.FromString)
        request = cache_pb2.SetRequest(key=b"k", value=b"v")
        assert (await call(request.SerializeToString() + UNKNOWN)).version == 1
        # A level of reading that this node does not know is not silently another one.
        later = cache_pb2.GetRequest(key=b"k", read={"level": 99})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stubs(one.channel)[0].Get(later)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
