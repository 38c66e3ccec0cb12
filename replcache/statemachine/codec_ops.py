"""Operations to protobuf and back, for codec.py.

Fillers write into a message that lies in its parent already, and only what differs from the default: that is
half the time of building messages with keywords and copying them. One filler, one decoder and one line in
each of the two tables for each kind of operation.
"""

from collections.abc import Callable
from typing import Any, Final

from replcache.pb.internal import log_pb2 as pb
from replcache.statemachine.commands import (
    Accessed,
    Compare,
    Condition,
    Delete,
    DeleteRange,
    Evict,
    Fence,
    Get,
    GuardRemove,
    GuardSet,
    Increment,
    InvalidateTags,
    LeaseGrant,
    LeaseKeep,
    LeaseRevoke,
    LockAcquire,
    LockNote,
    LockRelease,
    LockRenew,
    NamespaceRemove,
    NamespaceSet,
    Op,
    SessionClose,
    SessionKeep,
    SessionOpen,
    Set,
    Touch,
    Txn,
    Update,
)
from replcache.statemachine.invariants import UnknownFormat

# --- parts ---


def _fill_condition(condition: Condition | None, message: pb.Condition) -> None:
    """`message` is the field itself: reading it from its parent does not set it."""
    if condition is None:
        return
    message.SetInParent()
    if condition.if_absent:
        message.if_absent = True
    if condition.if_present:
        message.if_present = True
    if condition.if_version is not None:
        message.if_version = condition.if_version
    if condition.if_value is not None:
        message.if_value = condition.if_value
    if condition.if_mod_revision is not None:
        message.if_mod_revision = condition.if_mod_revision


def _condition(message: Any) -> Condition | None:
    if not message.HasField("condition"):
        return None
    found = message.condition
    return Condition(
        found.if_absent,
        found.if_present,
        found.if_version if found.HasField("if_version") else None,
        found.if_value if found.HasField("if_value") else None,
        found.if_mod_revision if found.HasField("if_mod_revision") else None,
    )


def _fill_fence(fence: Fence | None, message: pb.Fence) -> None:
    if fence is not None:
        message.SetInParent()
        message.name = fence.name
        message.token = fence.token


def _fence(message: Any) -> Fence | None:
    return Fence(message.fence.name, message.fence.token) if message.HasField("fence") else None


