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

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from replcache.constants import LOCK_PERMITS_MAX, LOCK_WAITERS_MAX
from replcache.statemachine.commands import Fence, LockAcquire, LockRelease, LockRenew
from replcache.statemachine.events import LockEvent, LockEventKind
from replcache.statemachine.expiry import Timers
from replcache.statemachine.invariants import require
from replcache.statemachine.plain import PlainReader, PlainWriter
from replcache.statemachine.results import LockResult, Refusal, RefusalCode, ReleaseResult
from replcache.statemachine.turn import Turn

# More locks than this at once are data, not locks.
LOCKS_MAX: Final = 100_000
# Holders of one shared lock; those beyond wait.
SHARED_HOLDERS_MAX: Final = 10_000
DESCRIBED_LOCKS_MAX: Final = 1000


class Holder:
    """`attempt` is the owner's last call that asked for the lock, 0: it did not say."""

    __slots__ = ("attempt", "due_ms", "note", "shared", "token")

    def __init__(self, token: int, shared: bool, due_ms: int, note: str, attempt: int = 0) -> None:
        self.attempt = attempt
        self.token = token
        self.shared = shared
        self.due_ms = due_ms
        self.note = note


class Waiter:
    """`ttl_ms` is what the grant will last; `due_ms` is when it stops waiting."""

    __slots__ = ("attempt", "due_ms", "note", "shared", "ttl_ms")

    def __init__(self, shared: bool, ttl_ms: int, due_ms: int, note: str, attempt: int = 0) -> None:
        self.attempt = attempt
        self.shared = shared
        self.ttl_ms = ttl_ms
        self.due_ms = due_ms
        self.note = note


class Lock:
    """Invariant: holders are one exclusive, or shared ones only, or (permits > 1) at most `permits`."""

    __slots__ = ("holders", "permits", "waiters")

    def __init__(self, permits: int) -> None:
        self.permits = permits
        # By owner, in the order of grants.
        self.holders: dict[bytes, Holder] = {}
        # By owner, in the order of arrival. An OrderedDict: taking the first of a plain dict again and again
        # walks over the holes that the ones before it left.
        self.waiters: OrderedDict[bytes, Waiter] = OrderedDict()

    def has_room(self, shared: bool) -> bool:
        """Whether one more holder of this mode fits beside those there are."""
        if not self.holders:
            return True
        if self.permits > 1:
            return len(self.holders) < self.permits
        if not shared or len(self.holders) >= SHARED_HOLDERS_MAX:
            return False
        return next(iter(self.holders.values())).shared


@dataclass(frozen=True, slots=True)
class PlaceView:
    """A holder, or a waiter (token 0). expires_in_ms: of the lock, or of the waiting."""

    owner: bytes
    token: int
    expires_in_ms: int
    note: str
    shared: bool


@dataclass(frozen=True, slots=True)
class LockView:
    name: str
    permits: int
    holders: tuple[PlaceView, ...]
    waiters: tuple[PlaceView, ...]


