"""What a lock is made of: its holders and waiters, how they look from outside and in snapshots."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from replcache.statemachine.plain import PlainReader, PlainWriter

# Holders of one shared lock; those beyond wait.
SHARED_HOLDERS_MAX: Final = 10_000


class Holder:
    """Attributes:
    token: fencing token, the revision of the grant.
    due_ms: cluster time at which it ends; 0: only with its lease.
    attempt: the owner's last call that asked for the lock, 0: it did not say.
    lease_id: ends with this lease, 0: with none.
    """

    __slots__ = ("attempt", "due_ms", "lease_id", "note", "shared", "token")

    def __init__(
        self, token: int, shared: bool, due_ms: int, note: str, attempt: int = 0, lease_id: int = 0
    ) -> None:
        self.attempt = attempt
        self.token = token
        self.shared = shared
        self.due_ms = due_ms
        self.note = note
        self.lease_id = lease_id


class Waiter:
    """`ttl_ms` is what the grant will last (0: as long as the lease); `due_ms` is when it stops waiting."""

    __slots__ = ("attempt", "due_ms", "lease_id", "note", "shared", "ttl_ms")

    def __init__(
        self, shared: bool, ttl_ms: int, due_ms: int, note: str, attempt: int = 0, lease_id: int = 0
    ) -> None:
        self.attempt = attempt
        self.shared = shared
        self.ttl_ms = ttl_ms
        self.due_ms = due_ms
        self.note = note
        self.lease_id = lease_id


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
    """A holder, or a waiter (token 0). expires_in_ms: of the lock (0: with its lease), or of the waiting."""

    owner: bytes
    token: int
    expires_in_ms: int
    note: str
    shared: bool
    lease_id: int = 0


@dataclass(frozen=True, slots=True)
class LockView:
    name: str
    permits: int
    holders: tuple[PlaceView, ...]
    waiters: tuple[PlaceView, ...]


@dataclass(frozen=True, slots=True)
class LockGlance:
    """A lock with the first of its holders and waiters, and how many there are."""

    name: str
    permits: int
    holders: int
    waiters: int
    first_holders: tuple[PlaceView, ...]
    first_waiters: tuple[PlaceView, ...]


# owner, token, shared, due_ms, note, attempt, lease_id
FrozenHolder = tuple[bytes, int, bool, int, str, int, int]
# owner, shared, ttl_ms, due_ms, note, attempt, lease_id
FrozenWaiter = tuple[bytes, bool, int, int, str, int, int]
# name, permits, holders, waiters
FrozenLock = tuple[str, int, list[FrozenHolder], list[FrozenWaiter]]


def freeze_lock(name: str, lock: Lock) -> FrozenLock:
    # list() first: it runs without a break, a comprehension does not.
    holders, waiters = list(lock.holders.items()), list(lock.waiters.items())
    return (
        name,
        lock.permits,
        [(owner, h.token, h.shared, h.due_ms, h.note, h.attempt, h.lease_id) for owner, h in holders],
        [(owner, w.shared, w.ttl_ms, w.due_ms, w.note, w.attempt, w.lease_id) for owner, w in waiters],
    )


def write_lock(writer: PlainWriter, lock: FrozenLock) -> None:
    name, permits, holders, waiters = lock
    writer.text(name)
    writer.unsigned(permits)
    writer.unsigned(len(holders))
    for owner, token, shared, due_ms, note, attempt, lease_id in holders:
        writer.blob(owner)
        writer.unsigned(token)
        writer.flag(shared)
        writer.unsigned(due_ms)
        writer.text(note)
        writer.unsigned_column([attempt, lease_id])
    writer.unsigned(len(waiters))
    for owner, shared, ttl_ms, due_ms, note, attempt, lease_id in waiters:
        writer.blob(owner)
        writer.flag(shared)
        writer.unsigned(ttl_ms)
        writer.unsigned(due_ms)
        writer.text(note)
        writer.unsigned_column([attempt, lease_id])


def read_lock(reader: PlainReader) -> FrozenLock:
    unsigned, blob, text, flag = reader.unsigned, reader.blob, reader.text, reader.flag
    name, permits = text(), unsigned()
    holders = [
        (blob(), unsigned(), flag(), unsigned(), text(), unsigned(), unsigned()) for _ in range(unsigned())
    ]
    waiters = [
        (blob(), flag(), unsigned(), unsigned(), text(), unsigned(), unsigned()) for _ in range(unsigned())
    ]
    return name, permits, holders, waiters