def _optional(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


# --- keys ---


def _fill_set(op: Set, m: pb.Set) -> None:
    m.key = op.key
    m.value = op.value
    if op.content_type:
        m.content_type = op.content_type
    if op.ttl_ms:
        m.ttl_ms = op.ttl_ms
    if op.idle_ttl_ms:
        m.idle_ttl_ms = op.idle_ttl_ms
    if op.max_reads:
        m.max_reads = op.max_reads
    if op.tags:
        m.tags.extend(op.tags)
    if op.lease_id:
        m.lease_id = op.lease_id
    if op.keep_ttl:
        m.keep_ttl = True
    if op.condition is not None:
        _fill_condition(op.condition, m.condition)
    if op.fence is not None:
        _fill_fence(op.fence, m.fence)
    if op.want_previous:
        m.want_previous = True


def _decode_set(op: pb.Op) -> Set:
    m = op.set
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


_CHANGES: Final = ("replace", "append", "add_integer", "add_decimal", "merge_json")


def _fill_update(op: Update, m: pb.Update) -> None:
    given = [name for name in _CHANGES if getattr(op, name) is not None]
    if len(given) != 1:
        raise ValueError(f"update: exactly one change is needed, got {given}")
    m.key = op.key
    setattr(m, given[0], getattr(op, given[0]))
    m.content_type = op.content_type
    if op.ttl_ms is not None:
        m.ttl_ms = op.ttl_ms
    _fill_condition(op.condition, m.condition)
    _fill_fence(op.fence, m.fence)


def _decode_update(op: pb.Op) -> Update:
    m = op.update
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


def _fill_delete(op: Delete, m: pb.Delete) -> None:
    m.key = op.key
    _fill_condition(op.condition, m.condition)
    _fill_fence(op.fence, m.fence)
    m.want_previous = op.want_previous


def _decode_delete(op: pb.Op) -> Delete:
    m = op.delete
    return Delete(m.key, _condition(m), _fence(m), m.want_previous)


def _fill_touch(op: Touch, m: pb.Touch) -> None:
    m.key = op.key
    m.ttl_ms = op.ttl_ms
    m.idle_ttl_ms = op.idle_ttl_ms
    _fill_condition(op.condition, m.condition)
    _fill_fence(op.fence, m.fence)


def _decode_touch(op: pb.Op) -> Touch:
    m = op.touch
    return Touch(m.key, m.ttl_ms, m.idle_ttl_ms, _condition(m), _fence(m))


def _fill_increment(op: Increment, m: pb.Increment) -> None:
    m.key = op.key
    m.delta = op.delta
    if op.initial:
        m.initial = op.initial
    if op.ttl_ms:
        m.ttl_ms = op.ttl_ms
    _fill_fence(op.fence, m.fence)
    if op.minimum is not None:
        m.minimum = op.minimum
    if op.maximum is not None:
        m.maximum = op.maximum


def _decode_increment(op: pb.Op) -> Increment:
    m = op.increment
    return Increment(
        m.key, m.delta, m.initial, m.ttl_ms, _fence(m), _optional(m, "minimum"), _optional(m, "maximum")
    )


def _fill_get(op: Get, m: pb.Get) -> None:
    m.key = op.key


def _fill_invalidate_tags(op: InvalidateTags, m: pb.InvalidateTags) -> None:
    m.tags.extend(op.tags)


# --- locks ---


def _fill_lock_acquire(op: LockAcquire, m: pb.LockAcquire) -> None:
    m.name = op.name
    m.owner = op.owner
    m.ttl_ms = op.ttl_ms
    m.wait_ms = op.wait_ms
    m.shared = op.shared
    m.permits = op.permits
    m.note = op.note
    m.attempt = op.attempt
    m.lease_id = op.lease_id


def _decode_lock_acquire(op: pb.Op) -> LockAcquire:
    m = op.lock_acquire
    return LockAcquire(
        m.name, m.owner, m.ttl_ms, m.wait_ms, m.shared, m.permits, m.note, m.attempt, m.lease_id
    )


def _fill_lock_renew(op: LockRenew, m: pb.LockRenew) -> None:
    m.name = op.name
    m.owner = op.owner
    m.token = op.token
    m.ttl_ms = op.ttl_ms


def _decode_lock_renew(op: pb.Op) -> LockRenew:
    m = op.lock_renew
    return LockRenew(m.name, m.owner, m.token, m.ttl_ms)


def _fill_lock_release(op: LockRelease, m: pb.LockRelease) -> None:
    m.name = op.name
    m.owner = op.owner
    m.token = op.token
    m.attempt = op.attempt


def _decode_lock_release(op: pb.Op) -> LockRelease:
    m = op.lock_release
    return LockRelease(m.name, m.owner, m.token, m.attempt)


def _fill_lock_note(op: LockNote, m: pb.LockNote) -> None:
    m.name = op.name
    m.owner = op.owner
    m.token = op.token
    m.note = op.note


def _decode_lock_note(op: pb.Op) -> LockNote:
    m = op.lock_note
    return LockNote(m.name, m.owner, m.token, m.note)


# --- leases ---


def _fill_lease_grant(op: LeaseGrant, m: pb.LeaseGrant) -> None:
    m.ttl_ms = op.ttl_ms


def _fill_lease_keep(op: LeaseKeep, m: pb.LeaseKeep) -> None:
    m.lease_id = op.lease_id


def _fill_lease_revoke(op: LeaseRevoke, m: pb.LeaseRevoke) -> None:
    m.lease_id = op.lease_id


# --- many keys ---


def _fill_delete_range(op: DeleteRange, m: pb.DeleteRange) -> None:
    m.start = op.start
    m.end = op.end
    m.limit = op.limit
    _fill_fence(op.fence, m.fence)


def _decode_delete_range(op: pb.Op) -> DeleteRange:
    m = op.delete_range
    return DeleteRange(m.start, m.end, m.limit, _fence(m))


def _fill_accessed(op: Accessed, m: pb.Accessed) -> None:
    m.keys.extend(op.keys)


def _fill_evict(op: Evict, m: pb.Evict) -> None:
    m.keys.extend(op.keys)
    m.mod_revisions.extend(op.mod_revisions)
    m.reason = op.reason


def _decode_evict(op: pb.Op) -> Evict:
    m = op.evict
    return Evict(tuple(m.keys), tuple(m.mod_revisions), m.reason)


# --- transactions ---


def fill_op(message: pb.Op, op: Op) -> None:
    """Writes any operation into an empty message."""
    name, fill = FILLERS[type(op)]
    part = getattr(message, name)
    # An operation of defaults only would leave no trace otherwise.
    part.SetInParent()
    fill(op, part)


def decode_op(message: pb.Op) -> Op:
    decode = DECODERS.get(message.WhichOneof("kind"))
    if decode is None:
        raise UnknownFormat("an operation of a kind that this version does not know")
    return decode(message)


def _fill_txn(op: Txn, m: pb.Txn) -> None:
    for compare in op.compares:
        part = m.compares.add()
        part.key = compare.key
        _fill_condition(compare.condition, part.condition)
    for fence in op.held:
        _fill_fence(fence, m.held.add())
    for one in op.then_ops:
        fill_op(m.then_ops.add(), one)
    for one in op.else_ops:
        fill_op(m.else_ops.add(), one)


def _decode_txn(op: pb.Op) -> Txn:
    m = op.txn
    return Txn(
        tuple([Compare(part.key, _condition(part) or Condition()) for part in m.compares]),
        tuple([Fence(part.name, part.token) for part in m.held]),
        tuple([decode_op(part) for part in m.then_ops]),
        tuple([decode_op(part) for part in m.else_ops]),
    )


# --- settings ---


def _fill_guard_set(op: GuardSet, m: pb.GuardSet) -> None:
    m.prefix = op.prefix
    m.lock = op.lock


def _fill_guard_remove(op: GuardRemove, m: pb.GuardRemove) -> None:
    m.prefix = op.prefix


def _fill_namespace_set(op: NamespaceSet, m: pb.NamespaceSet) -> None:
    m.name = op.name
    m.prefix = op.prefix
    m.max_bytes = op.max_bytes
    m.policy = op.policy


def _decode_namespace_set(op: pb.Op) -> NamespaceSet:
    m = op.namespace_set
    return NamespaceSet(m.name, m.prefix, m.max_bytes, m.policy)


def _fill_namespace_remove(op: NamespaceRemove, m: pb.NamespaceRemove) -> None:
    m.name = op.name


# --- sessions ---


def _fill_session_open(op: SessionOpen, m: pb.SessionOpen) -> None:
    m.ttl_ms = op.ttl_ms
    if op.secret_id:
        m.secret_id = op.secret_id


def _fill_session_keep(op: SessionKeep, m: pb.SessionKeep) -> None:
    m.session_id = op.session_id


def _fill_session_close(op: SessionClose, m: pb.SessionClose) -> None:
    m.session_id = op.session_id


# Class -> (field of pb.Op, filler).
FILLERS: Final[dict[type, tuple[str, Callable[[Any, Any], None]]]] = {
    Set: ("set", _fill_set),
    Update: ("update", _fill_update),
    Delete: ("delete", _fill_delete),
    Touch: ("touch", _fill_touch),
    Increment: ("increment", _fill_increment),
    Get: ("get", _fill_get),
    LockAcquire: ("lock_acquire", _fill_lock_acquire),
    LockRenew: ("lock_renew", _fill_lock_renew),
    LockRelease: ("lock_release", _fill_lock_release),
    SessionOpen: ("session_open", _fill_session_open),
    SessionKeep: ("session_keep", _fill_session_keep),
    SessionClose: ("session_close", _fill_session_close),
    InvalidateTags: ("invalidate_tags", _fill_invalidate_tags),
    LockNote: ("lock_note", _fill_lock_note),
    LeaseGrant: ("lease_grant", _fill_lease_grant),
    LeaseKeep: ("lease_keep", _fill_lease_keep),
    LeaseRevoke: ("lease_revoke", _fill_lease_revoke),
    DeleteRange: ("delete_range", _fill_delete_range),
    Accessed: ("accessed", _fill_accessed),
    Evict: ("evict", _fill_evict),
    Txn: ("txn", _fill_txn),
    GuardSet: ("guard_set", _fill_guard_set),
    GuardRemove: ("guard_remove", _fill_guard_remove),
    NamespaceSet: ("namespace_set", _fill_namespace_set),
    NamespaceRemove: ("namespace_remove", _fill_namespace_remove),
}
# Field of pb.Op -> decoder.
DECODERS: Final[dict[str | None, Callable[[pb.Op], Op]]] = {
    "set": _decode_set,
    "update": _decode_update,
    "delete": _decode_delete,
    "touch": _decode_touch,
    "increment": _decode_increment,
    "get": lambda op: Get(op.get.key),
    "lock_acquire": _decode_lock_acquire,
    "lock_renew": _decode_lock_renew,
    "lock_release": _decode_lock_release,
    "session_open": lambda op: SessionOpen(op.session_open.ttl_ms, op.session_open.secret_id),
    "session_keep": lambda op: SessionKeep(op.session_keep.session_id),
    "session_close": lambda op: SessionClose(op.session_close.session_id),
    "invalidate_tags": lambda op: InvalidateTags(tuple(op.invalidate_tags.tags)),
    "lock_note": _decode_lock_note,
    "lease_grant": lambda op: LeaseGrant(op.lease_grant.ttl_ms),
    "lease_keep": lambda op: LeaseKeep(op.lease_keep.lease_id),
    "lease_revoke": lambda op: LeaseRevoke(op.lease_revoke.lease_id),
    "delete_range": _decode_delete_range,
    "accessed": lambda op: Accessed(tuple(op.accessed.keys)),
    "evict": _decode_evict,
    "txn": _decode_txn,
    "guard_set": lambda op: GuardSet(op.guard_set.prefix, op.guard_set.lock),
    "guard_remove": lambda op: GuardRemove(op.guard_remove.prefix),
    "namespace_set": _decode_namespace_set,
    "namespace_remove": lambda op: NamespaceRemove(op.namespace_remove.name),
}
