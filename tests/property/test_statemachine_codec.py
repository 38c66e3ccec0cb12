"""decode(encode(x)) == x for everything that can be in the log, and damage never looks like another
command."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.pb.internal import log_pb2
from replcache.raft.proposals import command_bytes
from replcache.statemachine import codec
from replcache.statemachine.commands import (
    Accessed,
    Command,
    Compare,
    Condition,
    Delete,
    Evict,
    Group,
    Op,
    SessionOpen,
    Set,
    SetMany,
    Txn,
    Update,
)
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat
from tests.property.strategies import groups

LARGE = b"v" * 300_000


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


@given(groups())
def test_no_command_is_larger_than_it_was_counted(group: Group) -> None:
    """A group that outgrows what it was packed for fits into no frame and into no log."""
    for command in group.commands:
        alone = Group(group.origin, group.boot, group.sequence, group.done_below, (command,))
        empty = Group(group.origin, group.boot, group.sequence, group.done_below)
        encoded = len(codec.encode_group(alone)) - len(codec.encode_group(empty))
        assert encoded <= command_bytes(command)


@pytest.mark.parametrize(
    "command",
    [
        Command(ops=(Txn(then_ops=(Set(b"k", LARGE),) * 3, else_ops=(Update(b"k", append=LARGE),)),)),
        Command(ops=(Txn(compares=(Compare(b"k", Condition(if_value=LARGE)),)),)),
        Command(ops=(Delete(b"k", Condition(if_value=LARGE)),)),
        Command(ops=(Accessed((b"x" * 1000,) * 500), Evict((b"x" * 1000,) * 500, (2**63,) * 500))),
        Command(ops=(Set(b"k", b"", tags=("\U0001f600" * 30,) * 60, content_type="x" * 128),)),
        Command(set_many=SetMany([b""] * 4000, [b""] * 4000, "\U0001f600" * 30, 2**60)),
        Command(session_id=2**63, session_sequence=2**63, session_acked_below=2**63, atomic=True),
        Command(request_id=b"x" * 64),
    ],
    ids=lambda command: type(command.ops[0]).__name__ if command.ops else "",
)
def test_long_parts_are_counted(command: Command) -> None:
    size = len(codec.encode_group(Group("n", 1, 1, 0, (command,))))
    assert size <= command_bytes(command) < 5 * size + 500


def test_a_group_says_the_lowest_format_that_has_all_it_uses() -> None:
    def format_of(*ops: Op) -> int:
        encoded = codec.encode_group(Group("n", 1, 1, 0, (Command(ops=(Set(b"k", b""),)), Command(ops=ops))))
        return log_pb2.Group.FromString(encoded).format

    assert format_of(SessionOpen(1000)) == 1
    assert format_of(SessionOpen(1000, 2**52)) == 2
