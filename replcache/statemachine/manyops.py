"""Operations on many keys: delete a range, record accesses, evict."""

from typing import TYPE_CHECKING, Final

from replcache.constants import DELETE_RANGE_KEYS_MAX
from replcache.statemachine.commands import Accessed, DeleteRange, Evict
from replcache.statemachine.entries import slide
from replcache.statemachine.events import Event, EventKind
from replcache.statemachine.results import CountResult, Refusal, RefusalCode
from replcache.statemachine.writers import Writer

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine

# Keys that one DeleteRange looks at: about 5 ms.
DELETE_RANGE_EXAMINED_MAX: Final = 20_000


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys with `prefix`; b"": there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""


def apply_delete_range(machine: "StateMachine", writer: Writer, op: DeleteRange) -> CountResult | Refusal:
    """Deletes start <= key < end in byte order, under one revision; `more`: there may be more, send it
    again."""
    if op.fence is not None and (refusal := machine.locks.check_fence(op.fence)) is not None:
        return refusal
    refusal = machine.guards.check_range(op.start, op.end, op.fence)
    if refusal is not None:
        return refusal
    limit = min(op.limit or DELETE_RANGE_KEYS_MAX, DELETE_RANGE_KEYS_MAX)
    count = 0
    for examined, key in enumerate(writer.keys_from(op.start)):
        if op.end and key >= op.end:
            break
        if count >= limit or examined >= DELETE_RANGE_EXAMINED_MAX:
            return CountResult(count, writer.settled_revision, True)
        if writer.peek(key) is not None:
            writer.remove(key)
            count += 1
    return CountResult(count, writer.settled_revision, False)


def apply_accessed(machine: "StateMachine", op: Accessed) -> CountResult:
    """Starts sliding expiries anew. No revision and no events: nothing that a reader sees has changed."""
    store, clock_ms = machine.store, machine.clock_ms
    count = 0
    for key in op.keys:
        row = store.peek(key)
        if row is not None and row[4] is not None:
            meta = slide(row[4], clock_ms)
            if meta is not None and meta[1] > row[4][1]:
                store.put(key, (row[0], row[1], row[2], row[3], meta))
                count += 1
    return CountResult(count, machine.revision)


def apply_evict(machine: "StateMachine", op: Evict) -> CountResult | Refusal:
    """Removes victims; one that was written since it was chosen stays."""
    if op.mod_revisions and len(op.mod_revisions) != len(op.keys):
        return Refusal(RefusalCode.INVALID, "evict: as many mod_revisions as keys are needed, or none")
    store, turn = machine.store, machine.turn
    count = 0
    for number, key in enumerate(op.keys):
        row = store.peek(key)
        if row is None or (op.mod_revisions and op.mod_revisions[number] != row[2]):
            continue
        store.remove(key)
        turn.events.append(Event(turn.next_revision(), EventKind.EVICT, key, None, row))
        count += 1
    store.evicted_totals[op.reason] = store.evicted_totals.get(op.reason, 0) + count
    return CountResult(count, machine.revision)
