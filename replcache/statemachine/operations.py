"""The table of operations: which function executes which kind.

A new kind is a class in commands.py, a filler and a decoder in codec_ops.py, a function, and one line here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from replcache.statemachine import keyops, manyops, settings, txns, updates
from replcache.statemachine.commands import (
    Accessed,
    Delete,
    DeleteRange,
    Evict,
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
from replcache.statemachine.results import OpResult
from replcache.statemachine.writers import Writer

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine


def keys_of(op: Op) -> tuple[bytes, ...]:
    """The keys that an operation names."""
    key = getattr(op, "key", None)
    return () if key is None else (key,)


# Operations on keys: also in atomic batches. The functions are typed by their own op; the table can't be.
_KeyOperation = Callable[["StateMachine", Writer, Any], OpResult]
KEY_OPERATIONS: Final[dict[type, _KeyOperation]] = {
    Set: keyops.apply_set,
    Update: updates.apply_update,
    Delete: keyops.apply_delete,
    Touch: keyops.apply_touch,
    Increment: updates.apply_increment,
    Get: keyops.apply_get,
    InvalidateTags: keyops.apply_invalidate_tags,
    DeleteRange: manyops.apply_delete_range,
}
# The others stand for themselves.
_OtherOperation = Callable[["StateMachine", Any], OpResult]
OTHER_OPERATIONS: Final[dict[type, _OtherOperation]] = {
    LockAcquire: lambda machine, op: machine.locks.acquire(op),
    LockRenew: lambda machine, op: machine.locks.renew(op),
    LockNote: lambda machine, op: machine.locks.set_note(op),
    LockRelease: lambda machine, op: machine.locks.release(op),
    Accessed: manyops.apply_accessed,
    Evict: manyops.apply_evict,
    Txn: txns.apply_txn,
    GuardSet: settings.apply_guard_set,
    GuardRemove: settings.apply_guard_remove,
    NamespaceSet: settings.apply_namespace_set,
    NamespaceRemove: settings.apply_namespace_remove,
    LeaseGrant: lambda machine, op: machine.leases.grant(op.ttl_ms),
    LeaseKeep: lambda machine, op: machine.leases.keep(op.lease_id),
    LeaseRevoke: lambda machine, op: machine.revoke_lease(op.lease_id),
    SessionOpen: lambda machine, op: machine.replies.open(op.ttl_ms, op.secret_id),
    SessionKeep: lambda machine, op: machine.replies.keep(op.session_id),
    SessionClose: lambda machine, op: machine.replies.close(op.session_id),
}
