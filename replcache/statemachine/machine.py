"""The state machine: `apply(index, payload)` in, results and events out. Pure and deterministic.

Rule 1: no clock, no randomness, no I/O, no threads, no logging. Time is a number in the log. Rule 2: same
entries, same state, same results, to the last byte, on every node, in every process. Rule 3: total: every
well-formed committed command has a result; a refusal is a value. What can't be understood raises
UnknownFormat or InvariantBroken, and the node halts.

Life of an entry: the cluster clock moves; what is due goes (locks, entries, sessions); then its groups, each
unless it was applied before; in a group each command, unless its session or request id has the reply
already.

Where things are: one module a feature. operations.py has the table of operations: a new kind is a class in
commands.py, an encoder in codec.py, a function, and one line there.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from replcache.constants import HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX
from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group, Op, SetMany
from replcache.statemachine.entries import Entry, as_entry, as_optional_entry
from replcache.statemachine.events import AnyEvent
from replcache.statemachine.groups import GroupLog
from replcache.statemachine.guards import GuardTable
from replcache.statemachine.history import History
from replcache.statemachine.invariants import InvariantBroken, UnknownFormat, require
from replcache.statemachine.leases import LeaseTable, LeaseView
from replcache.statemachine.locks import LockGlance, LockTable, LockView, PlaceView
from replcache.statemachine.namespaces import NamespaceView
from replcache.statemachine.operations import KEY_OPERATIONS, OTHER_OPERATIONS, keys_of
from replcache.statemachine.results import (
    CommandResult,
    LeaseResult,
    OpResult,
    Refusal,
    RefusalCode,
    SetManyResult,
)
from replcache.statemachine.sessions import Replies
from replcache.statemachine.snapshot import SnapshotView, restore_into
from replcache.statemachine.store import Store
from replcache.statemachine.turn import Turn
from replcache.statemachine.writers import AtomicWriter, DirectWriter

__all__ = ["Applied", "InvariantBroken", "StateMachine", "Statistics", "UnknownFormat"]

# (origin, boot, sequence, results); None: a duplicate, skipped.
GroupResult = tuple[str, int, int, list[CommandResult] | None]


class Applied:
    """What applying one entry did. Events are in revision order; batches are compact (events.expand)."""

    __slots__ = ("events", "group_results", "index")

    def __init__(self, index: int, group_results: list[GroupResult], events: list[AnyEvent]) -> None:
        self.index = index
        self.group_results = group_results
        self.events = events


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of this replica. keys and value_bytes count dead entries that wait for removal; *_total are counted
    since this process started and so differ between nodes."""

    keys: int
    value_bytes: int
    locks: int
    leases: int
    sessions: int
    stored_replies_bytes: int
    request_ids: int
    history_events: int
    history_bytes: int
    oldest_revision: int
    expired_total: int
    evicted_totals: tuple[tuple[str, int], ...]
    snapshots_being_read: int


