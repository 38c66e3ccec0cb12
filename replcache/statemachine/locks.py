"""Locks: exclusive, shared, semaphores. One queue a lock, served first come first served.

- The fencing token of a grant is its revision: strictly increasing over all locks, never given twice.
- Nobody overtakes: while somebody waits, a new request waits behind, also one that could share the lock.
- Holders and waiters end by time on the cluster clock. All that are due end before an entry's commands: first
  waiters (one whose time is over is never granted), then holders, then the queues move.
- An owner is one request: asking again changes nothing but its times. It has at most one place per lock.

Semantics after Burrows, "The Chubby lock service" (2006), section 2.4 (sequencers), with the check of the
sequencer made by the store itself (conditions on writes, `check_fence`).

Invariant: a lock without holders has no waiters; a lock without both does not exist.
"""

from collections.abc import Iterable
from heapq import nsmallest
from itertools import islice
from typing import Final

from replcache.constants import LOCK_PERMITS_MAX, LOCK_WAITERS_MAX
from replcache.statemachine.commands import Fence, LockAcquire, LockNote, LockRelease, LockRenew
from replcache.statemachine.events import LockEvent, LockEventKind
from replcache.statemachine.expiry import Timers
from replcache.statemachine.frozen import FrozenTable
from replcache.statemachine.invariants import require
from replcache.statemachine.leases import LeaseTable
from replcache.statemachine.lock_state import (
    FrozenLock,
    Holder,
    Lock,
    LockGlance,
    LockView,
    PlaceView,
    Waiter,
    freeze_lock,
)
from replcache.statemachine.results import LockResult, Refusal, RefusalCode, ReleaseResult
from replcache.statemachine.turn import Turn

# More locks than this at once are data, not locks.
LOCKS_MAX: Final = 100_000
DESCRIBED_LOCKS_MAX: Final = 1000
# A glance looks for the most wanted among this many.
GLANCED_LOCKS_MAX: Final = 2000

__all__ = ["LockGlance", "LockTable", "LockView", "PlaceView"]