class LockTable:
    """All locks. `turn` gives the clock and the revisions."""

    __slots__ = ("_holder_timers", "_tokens", "_turn", "_waiter_timers", "locks")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.locks: dict[str, Lock] = {}
        # Token -> name of the lock that is held under it.
        self._tokens: dict[int, str] = {}
        self._holder_timers: Timers[tuple[str, bytes]] = Timers()
        self._waiter_timers: Timers[tuple[str, bytes]] = Timers()

    # --- time ---

    def next_due_ms(self) -> int | None:
        dues = [due for due in (self._holder_timers.next_due_ms(), self._waiter_timers.next_due_ms()) if due]
        return min(dues, default=None)

    def expire(self) -> None:
        """Ends everything that is due, then moves the queues, in the order in which they were touched."""
        turn = self._turn
        touched: dict[str, None] = {}
        for _, (name, owner) in self._waiter_timers.due(turn.clock_ms):
            self._end_wait(name, owner)
            self._emit(LockEventKind.WAIT_ENDED, name, owner, 0)
            touched[name] = None
        for _, (name, owner) in self._holder_timers.due(turn.clock_ms):
            self._end_hold(name, owner, LockEventKind.EXPIRED)
            touched[name] = None
        for name in touched:
            self._move_queue(name)

    # --- operations ---

    def acquire(self, op: LockAcquire) -> LockResult | Refusal:
        permits = op.permits or 1
        refusal = _check_request(op, permits)
        if refusal is not None:
            return refusal
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
            holder = self._grant(op.name, lock, op.owner, op.shared, op.ttl_ms, op.note, op.attempt)
            return LockResult(holder.token, holder.token, op.ttl_ms)
        if op.wait_ms <= 0:
            return Refusal(RefusalCode.LOCK_BUSY, "the lock is held by another, and wait is 0")
        if len(lock.waiters) >= LOCK_WAITERS_MAX:
            return Refusal(
                RefusalCode.QUOTA_EXCEEDED, f"{LOCK_WAITERS_MAX} are waiting for this lock already"
            )
        due_ms = self._turn.clock_ms + op.wait_ms
        lock.waiters[op.owner] = Waiter(op.shared, op.ttl_ms, due_ms, op.note, op.attempt)
        self._waiter_timers.add(due_ms, (op.name, op.owner))
        return LockResult(0, self._turn.next_revision(), 0, len(lock.waiters))

    def _hold_again(self, op: LockAcquire, holder: Holder) -> LockResult | Refusal:
        """The same request again: the same token; the ttl starts anew."""
        if holder.shared != op.shared:
            return Refusal(RefusalCode.INVALID, "this owner holds the lock in the other mode")
        holder.attempt = op.attempt
        self._extend(op.name, op.owner, holder, op.ttl_ms)
        return LockResult(holder.token, self._turn.next_revision(), op.ttl_ms)

    def _wait_again(self, op: LockAcquire, lock: Lock) -> LockResult | Refusal:
        """The same request again: it keeps its place; its times start anew."""
        waiter = lock.waiters[op.owner]
        if waiter.shared != op.shared:
            return Refusal(RefusalCode.INVALID, "this owner waits for the lock in the other mode")
        if op.wait_ms <= 0:
            return Refusal(RefusalCode.LOCK_BUSY, "the lock is held by another, and wait is 0")
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

    def describe(self, name: str = "") -> list[LockView]:
        """The lock `name`, or, when empty, the first DESCRIBED_LOCKS_MAX by name."""
        if name:
            names = [name] if name in self.locks else []
        else:
            names = sorted(self.locks)[:DESCRIBED_LOCKS_MAX]
        clock_ms = self._turn.clock_ms
        return [
            LockView(
                found,
                lock.permits,
                tuple(
                    PlaceView(owner, holder.token, holder.due_ms - clock_ms, holder.note, holder.shared)
                    for owner, holder in lock.holders.items()
                ),
                tuple(
                    PlaceView(owner, 0, waiter.due_ms - clock_ms, waiter.note, waiter.shared)
                    for owner, waiter in lock.waiters.items()
                ),
            )
            for found in names
            for lock in (self.locks[found],)
        ]

    # --- inside ---

    def _grant(
        self, name: str, lock: Lock, owner: bytes, shared: bool, ttl_ms: int, note: str, attempt: int
    ) -> Holder:
        due_ms = self._turn.clock_ms + ttl_ms
        token = self._turn.next_revision()
        holder = lock.holders[owner] = Holder(token, shared, due_ms, note, attempt)
        self._tokens[token] = name
        self._holder_timers.add(due_ms, (name, owner))
        self._turn.events.append(LockEvent(token, LockEventKind.GRANTED, name, owner, token))
        return holder

    def _extend(self, name: str, owner: bytes, holder: Holder, ttl_ms: int) -> None:
        self._holder_timers.cancel(holder.due_ms, (name, owner))
        holder.due_ms = self._turn.clock_ms + ttl_ms
        self._holder_timers.add(holder.due_ms, (name, owner))

    def _end_hold(self, name: str, owner: bytes, kind: LockEventKind) -> None:
        holder = self.locks[name].holders.pop(owner)
        del self._tokens[holder.token]
        self._holder_timers.cancel(holder.due_ms, (name, owner))
        self._emit(kind, name, owner, holder.token)

    def _end_wait(self, name: str, owner: bytes) -> None:
        waiter = self.locks[name].waiters.pop(owner)
        self._waiter_timers.cancel(waiter.due_ms, (name, owner))

    def _move_queue(self, name: str) -> None:
        """Grants to the head of the queue while it fits; forgets the lock when nobody is left."""
        lock = self.locks[name]
        while lock.waiters:
            owner, waiter = next(iter(lock.waiters.items()))
            if not lock.has_room(waiter.shared):
                return
            self._end_wait(name, owner)
            self._grant(name, lock, owner, waiter.shared, waiter.ttl_ms, waiter.note, waiter.attempt)
        if not lock.holders:
            del self.locks[name]

    def _emit(self, kind: LockEventKind, name: str, owner: bytes, token: int) -> None:
        self._turn.events.append(LockEvent(self._turn.next_revision(), kind, name, owner, token))

    # --- snapshot ---

    def freeze(self) -> "FrozenLocks":
        """The table as it is now, to be written later."""
        return [
            (
                name,
                lock.permits,
                [
                    (owner, held.token, held.shared, held.due_ms, held.note, held.attempt)
                    for owner, held in lock.holders.items()
                ],
                [
                    (owner, waiting.shared, waiting.ttl_ms, waiting.due_ms, waiting.note, waiting.attempt)
                    for owner, waiting in lock.waiters.items()
                ],
            )
            for name, lock in sorted(self.locks.items())
        ]

    def load(self, frozen: "FrozenLocks") -> None:
        """Fills an empty table."""
        for name, permits, holders, waiters in frozen:
            lock = self.locks[name] = Lock(permits)
            for owner, token, shared, due_ms, note, attempt in holders:
                lock.holders[owner] = Holder(token, shared, due_ms, note, attempt)
                self._tokens[token] = name
                self._holder_timers.add(due_ms, (name, owner))
            for owner, shared, ttl_ms, due_ms, note, attempt in waiters:
                lock.waiters[owner] = Waiter(shared, ttl_ms, due_ms, note, attempt)
                self._waiter_timers.add(due_ms, (name, owner))

    def check_invariants(self) -> None:
        held = 0
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
                require(holder.due_ms > self._turn.clock_ms, f"lock {name!r} is held beyond its time")
            if lock.waiters:
                first = next(iter(lock.waiters.values()))
                require(not lock.has_room(first.shared), f"lock {name!r}: there is room, but the queue waits")
            held += len(lock.holders)
        require(held == len(self._tokens), f"{held} holders, {len(self._tokens)} tokens")
        require(held == len(self._holder_timers), f"{held} holders, {len(self._holder_timers)} timers")
        waiting = sum(len(lock.waiters) for lock in self.locks.values())
        require(waiting == len(self._waiter_timers), f"{waiting} wait, {len(self._waiter_timers)} timers")