class StateMachine:
    """See the module's docstring.

    Attributes:
        applied_index: of the last applied log entry.
        chain: running checksum over all entries and the sizes of the state behind each: equal on all nodes at
            equal index, a cheap first look at whether replicas have diverged (`digest` is the full one).
    """

    def __init__(
        self, *, history_events_max: int = HISTORY_EVENTS_MAX, history_bytes_max: int = HISTORY_BYTES_MAX
    ) -> None:
        self.applied_index = 0
        self.chain = 0
        self.turn = Turn()
        self.leases: LeaseTable = LeaseTable(self.turn)
        self.store = Store(self.turn, self.leases)
        self.locks: LockTable = LockTable(self.turn, self.leases)
        self.replies: Replies = Replies(self.turn)
        self.groups = GroupLog()
        self.guards = GuardTable()
        self.history = History(1, history_events_max, history_bytes_max)
        self._direct = DirectWriter(self.store, self.turn)

    @property
    def revision(self) -> int:
        """Of the last change."""
        return self.turn.revision

    @property
    def clock_ms(self) -> int:
        """Cluster clock, milliseconds."""
        return self.turn.clock_ms

    # --- the log ---

    def apply(self, index: int, payload: bytes) -> Applied:
        """Applies one committed entry.

        Args:
            index: its place in the log; above that of the entry before.
            payload: what codec.encode_entry made.
        Raises:
            InvariantBroken, UnknownFormat: this replica can't go on; the state may be half changed.
        """
        require(index > self.applied_index, f"entry {index} after entry {self.applied_index}")
        clock_ms, encoded = codec.decode_entry(payload)
        applied = self._apply(index, clock_ms, [codec.decode_group(data) for data in encoded])
        self.chain = zlib.crc32(
            struct.pack(
                "<5Q", index, self.clock_ms, self.revision, len(self.store.rows), self.store.size_bytes
            ),
            zlib.crc32(payload, self.chain),
        )
        return applied

    def _apply(self, index: int, clock_ms: int, groups: Sequence[Group]) -> Applied:
        turn, store = self.turn, self.store
        turn.events = []
        if store.views or self.locks.views or self.replies.views:
            self._forget_finished_views()
        turn.clock_ms = max(turn.clock_ms, clock_ms)
        self._expire_leases_and_locks()
        store.expire()
        self.replies.expire()
        results: list[GroupResult] = []
        for group in groups:
            answers = None
            if self.groups.take(group.origin, group.boot, group.sequence, group.done_below):
                answers = [self._run_command(command) for command in group.commands]
            results.append((group.origin, group.boot, group.sequence, answers))
        store.clear_graves()
        if store.namespaces.active:
            store.namespaces.backfill(store.rows, store.index)
        self.applied_index = index
        events = turn.events
        if events:
            self.history.extend(events)
        return Applied(index, results, events)

    def _forget_finished_views(self) -> None:
        self.store.views = [view for view in self.store.views if not view.finished]
        self.locks.views = [view for view in self.locks.views if not view.finished]
        self.replies.views = [view for view in self.replies.views if not view.finished]

    def _expire_leases_and_locks(self) -> None:
        places: list[tuple[str, bytes]] = []
        for lease_id, lease in self.leases.expire():
            self.store.end_lease(lease_id, lease.keys)
            # Sorted: a restored node found them in another order.
            places += sorted(lease.places)
        self.locks.expire(places)

    def revoke_lease(self, lease_id: int) -> LeaseResult:
        """The operation LeaseRevoke."""
        if lease_id not in self.leases.leases:
            return LeaseResult(0, False, self.revision, 0)
        lease = self.leases.end(lease_id)
        ended_at = self.revision
        self.store.end_lease(lease_id, lease.keys)
        self.locks.end_places(sorted(lease.places))
        return LeaseResult(lease_id, True, ended_at, 0)

    def _run_command(self, command: Command) -> CommandResult:
        """Executes the command, unless this was done before: then the first reply again."""
        if command.session_id:
            sequence = command.session_sequence
            reply = self.replies.before_session_command(
                command.session_id, sequence, command.session_acked_below
            )
            if reply is None:
                reply = self._execute(command)
                self.replies.keep_session_reply(command.session_id, sequence, reply)
            return reply
        if command.request_id:
            reply = self.replies.before_request(command.request_id)
            if reply is None:
                reply = self._execute(command)
                self.replies.keep_request_reply(command.request_id, reply)
            return reply
        return self._execute(command)

    def _execute(self, command: Command) -> CommandResult:
        columns = command.set_many
        if columns is not None:
            refusal = self._refuse_columns(columns)
            if refusal is not None:
                return refusal
            versions, first = self.store.put_columns(
                columns.keys, columns.values, columns.content_type, columns.ttl_ms, command.atomic
            )
            return SetManyResult(versions, first)
        self.turn.work = 0
        if command.atomic:
            return self.execute_atomic(command.ops)
        return tuple([self._execute_op(op) for op in command.ops])

    def _refuse_columns(self, columns: SetMany) -> Refusal | None:
        if self.guards.prefixes:
            refusal = self.guards.check_columns(columns.keys)
            if refusal is not None:
                return refusal
        if self.store.namespaces.active:
            return self.store.check_quota_columns(columns.keys, columns.values)
        return None

    def _execute_op(self, op: Op) -> OpResult:
        on_keys = KEY_OPERATIONS.get(type(op))
        if on_keys is not None:
            self._direct.begin()
            return on_keys(self, self._direct, op)
        return OTHER_OPERATIONS[type(op)](self, op)

    def execute_atomic(self, ops: Sequence[Op]) -> tuple[OpResult, ...] | Refusal:
        """All or nothing; the first operation that is refused decides."""
        for op in ops:
            if type(op) in KEY_OPERATIONS:
                # The ends of dead entries have revisions of their own, before the batch's.
                for key in keys_of(op):
                    self.store.bury_if_dead(key)
        writer = AtomicWriter(self.store, self.turn)
        results: list[OpResult] = []
        for number, op in enumerate(ops):
            on_keys = KEY_OPERATIONS.get(type(op))
            if on_keys is None:
                message = f"{type(op).__name__} can't be part of an atomic batch"
                result: OpResult = Refusal(RefusalCode.INVALID, message)
            else:
                result = on_keys(self, writer, op)
            if isinstance(result, Refusal):
                message = f"operation {number}: {result.message}"
                return Refusal(RefusalCode.BATCH_ABORTED, message, number, result.code)
            results.append(result)
        writer.commit()
        return tuple(results)

    # --- local reads ---

    def peek(self, key: bytes) -> Entry | None:
        """The living entry; never one that is past its time."""
        return as_optional_entry(self.store.peek(key))

    def peek_many(self, keys: Iterable[bytes]) -> list[Entry | None]:
        """All from the same state."""
        peek = self.store.peek
        return [as_optional_entry(peek(key)) for key in keys]

    def scan(self, prefix: bytes, after: bytes, limit: int) -> tuple[list[tuple[bytes, Entry]], bool]:
        """Living entries with the prefix and key > after (b"": from the start), in byte order.

        Returns up to `limit` of them and whether there may be more. When most keys of the range are dead
        and not yet removed this takes long: use scan_page, which stops in time.
        """
        found: list[tuple[bytes, Entry]] = []
        next_after: bytes | None = after
        while next_after is not None and len(found) < limit:
            page, next_after = self.scan_page(prefix, next_after, limit - len(found))
            found += page
        return found, next_after is not None

    def scan_page(
        self, prefix: bytes, after: bytes, limit: int
    ) -> tuple[list[tuple[bytes, Entry]], bytes | None]:
        """As scan, with bounded work: the page may be short, even empty; go on with `after` = the second
        result, until that is None."""
        rows, next_after = self.store.scan_page(prefix, after, limit)
        return [(key, as_entry(row)) for key, row in rows], next_after

    def find_page(
        self, tags: Sequence[str], after: bytes, limit: int
    ) -> tuple[list[tuple[bytes, Entry]], bytes | None]:
        """Living entries that have all the tags, in byte order; pages as those of scan_page."""
        rows, next_after = self.store.find_page(tags, after, limit)
        return [(key, as_entry(row)) for key, row in rows], next_after

    def describe_locks(self, name: str = "") -> list[LockView]:
        """One lock, or all (up to 1,000, by name) when `name` is empty."""
        return self.locks.describe(name)

    def glance_at_locks(self, limit: int, places: int) -> list[LockGlance]:
        """Up to `limit` locks, the most wanted first, each with up to `places` holders and waiters."""
        return self.locks.glance(limit, places)

    def lock_holders(self, name: str) -> tuple[PlaceView, ...]:
        """Who holds the lock, however long its queue is."""
        return self.locks.holders(name)

    def held_token(self, name: str, owner: bytes) -> int:
        """The fencing token under which `owner` holds the lock; 0: it does not."""
        return self.locks.held_token(name, owner)

    def has_lock_place(self, name: str, owner: bytes) -> bool:
        """Whether `owner` holds the lock or waits for it."""
        return self.locks.has_place(name, owner)

    def describe_namespaces(self) -> list[NamespaceView]:
        return self.store.namespaces.describe(self.store.quota_bytes, len(self.store.rows))

    def describe_guards(self) -> list[tuple[bytes, str]]:
        """(prefix, lock), by prefix."""
        return self.guards.freeze()

    def describe_lease(self, lease_id: int) -> LeaseView | None:
        return self.leases.describe(lease_id)

    def lease_keys(self, lease_id: int, limit: int) -> list[bytes]:
        """Living keys that hang on the lease, in byte order, up to `limit`."""
        living = (key for key in self.leases.keys(lease_id) if self.store.peek(key) is not None)
        return list(islice(living, limit))

    def next_due_ms(self) -> int | None:
        """Earliest cluster time at which something ends; None: nothing will. At or before clock_ms: removals
        are behind, propose a tick now."""
        found = [
            due
            for due in (
                self.clock_ms if self.store.graveyard.graves or self.store.namespaces.is_counting() else None,
                self.store.timers.next_due_ms(),
                self.locks.next_due_ms(),
                self.leases.next_due_ms(),
                self.replies.next_due_ms(),
            )
            if due is not None
        ]
        return min(found, default=None)

    def events_since(self, revision: int, limit: int) -> list[AnyEvent] | None:
        """Kept events from `revision` on (history.History.since); None: compacted, see oldest_revision."""
        return self.history.since(revision, limit)

    def oldest_revision(self) -> int:
        """The lowest revision from which all events are still kept."""
        return self.history.oldest_revision

    # --- the whole state ---

    def begin_snapshot(self) -> SnapshotView:
        """A view of the state as it is now, to be read later and elsewhere. Close it, or read it to its end:
        until then old rows are kept."""
        view = SnapshotView(self)
        self.store.views.append(view)
        return view

    @classmethod
    def restore(
        cls,
        chunks: Iterable[bytes],
        *,
        history_events_max: int = HISTORY_EVENTS_MAX,
        history_bytes_max: int = HISTORY_BYTES_MAX,
    ) -> "StateMachine":
        """The machine that the snapshot was taken from. Raises CorruptSnapshot or UnknownFormat."""
        machine = cls(history_events_max=history_events_max, history_bytes_max=history_bytes_max)
        restore_into(machine, chunks)
        machine.history = History(machine.revision + 1, history_events_max, history_bytes_max)
        return machine

    def load_header(self, index: int, clock_ms: int, revision: int, chain: int) -> None:
        """For restore only."""
        self.applied_index = index
        self.chain = chain
        self.turn.clock_ms = clock_ms
        self.turn.revision = revision

    def digest(self) -> bytes:
        """SHA-256 of the whole state, equal on all nodes at equal index. Reads everything: about 2 s for a
        million keys; begin_snapshot().digest() does the same in a thread."""
        return self.begin_snapshot().digest()

    def check_invariants(self) -> None:
        """Raises InvariantBroken with what is wrong. Looks at everything: for tests and diagnosis."""
        self.store.check_invariants()
        self.leases.check_invariants()
        self.locks.check_invariants()
        self.replies.check_invariants()
        self.groups.check_invariants()

    def statistics(self) -> Statistics:
        return Statistics(
            keys=len(self.store.rows),
            value_bytes=self.store.size_bytes,
            locks=len(self.locks.locks),
            leases=len(self.leases.leases),
            sessions=len(self.replies.sessions),
            stored_replies_bytes=self.replies.bytes,
            request_ids=len(self.replies.requests),
            history_events=len(self.history),
            history_bytes=self.history.bytes,
            oldest_revision=self.history.oldest_revision,
            expired_total=self.store.expired_total,
            evicted_totals=tuple(sorted(self.store.evicted_totals.items())),
            snapshots_being_read=len(self.store.views),
        )
