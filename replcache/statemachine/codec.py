"""Commands to bytes and back: the payload of log entries (proto/replcache/internal/log.proto).

Only this module and codec_ops.py (the operations) know protobuf. decode(encode(x)) == x for everything here.

A group states the lowest `format` that understands it; an op or format that this version does not know raises
UnknownFormat, which halts the node: skipping it would make this replica differ from the others.
"""

from typing import Final

from google.protobuf.message import DecodeError

from replcache.pb.internal import log_pb2 as pb
from replcache.statemachine.codec_ops import decode_op, fill_op
from replcache.statemachine.commands import Command, Group, SessionOpen, SetMany
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat

ENTRY_VERSION: Final = 1
# Raised with each addition that older versions would not see (a field) or not know (an op); a group carries
# the lowest format that has all it uses.
GROUP_FORMAT: Final = 2


# --- entries ---


def encode_entry(clock_ms: int, groups: list[bytes]) -> bytes:
    """Payload of a log entry out of encoded groups; no groups: a tick of the clock."""
    return pb.LogEntry(version=ENTRY_VERSION, clock_ms=clock_ms, groups=groups).SerializeToString()


def decode_entry(payload: bytes) -> tuple[int, list[bytes]]:
    """(clock_ms, encoded groups). Raises UnknownFormat or InvariantBroken."""
    try:
        entry = pb.LogEntry.FromString(payload)
    except DecodeError as error:
        raise InvariantBroken(f"a committed entry of {len(payload)} bytes is malformed: {error}") from error
    if entry.version != ENTRY_VERSION:
        raise UnknownFormat(f"log entry of version {entry.version}; this node knows {ENTRY_VERSION}")
    return entry.clock_ms, list(entry.groups)


# --- groups ---


def encode_group(group: Group) -> bytes:
    """Raises ValueError when a number does not fit its field."""
    return pb.Group(
        origin=group.origin,
        boot=group.boot,
        sequence=group.sequence,
        done_below=group.done_below,
        format=_format_of(group),
        commands=[_encode_command(command) for command in group.commands],
    ).SerializeToString()


def _format_of(group: Group) -> int:
    """The lowest that has all that the group uses: older nodes read what they know, and halt at the rest."""
    for command in group.commands:
        for op in command.ops:
            if type(op) is SessionOpen and op.secret_id:
                return 2
    return 1


def decode_group(data: bytes) -> Group:
    """Raises UnknownFormat, or InvariantBroken for bytes that encode_group never made."""
    try:
        group = pb.Group.FromString(data)
    except DecodeError as error:
        raise InvariantBroken(f"a group of {len(data)} bytes is malformed: {error}") from error
    if not 1 <= group.format <= GROUP_FORMAT:
        raise UnknownFormat(f"group of format {group.format}; this node knows 1 to {GROUP_FORMAT}")
    return Group(
        group.origin,
        group.boot,
        group.sequence,
        group.done_below,
        tuple([_decode_command(command) for command in group.commands]),
    )


def _encode_command(command: Command) -> pb.Command:
    message = pb.Command()
    if command.session_id:
        message.session_id = command.session_id
    if command.session_sequence:
        message.session_sequence = command.session_sequence
    if command.session_acked_below:
        message.session_acked_below = command.session_acked_below
    if command.request_id:
        message.request_id = command.request_id
    if command.atomic:
        message.atomic = True
    columns = command.set_many
    if columns is not None:
        if len(columns.keys) != len(columns.values):
            raise ValueError(f"set_many: {len(columns.keys)} keys, {len(columns.values)} values")
        message.set_many.keys.extend(columns.keys)
        message.set_many.values.extend(columns.values)
        message.set_many.content_type = columns.content_type
        message.set_many.ttl_ms = columns.ttl_ms
    for op in command.ops:
        fill_op(message.ops.add(), op)
    return message


def _decode_command(message: pb.Command) -> Command:
    columns = None
    if message.HasField("set_many"):
        many = message.set_many
        columns = SetMany(list(many.keys), list(many.values), many.content_type, many.ttl_ms)
        if len(columns.keys) != len(columns.values):
            raise InvariantBroken(f"set_many: {len(columns.keys)} keys, {len(columns.values)} values")
    return Command(
        tuple([decode_op(op) for op in message.ops]),
        columns,
        message.atomic,
        message.session_id,
        message.session_sequence,
        message.session_acked_below,
        message.request_id,
    )