# owner, token, shared, due_ms, note, attempt
FrozenHolder = tuple[bytes, int, bool, int, str, int]
# owner, shared, ttl_ms, due_ms, note, attempt
FrozenWaiter = tuple[bytes, bool, int, int, str, int]
# name, permits, holders, waiters
FrozenLock = tuple[str, int, list[FrozenHolder], list[FrozenWaiter]]
FrozenLocks = list[FrozenLock]


def write_lock(writer: PlainWriter, lock: FrozenLock) -> None:
    name, permits, holders, waiters = lock
    writer.text(name)
    writer.unsigned(permits)
    writer.unsigned(len(holders))
    for owner, token, shared, due_ms, note, attempt in holders:
        writer.blob(owner)
        writer.unsigned(token)
        writer.flag(shared)
        writer.unsigned(due_ms)
        writer.text(note)
        writer.unsigned(attempt)
    writer.unsigned(len(waiters))
    for owner, shared, ttl_ms, due_ms, note, attempt in waiters:
        writer.blob(owner)
        writer.flag(shared)
        writer.unsigned(ttl_ms)
        writer.unsigned(due_ms)
        writer.text(note)
        writer.unsigned(attempt)


def read_lock(reader: PlainReader) -> FrozenLock:
    unsigned, blob, text, flag = reader.unsigned, reader.blob, reader.text, reader.flag
    name, permits = text(), unsigned()
    holders = [(blob(), unsigned(), flag(), unsigned(), text(), unsigned()) for _ in range(unsigned())]
    waiters = [(blob(), flag(), unsigned(), unsigned(), text(), unsigned()) for _ in range(unsigned())]
    return name, permits, holders, waiters


def _check_request(op: LockAcquire, permits: int) -> Refusal | None:
    if op.ttl_ms <= 0:
        return Refusal(RefusalCode.INVALID, f"ttl {op.ttl_ms} ms: must be above 0")
    if permits > LOCK_PERMITS_MAX:
        return Refusal(RefusalCode.INVALID, f"permits {permits}: limit {LOCK_PERMITS_MAX}")
    if op.shared and permits > 1:
        return Refusal(RefusalCode.INVALID, "a lock is either shared or has permits")
    return None
