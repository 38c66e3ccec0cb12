"""Operations on one key: set, delete, touch, get. Each is a function of (machine, writer, op) -> result.

Order of the checks in all of them: fence, then condition, then what the operation itself needs.
"""

from typing import TYPE_CHECKING

from replcache.constants import COMMAND_WORK_REPLY
from replcache.statemachine.commands import Condition, Delete, Fence, Get, InvalidateTags, Set, Touch
from replcache.statemachine.conditions import check_condition
from replcache.statemachine.entries import (
    IDLE,
    META,
    READS,
    Meta,
    Row,
    as_entry,
    as_optional_entry,
    earliest,
    make_meta,
    slide,
    typed_meta,
)
from replcache.statemachine.events import EventKind
from replcache.statemachine.results import (
    CountResult,
    DeleteResult,
    GetResult,
    Refusal,
    RefusalCode,
    SetResult,
    TouchResult,
)
from replcache.statemachine.writers import Writer

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine


def check(
    machine: "StateMachine", key: bytes, fence: Fence | None, condition: Condition | None, row: Row | None
) -> Refusal | None:
    """What every write asks first."""
    if machine.guards.prefixes and (refusal := machine.guards.check(key, fence)) is not None:
        return refusal
    if fence is not None and (refusal := machine.locks.check_fence(fence)) is not None:
        return refusal
    return None if condition is None else check_condition(condition, row)


def spend_reply(machine: "StateMachine", row: Row) -> Refusal | None:
    """For an operation that is about to put the row's value into its result."""
    return machine.turn.spend(len(row[0]) * COMMAND_WORK_REPLY)


def missing(what: str) -> Refusal:
    return Refusal(RefusalCode.NOT_FOUND, f"{what}: there is no such key")


def apply_set(machine: "StateMachine", writer: Writer, op: Set) -> SetResult | Refusal:
    row = writer.get(op.key)
    if op.fence is not None or op.condition is not None or machine.guards.prefixes:
        refusal = check(machine, op.key, op.fence, op.condition, row)
        if refusal is not None:
            return refusal
    if machine.store.namespaces.active:
        refusal = machine.store.check_quota(op.key, len(op.value), row, writer)
        if refusal is not None:
            return refusal
    if op.lease_id and op.lease_id not in machine.leases.leases:
        return Refusal(RefusalCode.NOT_FOUND, f"lease {op.lease_id} does not exist")
    meta = _set_meta(op, row, writer.clock_ms, writer.tag_epoch)
    revision = writer.revision
    if row is None:
        writer.put(op.key, (op.value, revision, revision, 1, meta))
        return SetResult(1, revision, None)
    if op.want_previous and (refusal := spend_reply(machine, row)) is not None:
        return refusal
    version = row[3] + 1
    writer.put(op.key, (op.value, row[1], revision, version, meta))
    return SetResult(version, revision, as_entry(row) if op.want_previous else None)


def _set_meta(op: Set, row: Row | None, clock_ms: int, tag_epoch: int) -> Meta | None:
    rest = (op.max_reads, op.tags, op.lease_id, tag_epoch)
    if not op.keep_ttl or row is None:
        return make_meta(op.content_type, clock_ms, op.ttl_ms, op.idle_ttl_ms, *rest)
    old = row[4]
    if old is None or not old[1]:
        return make_meta(op.content_type, clock_ms, 0, 0, *rest)
    # A write is an access: a sliding expiry starts anew.
    due = earliest(old[2], clock_ms + old[3] if old[3] else 0)
    epoch = tag_epoch if op.tags else 0
    return (op.content_type, due, old[2], old[3], op.max_reads, op.tags, op.lease_id, epoch)


def apply_delete(machine: "StateMachine", writer: Writer, op: Delete) -> DeleteResult | Refusal:
    row = writer.get(op.key)
    refusal = check(machine, op.key, op.fence, op.condition, row)
    if refusal is not None:
        return refusal
    if row is None:
        return DeleteResult(False, writer.settled_revision, None)
    if op.want_previous and (refusal := spend_reply(machine, row)) is not None:
        return refusal
    writer.remove(op.key)
    return DeleteResult(True, writer.revision, as_entry(row) if op.want_previous else None)


def apply_touch(machine: "StateMachine", writer: Writer, op: Touch) -> TouchResult | Refusal:
    """Sets the expiry; value, version and mod_revision stay, the change has a revision all the same."""
    row = writer.get(op.key)
    refusal = check(machine, op.key, op.fence, op.condition, row)
    if refusal is not None:
        return refusal
    if row is None:
        return missing("touch")
    writer.put(
        op.key,
        (row[0], row[1], row[2], row[3], with_expiry(row[4], writer.clock_ms, op.ttl_ms, op.idle_ttl_ms)),
        EventKind.TOUCH,
    )
    return TouchResult(row[3], writer.revision)


def with_expiry(old: Meta | None, clock_ms: int, ttl_ms: int, idle_ttl_ms: int) -> Meta | None:
    """`old` with another expiry."""
    if old is None:
        return make_meta("", clock_ms, ttl_ms, idle_ttl_ms)
    if not (ttl_ms or idle_ttl_ms or old[4] or old[5] or old[6]):
        return typed_meta(old[0])
    hard_due = clock_ms + ttl_ms if ttl_ms else 0
    due = earliest(hard_due, clock_ms + idle_ttl_ms if idle_ttl_ms else 0)
    return (old[0], due, hard_due, idle_ttl_ms, old[4], old[5], old[6], old[7])


def apply_get(machine: "StateMachine", writer: Writer, op: Get) -> GetResult | Refusal:
    """A read in the log: it lengthens a sliding life and uses up a counted read.

    The answer is the entry as it was found: reads_left counts this read too, so 1 means that it was the last.
    """
    row = writer.get(op.key)
    if row is not None and (refusal := spend_reply(machine, row)) is not None:
        return refusal
    if row is not None and (meta := row[META]) is not None and (meta[IDLE] or meta[READS]):
        if meta[READS] == 1:
            writer.remove(op.key, EventKind.EXPIRE)
        else:
            used = read_once(meta, writer.clock_ms)
            writer.put(op.key, (row[0], row[1], row[2], row[3], used), EventKind.TOUCH)
    return GetResult(as_optional_entry(row), writer.settled_revision, writer.clock_ms)


def read_once(meta: Meta, clock_ms: int) -> Meta:
    """The meta after a read at `clock_ms` that was not the last counted one."""
    slid = slide(meta, clock_ms)
    assert slid is not None
    left = max(meta[READS] - 1, 0)
    return (slid[0], slid[1], slid[2], slid[3], left, slid[5], slid[6], slid[7])


def apply_invalidate_tags(machine: "StateMachine", writer: Writer, op: InvalidateTags) -> CountResult:
    count = writer.invalidate_tags(op.tags)
    return CountResult(count, writer.settled_revision)
