"""Commands to bytes and back: the payload of log entries (proto/replcache/internal/log.proto).

The only module of the state machine that knows protobuf. decode(encode(x)) == x for everything here.

A group states the lowest `format` that understands it; an op or format that this version does not know raises
UnknownFormat, which halts the node: skipping it would make this replica differ from the others.
"""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from replcache.pb.internal import log_pb2 as pb
from replcache.statemachine.commands import (
    Command,
    Condition,
    Delete,
    Fence,
    Get,
    Group,
    Increment,
    LockAcquire,
    LockRelease,
    LockRenew,
    Op,
    SessionClose,
    SessionKeep,
    SessionOpen,
    Set,
    SetMany,
    Touch,
    Update,
)
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat

ENTRY_VERSION: Final = 1
# Raised with each addition that older versions would not see (a field) or not know (an op); a group carries
# the lowest format that has all it uses.
GROUP_FORMAT: Final = 1


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
        format=GROUP_FORMAT,
        commands=[_encode_command(command) for command in group.commands],
    ).SerializeToString()


def decode_group(data: bytes) -> Group:
    """Raises UnknownFormat, or InvariantBroken for bytes that encode_group never made."""
    try:
        group = pb.Group.FromString(data)
    except DecodeError as error:
        raise InvariantBroken(f"a group of {len(data)} bytes is malformed: {error}") from error
    if group.format != GROUP_FORMAT:
        raise UnknownFormat(f"group of format {group.format}; this node knows {GROUP_FORMAT}")
    return Group(
        group.origin,
        group.boot,
        group.sequence,
        group.done_below,
        tuple([_decode_command(command) for command in group.commands]),
    )


def _encode_command(command: Command) -> pb.Command:
    message = pb.Command(
        session_id=command.session_id,
        session_sequence=command.session_sequence,
        session_acked_below=command.session_acked_below,
        request_id=command.request_id,
        atomic=command.atomic,
    )
    columns = command.set_many
    if columns is not None:
        if len(columns.keys) != len(columns.values):
            raise ValueError(f"set_many: {len(columns.keys)} keys, {len(columns.values)} values")
        message.set_many.keys.extend(columns.keys)
        message.set_many.values.extend(columns.values)
        message.set_many.content_type = columns.content_type
        message.set_many.ttl_ms = columns.ttl_ms
    for op in command.ops:
        name, encode = _ENCODERS[type(op)]
        getattr(message.ops.add(), name).CopyFrom(encode(op))
    return message


def _decode_command(message: pb.Command) -> Command:
    columns = None
    if message.HasField("set_many"):
        many = message.set_many
        columns = SetMany(list(many.keys), list(many.values), many.content_type, many.ttl_ms)
        if len(columns.keys) != len(columns.values):
            raise InvariantBroken(f"set_many: {len(columns.keys)} keys, {len(columns.values)} values")
    return Command(
        tuple([_decode_op(op) for op in message.ops]),
        columns,
        message.atomic,
        message.session_id,
        message.session_sequence,
        message.session_acked_below,
        message.request_id,
    )


def _decode_op(message: pb.Op) -> Op:
    name = message.WhichOneof("kind")
    if name is None:
        raise UnknownFormat("an operation of a kind that this version does not know")
    return _DECODERS[name](getattr(message, name))


# --- operations ---


def _encode_condition(condition: Condition | None) -> pb.Condition | None:
    if condition is None:
        return None
    return pb.Condition(
        if_absent=condition.if_absent,
        if_present=condition.if_present,
        if_version=condition.if_version,
        if_value=condition.if_value,
    )


def _condition(message: Any) -> Condition | None:
    if not message.HasField("condition"):
        return None
    found = message.condition
    return Condition(
        found.if_absent,
        found.if_present,
        found.if_version if found.HasField("if_version") else None,
        found.if_value if found.HasField("if_value") else None,
    )


def _encode_fence(fence: Fence | None) -> pb.Fence | None:
    return None if fence is None else pb.Fence(name=fence.name, token=fence.token)


def _fence(message: Any) -> Fence | None:
    return Fence(message.fence.name, message.fence.token) if message.HasField("fence") else None


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _encode_set(op: Set) -> pb.Set:
    return pb.Set(
        key=op.key,
        value=op.value,
        content_type=op.content_type,
        ttl_ms=op.ttl_ms,
        idle_ttl_ms=op.idle_ttl_ms,
        max_reads=op.max_reads,
        tags=op.tags,
        lease_id=op.lease_id,
        keep_ttl=op.keep_ttl,
        condition=_encode_condition(op.condition),
        fence=_encode_fence(op.fence),
        want_previous=op.want_previous,
    )


def _decode_set(m: pb.Set) -> Set:
    return Set(
        m.key,
        m.value,
        m.content_type,
        m.ttl_ms,
        m.idle_ttl_ms,
        m.max_reads,
        tuple(m.tags),
        m.lease_id,
        m.keep_ttl,
        _condition(m),
        _fence(m),
        m.want_previous,
    )


