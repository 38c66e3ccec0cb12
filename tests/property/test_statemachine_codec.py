"""decode(encode(x)) == x for everything that can be in the log, and damage never looks like another
command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.pb.internal import log_pb2
from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group, SetMany
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat
from tests.property.strategies import groups


@given(groups())
def test_group_round_trip(group: Group) -> None:
    assert codec.decode_group(codec.encode_group(group)) == group


@given(st.integers(0, 2**64 - 1), st.lists(st.binary(max_size=20), max_size=4))
def test_entry_round_trip(clock_ms: int, encoded: list[bytes]) -> None:
    assert codec.decode_entry(codec.encode_entry(clock_ms, encoded)) == (clock_ms, encoded)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused_or_read_never_another_error(data: bytes) -> None:
    for decode in (codec.decode_entry, codec.decode_group):
        try:
            decode(data)
        except (InvariantBroken, UnknownFormat):
            continue


def test_unknown_entry_version_halts() -> None:
    with pytest.raises(UnknownFormat, match="version 99"):
        codec.decode_entry(log_pb2.LogEntry(version=99).SerializeToString())


def test_unknown_group_format_halts() -> None:
    with pytest.raises(UnknownFormat, match="format 99"):
        codec.decode_group(log_pb2.Group(format=99).SerializeToString())


def test_unknown_operation_halts_instead_of_being_skipped() -> None:
    """A later version's op is an unknown field of Op to this one: its oneof looks empty."""
    op = log_pb2.Op.FromString(b"\xfa\x3f\x01x")
    group = log_pb2.Group(format=codec.GROUP_FORMAT, commands=[log_pb2.Command(ops=[op])])
    with pytest.raises(UnknownFormat, match="operation"):
        codec.decode_group(group.SerializeToString())


def test_unequal_columns_are_refused_on_both_ways() -> None:
    command = Command(set_many=SetMany([b"a", b"b"], [b"1"]))
    with pytest.raises(ValueError, match="2 keys, 1 values"):
        codec.encode_group(Group("n", 1, 1, 0, (command,)))
    many = log_pb2.SetMany(keys=[b"a", b"b"], values=[b"1"])
    group = log_pb2.Group(format=codec.GROUP_FORMAT, commands=[log_pb2.Command(set_many=many)])
    with pytest.raises(InvariantBroken, match="2 keys, 1 values"):
        codec.decode_group(group.SerializeToString())


@given(groups())
def test_a_number_that_does_not_fit_is_refused_when_encoding(group: Group) -> None:
    too_large = Group(group.origin, 2**64, group.sequence, 0, group.commands)
    with pytest.raises(ValueError, match="range"):
        codec.encode_group(too_large)
