"""What the fuzz tests share: how long they run, damaged bytes, and arbitrary protobuf messages.

A failure prints Hypothesis's @reproduce_failure line; `make fuzz` prints the seed of each pass too.
"""

import os
import struct
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# Set by `make fuzz`: that many times the examples of an ordinary test run.
FACTOR = int(os.environ.get("REPLCACHE_FUZZ_FACTOR", "1"))


def fuzz(examples: int) -> Callable[[Any], Any]:
    """Settings of one target."""
    return settings(
        max_examples=examples * FACTOR,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- damage ---

# Numbers that length fields and counters go wrong with.
_ODD_NUMBERS = [
    struct.pack(form, number)
    for form, numbers in {
        "<B": (0, 1, 0x7F, 0x80, 0xFF),
        "<H": (0, 0xFFFF, 0x8000),
        "<I": (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF),
        "<Q": (0, 1, 1 << 63, (1 << 64) - 1),
    }.items()
    for number in numbers
]


@st.composite
def damaged(draw: st.DrawFn, base: bytes) -> bytes:
    """`base` with one to four changes: bits, odd numbers, pieces cut, moved, doubled, zeroed, inserted."""
    data = bytearray(base)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(_DAMAGES))
        start = draw(st.integers(0, len(data)))
        size = draw(st.sampled_from((1, 1, 2, 4, 8, 64, 512, 4096)))
        if kind == "flip" and start < len(data):
            data[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            number = draw(st.sampled_from(_ODD_NUMBERS))
            data[start : start + len(number)] = number
        elif kind == "cut":
            del data[start : start + size]
        elif kind == "truncate":
            del data[start:]
        elif kind == "zero":
            end = min(len(data), start + size)
            data[start:end] = bytes(end - start)
        elif kind == "double":
            data[start:start] = data[start : start + size]
        elif kind == "move":
            piece = data[start : start + size]
            target = draw(st.integers(0, len(data)))
            data[target : target + len(piece)] = piece
        elif kind == "insert":
            data[start:start] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


_DAMAGES = ("flip", "flip", "number", "cut", "truncate", "zero", "double", "move", "insert")

# --- protobuf ---

_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    # Open enums: numbers that no version knows are valid on the wire.
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_DEPTH_MAX = 4


def messages(kind: type[Message], **usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Message]:
    """Any valid message of this class. `usual`: for fields of these names, wherever they stand, mostly these
    values instead of arbitrary ones, so that some messages get past the first check."""
    return _fields(kind.DESCRIPTOR, usual, 0).map(lambda fields: kind(**fields))


def _fields(
    descriptor: Descriptor, usual: dict[str, st.SearchStrategy[Any]], depth: int
) -> st.SearchStrategy[dict[str, Any]]:
    optional: dict[str, st.SearchStrategy[Any]] = {}
    often: dict[str, st.SearchStrategy[Any]] = {}
    chosen: dict[str, list[str]] = {}
    for field in descriptor.fields:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and depth >= _DEPTH_MAX:
            continue
        one = _value(field, usual, depth)
        # A name may stand for a message elsewhere (`keys` of a range): that is drawn field by field.
        if field.name in usual and field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
            often[field.name] = st.one_of(usual[field.name], usual[field.name], one)
        else:
            optional[field.name] = one
        if field.containing_oneof is not None:
            chosen.setdefault(field.containing_oneof.name, []).append(field.name)

    def with_one_of_each(fields: dict[str, Any], drawn: int) -> dict[str, Any]:
        """Of each oneof at most one field can be given."""
        for names in chosen.values():
            present = [name for name in names if name in fields]
            for name in present:
                if name != present[drawn % len(present)]:
                    del fields[name]
        return fields

    def with_some(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({**often, **{name: optional[name] for name in names}})

    # Few at a time: every arbitrary field is one more reason to refuse the message at once.
    few = st.lists(st.sampled_from(sorted(optional)), max_size=3, unique=True) if optional else st.just([])
    return st.builds(with_one_of_each, few.flatmap(with_some), st.integers(0, 7))


def _value(
    field: FieldDescriptor, usual: dict[str, st.SearchStrategy[Any]], depth: int
) -> st.SearchStrategy[Any]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        if field.message_type.GetOptions().map_entry:
            return st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2)
        # A function: message types may contain themselves.
        one: st.SearchStrategy[Any] = st.deferred(lambda: _fields(field.message_type, usual, depth + 1))
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            one = st.binary(max_size=12)
        else:
            one = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        one = st.booleans()
    elif field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        one = st.floats(width=32)
    else:
        low, high = _NUMBERS[field.cpp_type]
        one = st.one_of(st.integers(0, 4), st.sampled_from((low, high)), st.integers(low, high))
    return st.lists(one, max_size=3) if field.is_repeated else one