def _encode_update(op: Update) -> pb.Update:
    changes = {
        "replace": op.replace,
        "append": op.append,
        "add_integer": op.add_integer,
        "add_decimal": op.add_decimal,
        "merge_json": op.merge_json,
    }
    given: dict[str, Any] = {name: change for name, change in changes.items() if change is not None}
    if len(given) != 1:
        raise ValueError(f"update: exactly one change is needed, got {sorted(given)}")
    return pb.Update(
        key=op.key,
        content_type=op.content_type,
        ttl_ms=op.ttl_ms,
        condition=_encode_condition(op.condition),
        fence=_encode_fence(op.fence),
        **given,
    )


def _decode_update(m: pb.Update) -> Update:
    change = m.WhichOneof("change")
    if change is None:
        raise UnknownFormat("an update of a kind that this version does not know")
    given: dict[str, Any] = {change: getattr(m, change)}
    return Update(
        m.key,
        content_type=m.content_type,
        ttl_ms=_optional(m, "ttl_ms"),
        condition=_condition(m),
        fence=_fence(m),
        **given,
    )


def _encode_delete(op: Delete) -> pb.Delete:
    return pb.Delete(
        key=op.key,
        condition=_encode_condition(op.condition),
        fence=_encode_fence(op.fence),
        want_previous=op.want_previous,
    )


def _decode_delete(m: pb.Delete) -> Delete:
    return Delete(m.key, _condition(m), _fence(m), m.want_previous)


def _encode_touch(op: Touch) -> pb.Touch:
    return pb.Touch(
        key=op.key,
        ttl_ms=op.ttl_ms,
        idle_ttl_ms=op.idle_ttl_ms,
        condition=_encode_condition(op.condition),
        fence=_encode_fence(op.fence),
    )


def _decode_touch(m: pb.Touch) -> Touch:
    return Touch(m.key, m.ttl_ms, m.idle_ttl_ms, _condition(m), _fence(m))


def _encode_increment(op: Increment) -> pb.Increment:
    return pb.Increment(
        key=op.key,
        delta=op.delta,
        initial=op.initial,
        ttl_ms=op.ttl_ms,
        fence=_encode_fence(op.fence),
        minimum=op.minimum,
        maximum=op.maximum,
    )


def _decode_increment(m: pb.Increment) -> Increment:
    return Increment(
        m.key, m.delta, m.initial, m.ttl_ms, _fence(m), _optional(m, "minimum"), _optional(m, "maximum")
    )


def _encode_lock_acquire(op: LockAcquire) -> pb.LockAcquire:
    return pb.LockAcquire(
        name=op.name,
        owner=op.owner,
        ttl_ms=op.ttl_ms,
        wait_ms=op.wait_ms,
        shared=op.shared,
        permits=op.permits,
        note=op.note,
        attempt=op.attempt,
    )


def _decode_lock_acquire(m: pb.LockAcquire) -> LockAcquire:
    return LockAcquire(m.name, m.owner, m.ttl_ms, m.wait_ms, m.shared, m.permits, m.note, m.attempt)


_Encoder = Callable[[Any], Any]
_ENCODERS: Final[dict[type, tuple[str, _Encoder]]] = {
    Set: ("set", _encode_set),
    Update: ("update", _encode_update),
    Delete: ("delete", _encode_delete),
    Touch: ("touch", _encode_touch),
    Increment: ("increment", _encode_increment),
    Get: ("get", lambda op: pb.Get(key=op.key)),
    LockAcquire: ("lock_acquire", _encode_lock_acquire),
    LockRenew: (
        "lock_renew",
        lambda op: pb.LockRenew(name=op.name, owner=op.owner, token=op.token, ttl_ms=op.ttl_ms),
    ),
    LockRelease: (
        "lock_release",
        lambda op: pb.LockRelease(name=op.name, owner=op.owner, token=op.token, attempt=op.attempt),
    ),
    SessionOpen: ("session_open", lambda op: pb.SessionOpen(ttl_ms=op.ttl_ms)),
    SessionKeep: ("session_keep", lambda op: pb.SessionKeep(session_id=op.session_id)),
    SessionClose: ("session_close", lambda op: pb.SessionClose(session_id=op.session_id)),
}
_DECODERS: Final[dict[str, Callable[[Any], Op]]] = {
    "set": _decode_set,
    "update": _decode_update,
    "delete": _decode_delete,
    "touch": _decode_touch,
    "increment": _decode_increment,
    "get": lambda m: Get(m.key),
    "lock_acquire": _decode_lock_acquire,
    "lock_renew": lambda m: LockRenew(m.name, m.owner, m.token, m.ttl_ms),
    "lock_release": lambda m: LockRelease(m.name, m.owner, m.token, m.attempt),
    "session_open": lambda m: SessionOpen(m.ttl_ms),
    "session_keep": lambda m: SessionKeep(m.session_id),
    "session_close": lambda m: SessionClose(m.session_id),
}
