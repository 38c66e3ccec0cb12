"""Leases: one lifetime for many things. Keys and places at locks hang on a lease and end when it ends.

A lease ends when it was not kept alive for its ttl on the cluster clock, or is revoked. What hangs on it is
dead at once: its locks are ended in the same entry (so their waiters are granted), its rows are removed bit
by bit (graves.py).

Invariant: keys and places are those that name the lease in their rows and places; they are derived.
"""

from dataclasses import dataclass
from typing import Final

from replcache.statemachine.events import LeaseEvent
from replcache.statemachine.expiry import Timers
from replcache.statemachine.invariants import require
from replcache.statemachine.keysets import KeySet
from replcache.statemachine.plain import PlainReader, PlainWriter
from replcache.statemachine.results import LeaseResult, Refusal, RefusalCode
from replcache.statemachine.turn import Turn

LEASES_MAX: Final = 100_000


class Lease:
    __slots__ = ("due_ms", "keys", "places", "ttl_ms")

    def __init__(self, ttl_ms: int, due_ms: int) -> None:
        self.ttl_ms = ttl_ms
        self.due_ms = due_ms
        self.keys = KeySet()
        # (lock name, owner); the values mean nothing.
        self.places: dict[tuple[str, bytes], None] = {}


@dataclass(frozen=True, slots=True)
class LeaseView:
    """places: (lock name, owner) of all locks held or waited for with it."""

    lease_id: int
    ttl_ms: int
    expires_in_ms: int
    keys: int
    places: tuple[tuple[str, bytes], ...]


class LeaseTable:
    __slots__ = ("_timers", "_turn", "leases")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.leases: dict[int, Lease] = {}
        self._timers: Timers[int] = Timers()

    # --- operations ---

    def grant(self, ttl_ms: int) -> LeaseResult | Refusal:
        """The id is the revision of the grant: never given twice."""
        if ttl_ms <= 0:
            return Refusal(RefusalCode.INVALID, f"lease ttl {ttl_ms} ms: must be above 0")
        if len(self.leases) >= LEASES_MAX:
            return Refusal(RefusalCode.QUOTA_EXCEEDED, f"there are {LEASES_MAX} leases already")
        lease_id = self._turn.next_revision()
        due_ms = self._turn.clock_ms + ttl_ms
        self.leases[lease_id] = Lease(ttl_ms, due_ms)
        self._timers.add(due_ms, lease_id)
        return LeaseResult(lease_id, True, lease_id, ttl_ms)

    def keep(self, lease_id: int) -> LeaseResult:
        lease = self.leases.get(lease_id)
        if lease is None:
            return LeaseResult(0, False, self._turn.revision, 0)
        self._timers.cancel(lease.due_ms, lease_id)
        lease.due_ms = self._turn.clock_ms + lease.ttl_ms
        self._timers.add(lease.due_ms, lease_id)
        return LeaseResult(lease_id, True, self._turn.next_revision(), lease.ttl_ms)

    def end(self, lease_id: int) -> Lease:
        """Takes the lease away, with its event; what hangs on it is the caller's."""
        lease = self.leases.pop(lease_id)
        self._timers.cancel(lease.due_ms, lease_id)
        self._turn.events.append(LeaseEvent(self._turn.next_revision(), lease_id, len(lease.keys)))
        return lease

    # --- time ---

    def next_due_ms(self) -> int | None:
        return self._timers.next_due_ms()

    def expire(self) -> list[tuple[int, Lease]]:
        """Ends what is due."""
        return [(lease_id, self.end(lease_id)) for _, lease_id in self._timers.due(self._turn.clock_ms)]

    # --- what hangs on a lease; lease 0 is none ---

    def link_key(self, lease_id: int, key: bytes) -> None:
        """A row that is dead because its lease has ended hangs on nothing."""
        lease = self.leases.get(lease_id)
        if lease is not None:
            lease.keys.add(key)

    def unlink_key(self, lease_id: int, key: bytes) -> None:
        lease = self.leases.get(lease_id)
        if lease is not None:
            lease.keys.discard(key)

    def link_place(self, lease_id: int, name: str, owner: bytes) -> None:
        if lease_id:
            self.leases[lease_id].places[name, owner] = None

    def unlink_place(self, lease_id: int, name: str, owner: bytes) -> None:
        lease = self.leases.get(lease_id)
        if lease is not None:
            lease.places.pop((name, owner), None)

    def describe(self, lease_id: int) -> LeaseView | None:
        lease = self.leases.get(lease_id)
        if lease is None:
            return None
        remaining_ms = lease.due_ms - self._turn.clock_ms
        return LeaseView(lease_id, lease.ttl_ms, remaining_ms, len(lease.keys), tuple(sorted(lease.places)))

    # --- snapshot ---

    def freeze(self) -> list[tuple[int, int, int]]:
        return [(lease_id, lease.ttl_ms, lease.due_ms) for lease_id, lease in sorted(self.leases.items())]

    def load(self, frozen: list[tuple[int, int, int]]) -> None:
        for lease_id, ttl_ms, due_ms in frozen:
            self.leases[lease_id] = Lease(ttl_ms, due_ms)
            self._timers.add(due_ms, lease_id)

    def check_invariants(self) -> None:
        require(len(self._timers) == len(self.leases), "each lease has one timer")
        for lease_id, lease in self.leases.items():
            require(lease.due_ms > self._turn.clock_ms, f"lease {lease_id} lives beyond its time")
            require(lease_id <= self._turn.revision, f"lease {lease_id} is ahead of the revision")


def write_lease(writer: PlainWriter, lease: tuple[int, int, int]) -> None:
    writer.unsigned_column(list(lease))


def read_lease(reader: PlainReader) -> tuple[int, int, int]:
    lease_id, ttl_ms, due_ms = reader.unsigned_column(3)
    return lease_id, ttl_ms, due_ms