class LockTable:
    """All locks. `turn` gives the clock and the revisions."""

    __slots__ = ("_holder_timers", "_leases", "_tokens", "_turn", "_waiter_timers", "locks", "views")

    def __init__(self, turn: Turn, leases: LeaseTable) -> None:
        self._turn = turn
        self._leases = leases
        self.locks: dict[str, Lock] = {}
        # Token -> name of the lock that is held under it.
        self._tokens: dict[int, str] = {}
        self._holder_timers: Timers[tuple[str, bytes]] = Timers()
        self._waiter_timers: Timers[tuple[str, bytes]] = Timers()
        # Snapshots that are being read.
        self.views: list[FrozenTable[str, Lock, FrozenLock]] = []

    # --- time ---

    def next_due_ms(self) -> int | None:
        dues = [due for due in (self._holder_timers.next_due_ms(), self._waiter_timers.next_due_ms()) if due]
        return min(dues, default=None)

    def expire(self, ended_with_leases: Iterable[tuple[str, bytes]]) -> None:
        """Ends everything that is due, and the places (lock name, owner) whose leases have ended; then moves
        the queues, in the order in which they were touched."""
        turn = self._turn
        touched: dict[str, None] = {}
        for _, (name, owner) in self._waiter_timers.due(turn.clock_ms):
            self._end_wait(name, owner)
            self._emit(LockEventKind.WAIT_ENDED, name, owner, 0)
            touched[name] = None
        for name, owner in ended_with_leases:
            if self._end_place(name, owner):
                touched[name] = None
        for _, (name, owner) in self._holder_timers.due(turn.clock_ms):
            self._end_hold(name, owner, LockEventKind.EXPIRED)
            touched[name] = None
        for name in touched:
            self._move_queue(name)

    def end_places(self, places: Iterable[tuple[str, bytes]]) -> None:
        """Ends the places of a lease that was revoked."""
        touched = dict.fromkeys([name for name, owner in places if self._end_place(name, owner)])
        for name in touched:
            self._move_queue(name)

    def _end_place(self, name: str, owner: bytes) -> bool:
        """Ends whatever the owner has; False: it had gone already."""
        lock = self.locks.get(name)
        if lock is not None and owner in lock.holders:
            self._end_hold(name, owner, LockEventKind.EXPIRED)
            return True
        if lock is not None and owner in lock.waiters:
            self._end_wait(name, owner)
            self._emit(LockEventKind.WAIT_ENDED, name, owner, 0)
            return True
        return False

    # --- operations ---

    def acquire(self, op: LockAcquire) -> LockResult | Refusal:
        permits = op.permits or 1
        refusal = _check_request(op, permits)
        if refusal is not None:
            return refusal
        if op.lease_id and op.lease_id not in self._leases.leases:
            return Refusal(RefusalCode.NOT_FOUND, f"lease {op.lease_id} does not exist")
        lock = self.locks.get(op.name)
        if lock is None:
            if len(self.locks) >= LOCKS_MAX:
                return Refusal(RefusalCode.QUOTA_EXCEEDED, f"there are {LOCKS_MAX} locks already")
            lock = self.locks[op.name] = Lock(permits)
        elif lock.permits != permits:
            return Refusal(RefusalCode.INVALID, f"permits {permits}: this lock is in use with {lock.permits}")
        holder = lock.holders.get(op.owner)
        if holder is not None:
            return self._hold_again(op, holder)
        if op.owner in lock.waiters:
            return self._wait_again(op, lock)
        if not lock.waiters and lock.has_room(op.shared):
            wanted = Waiter(op.shared, op.ttl_ms, 0, op.note, op.attempt, op.lease_id)
            holder = self._grant(op.name, lock, op.owner, wanted)
            return LockResult(holder.token, holder.token, op.ttl_ms)
        if op.wait_ms <= 0:
            return Refusal(RefusalCode.LOCK_BUSY, "the lock is held by another, and wait is 0")
        if len(lock.waiters) >= LOCK_WAITERS_MAX:
            return Refusal(
                RefusalCode.QUOTA_EXCEEDED, f"{LOCK_WAITERS_MAX} are waiting for this lock already"
            )
        due_ms = self._turn.clock_ms + op.wait_ms
        self._save(op.name, lock)
        lock.waiters[op.owner] = Waiter(op.shared, op.ttl_ms, due_ms, op.note, op.attempt, op.lease_id)
        self._leases.link_place(op.lease_id, op.name, op.owner)
        self._waiter_timers.add(due_ms, (op.name, op.owner))
        return LockResult(0, self._turn.next_revision(), 0, len(lock.waiters))

    def _hold_again(self, op: LockAcquire, holder: Holder) -> LockResult | Refusal:
        """The same request again: the same token; the ttl starts anew."""
        if holder.shared != op.shared:
            return Refusal(RefusalCode.INVALID, "this owner holds the lock in the other mode")
        if holder.lease_id != op.lease_id:
            return Refusal(RefusalCode.INVALID, f"this owner holds the lock with lease {holder.lease_id}")
        self._save(op.name, self.locks[op.name])
        holder.attempt = op.attempt
        self._extend(op.name, op.owner, holder, op.ttl_ms)
        return LockResult(holder.token, self._turn.next_revision(), op.ttl_ms)

    def _wait_again(self, op: LockAcquire, lock: Lock) -> LockResult | Refusal:
        """The same request again: it keeps its place; its times start anew."""
        waiter = lock.waiters[op.owner]
        if waiter.shared != op.shared:
            return Refusal(RefusalCode.INVALID, "this owner waits for the lock in the other mode")
        if waiter.lease_id != op.lease_id:
            return Refusal(RefusalCode.INVALID, f"this owner waits for the lock with lease {waiter.lease_id}")
        if op.wait_ms <= 0:
            return Refusal(RefusalCode.LOCK_BUSY, "the lock is held by another, and wait is 0")
        self._save(op.name, lock)
        waiter.ttl_ms = op.ttl_ms
        waiter.note = op.note
        waiter.attempt = op.attempt
        self._waiter_timers.cancel(waiter.due_ms, (op.name, op.owner))
        waiter.due_ms = self._turn.clock_ms + op.wait_ms
        self._waiter_timers.add(waiter.due_ms, (op.name, op.owner))
        position = 1
        for owner in lock.waiters:
            if owner == op.owner:
                break
            position += 1
        return LockResult(0, self._turn.next_revision(), 0, position)

    def renew(self, op: LockRenew) -> LockResult | Refusal:
        lock = self.locks.get(op.name)
        holder = None if lock is None else lock.holders.get(op.owner)
        if holder is None or holder.token != op.token:
            return Refusal(
                RefusalCode.LOCK_LOST, f"the lock is not held by this owner under token {op.token}"
            )
        if op.ttl_ms <= 0:
            return Refusal(RefusalCode.INVALID, f"ttl {op.ttl_ms} ms: must be above 0")
        self._extend(op.name, op.owner, holder, op.ttl_ms)
        return LockResult(holder.token, self._turn.next_revision(), op.ttl_ms)

    def set_note(self, op: LockNote) -> LockResult | Refusal:
        """Replaces the holder's note: what a leader proclaims."""
        lock = self.locks.get(op.name)
        holder = None if lock is None else lock.holders.get(op.owner)
        if holder is None or holder.token != op.token:
            return Refusal(
                RefusalCode.LOCK_LOST, f"the lock is not held by this owner under token {op.token}"
            )
        self._save(op.name, self.locks[op.name])
        holder.note = op.note
        revision = self._turn.next_revision()
        noted = LockEvent(revision, LockEventKind.NOTED, op.name, op.owner, op.token, op.note)
        self._turn.events.append(noted)
        remaining_ms = holder.due_ms - self._turn.clock_ms if holder.due_ms else 0
        return LockResult(holder.token, revision, remaining_ms)

    def release(self, op: LockRelease) -> ReleaseResult:
        lock = self.locks.get(op.name)
        if lock is None:
            return ReleaseResult(False, self._turn.revision)
        holder, waiter = lock.holders.get(op.owner), lock.waiters.get(op.owner)
        if holder is not None and op.token in (0, holder.token) and op.attempt in (0, holder.attempt):
            self._end_hold(op.name, op.owner, LockEventKind.RELEASED)
            released_at = self._turn.revision
        elif op.token == 0 and waiter is not None and op.attempt in (0, waiter.attempt):
            self._end_wait(op.name, op.owner)
            released_at = self._turn.next_revision()
        else:
            return ReleaseResult(False, self._turn.revision)
        self._move_queue(op.name)
        return ReleaseResult(True, released_at)

    # --- questions ---

    def check_fence(self, fence: Fence) -> Refusal | None:
        """None while the lock is held under the token; all that is due has ended before."""
        if self._tokens.get(fence.token) == fence.name:
            return None
        return Refusal(RefusalCode.FENCE_REJECTED, f"the lock is not held under token {fence.token}")

    def held_token(self, name: str, owner: bytes) -> int:
        lock = self.locks.get(name)
        holder = None if lock is None else lock.holders.get(owner)
        return 0 if holder is None else holder.token

    def has_place(self, name: str, owner: bytes) -> bool:
        """Whether the owner holds the lock or waits for it."""
        lock = self.locks.get(name)
        return lock is not None and (owner in lock.holders or owner in lock.waiters)

    def glance(self, limit: int, places: int) -> list[LockGlance]:
        """Some locks for a screen, the most wanted first, with bounded work however many there are."""
        some = islice(self.locks.items(), GLANCED_LOCKS_MAX)
        found = nsmallest(limit, some, key=lambda item: (-len(item[1].waiters), item[0]))
        return [
            LockGlance(
                name,
                lock.permits,
                len(lock.holders),
                len(lock.waiters),
                tuple(self._holder_view(*item) for item in islice(lock.holders.items(), places)),
                tuple(self._waiter_view(*item) for item in islice(lock.waiters.items(), places)),
            )
            for name, lock in found
        ]

    def _holder_view(self, owner: bytes, holder: Holder) -> PlaceView:
        left_ms = holder.due_ms - self._turn.clock_ms if holder.due_ms else 0
        return PlaceView(owner, holder.token, left_ms, holder.note, holder.shared, holder.lease_id)

    def _waiter_view(self, owner: bytes, waiter: Waiter) -> PlaceView:
        left_ms = waiter.due_ms - self._turn.clock_ms
        return PlaceView(owner, 0, left_ms, waiter.note, waiter.shared, waiter.lease_id)

    def holders(self, name: str) -> tuple[PlaceView, ...]:
        """Who holds the lock, in the order of the grants; empty: nobody."""
        lock = self.locks.get(name)
        return () if lock is None else tuple(self._holder_view(*item) for item in lock.holders.items())

    def describe(self, name: str = "") -> list[LockView]:
        """The lock `name`, or, when empty, the first DESCRIBED_LOCKS_MAX by name."""
        if name:
            names = [name] if name in self.locks else []
        else:
            names = sorted(self.locks)[:DESCRIBED_LOCKS_MAX]
        return [
            LockView(
                found,
                lock.permits,
                self.holders(found),
                tuple(self._waiter_view(*item) for item in lock.waiters.items()),
            )
            for found in names
            for lock in (self.locks[found],)
        ]

    # --- inside ---

    def _save(self, name: str, lock: Lock) -> None:
        """Before every change of a lock that was there before this operation."""
        for view in self.views:
            view.save(name, lock)

    def _grant(self, name: str, lock: Lock, owner: bytes, wanted: Waiter) -> Holder:
        turn = self._turn
        self._save(name, lock)
        due_ms = turn.clock_ms + wanted.ttl_ms if wanted.ttl_ms else 0
        token = turn.next_revision()
        holder = Holder(token, wanted.shared, due_ms, wanted.note, wanted.attempt, wanted.lease_id)
        lock.holders[owner] = holder
        self._tokens[token] = name
        self._leases.link_place(holder.lease_id, name, owner)
        if due_ms:
            self._holder_timers.add(due_ms, (name, owner))
        turn.events.append(LockEvent(token, LockEventKind.GRANTED, name, owner, token, wanted.note))
        return holder

    def _extend(self, name: str, owner: bytes, holder: Holder, ttl_ms: int) -> None:
        """Starts the ttl anew; 0: it has none, and lives as long as its lease."""
        self._save(name, self.locks[name])
        if holder.due_ms:
            self._holder_timers.cancel(holder.due_ms, (name, owner))
        holder.due_ms = self._turn.clock_ms + ttl_ms if ttl_ms else 0
        if holder.due_ms:
            self._holder_timers.add(holder.due_ms, (name, owner))

    def _end_hold(self, name: str, owner: bytes, kind: LockEventKind) -> None:
        lock = self.locks[name]
        self._save(name, lock)
        holder = lock.holders.pop(owner)
        del self._tokens[holder.token]
        self._leases.unlink_place(holder.lease_id, name, owner)
        if holder.due_ms:
            self._holder_timers.cancel(holder.due_ms, (name, owner))
        self._emit(kind, name, owner, holder.token)

    def _end_wait(self, name: str, owner: bytes) -> Waiter:
        lock = self.locks[name]
        self._save(name, lock)
        waiter = lock.waiters.pop(owner)
        self._leases.unlink_place(waiter.lease_id, name, owner)
        self._waiter_timers.cancel(waiter.due_ms, (name, owner))
        return waiter

    def _move_queue(self, name: str) -> None:
        """Grants to the head of the queue while it fits; forgets the lock when nobody is left."""
        lock = self.locks[name]
        while lock.waiters:
            owner, waiter = next(iter(lock.waiters.items()))
            if not lock.has_room(waiter.shared):
                return
            self._grant(name, lock, owner, self._end_wait(name, owner))
        if not lock.holders:
            del self.locks[name]

    def _emit(self, kind: LockEventKind, name: str, owner: bytes, token: int) -> None:
        self._turn.events.append(LockEvent(self._turn.next_revision(), kind, name, owner, token))

    # --- snapshot ---

    def freeze(self) -> FrozenTable[str, Lock, FrozenLock]:
        """The table as it is now, to be read later, by name."""
        view = FrozenTable(self.locks, freeze_lock)
        self.views.append(view)
        return view

    def load(self, frozen: list[FrozenLock]) -> None:
        """Fills an empty table; the leases must be there."""
        for name, permits, holders, waiters in frozen:
            lock = self.locks[name] = Lock(permits)
            for owner, token, shared, due_ms, note, attempt, lease_id in holders:
                holder = lock.holders[owner] = Holder(token, shared, due_ms, note, attempt, lease_id)
                self._tokens[holder.token] = name
                self._leases.link_place(holder.lease_id, name, owner)
                if holder.due_ms:
                    self._holder_timers.add(holder.due_ms, (name, owner))
            for owner, shared, ttl_ms, due_ms, note, attempt, lease_id in waiters:
                waiter = lock.waiters[owner] = Waiter(shared, ttl_ms, due_ms, note, attempt, lease_id)
                self._leases.link_place(waiter.lease_id, name, owner)
                self._waiter_timers.add(waiter.due_ms, (name, owner))

    def check_invariants(self) -> None:
        held = timed = 0
        for name, lock in self.locks.items():
            require(lock.holders, f"lock {name!r} exists without a holder, {len(lock.waiters)} waiting")
            require(
                not (lock.holders.keys() & lock.waiters.keys()), f"lock {name!r}: an owner holds and waits"
            )
            modes = {holder.shared for holder in lock.holders.values()}
            require(len(modes) == 1, f"lock {name!r} has shared and exclusive holders")
            alone = len(lock.holders) <= lock.permits
            require(
                alone or True in modes, f"lock {name!r}: {len(lock.holders)} holders, {lock.permits} permits"
            )
            for holder in lock.holders.values():
                require(
                    self._tokens.get(holder.token) == name, f"lock {name!r}: token {holder.token} is lost"
                )
                require(holder.token <= self._turn.revision, f"lock {name!r}: token {holder.token} is ahead")
                ends = holder.due_ms > self._turn.clock_ms or holder.lease_id in self._leases.leases
                require(ends, f"lock {name!r} is held beyond its time")
            if lock.waiters:
                first = next(iter(lock.waiters.values()))
                require(not lock.has_room(first.shared), f"lock {name!r}: there is room, but the queue waits")
            held += len(lock.holders)
            timed += sum(1 for holder in lock.holders.values() if holder.due_ms)
        require(held == len(self._tokens), f"{held} holders, {len(self._tokens)} tokens")
        require(timed == len(self._holder_timers), f"{timed} holds, {len(self._holder_timers)} timers")
        waiting = sum(len(lock.waiters) for lock in self.locks.values())
        require(waiting == len(self._waiter_timers), f"{waiting} wait, {len(self._waiter_timers)} timers")


def _check_request(op: LockAcquire, permits: int) -> Refusal | None:
    if op.ttl_ms < 0 or (op.ttl_ms == 0 and not op.lease_id):
        return Refusal(RefusalCode.INVALID, f"ttl {op.ttl_ms} ms: must be above 0, or there must be a lease")
    if permits > LOCK_PERMITS_MAX:
        return Refusal(RefusalCode.INVALID, f"permits {permits}: limit {LOCK_PERMITS_MAX}")
    if op.shared and permits > 1:
        return Refusal(RefusalCode.INVALID, "a lock is either shared or has permits")
    return None
