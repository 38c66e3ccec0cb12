"""Leases: one lifetime for many things. Keys and places at locks hang on a lease and end when it ends.

A lease ends when it was not kept alive for its ttl on the cluster clock, or is revoked. What hangs on it is
dead at once: its locks are ended in the same entry (so their waiters are granted), its rows are removed bit
by bit (graves.py).

Invariant: keys and places are those that name the lease in their rows and places; they are derived.
"""

from collections.abc import Iterator
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
    """What hangs on it; its times are in LeaseTable.terms."""

    __slots__ = ("keys", "places")

    def __init__(self) -> None:
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
    __slots__ = ("_timers", "_turn", "leases", "terms")

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self.leases: dict[int, Lease] = {}
        # (ttl_ms, due_ms): apart and immutable, so that a copy of this dict is a snapshot.
        self.terms: dict[int, tuple[int, int]] = {}
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
        self.leases[lease_id] = Lease()
        self.terms[lease_id] = (ttl_ms, due_ms)
        self._timers.add(due_ms, lease_id)
        return LeaseResult(lease_id, True, lease_id, ttl_ms)

    def keep(self, lease_id: int) -> LeaseResult:
        if lease_id not in self.leases:
            return LeaseResult(0, False, self._turn.revision, 0)
        ttl_ms, due_ms = self.terms[lease_id]
        self._timers.cancel(due_ms, lease_id)
        due_ms = self._turn.clock_ms + ttl_ms
        self.terms[lease_id] = (ttl_ms, due_ms)
        self._timers.add(due_ms, lease_id)
        return LeaseResult(lease_id, True, self._turn.next_revision(), ttl_ms)

    def end(self, lease_id: int) -> Lease:
        """Takes the lease away, with its event; what hangs on it is the caller's."""
        lease = self.leases.pop(lease_id)
        self._timers.cancel(self.terms.pop(lease_id)[1], lease_id)
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
        ttl_ms, due_ms = self.terms[lease_id]
        remaining_ms = due_ms - self._turn.clock_ms
        return LeaseView(lease_id, ttl_ms, remaining_ms, len(lease.keys), tuple(sorted(lease.places)))

    def keys(self, lease_id: int) -> Iterator[bytes]:
        """Keys that hang on it, ascending, also of rows that are past their own time."""
        lease = self.leases.get(lease_id)
        return iter(()) if lease is None else lease.keys.in_order()

    # --- snapshot ---

    def freeze(self) -> dict[int, tuple[int, int]]:
        """By id: (ttl_ms, due_ms); in ascending order, as ids are given."""
        return self.terms.copy()

    def load(self, frozen: list[tuple[int, int, int]]) -> None:
        for lease_id, ttl_ms, due_ms in frozen:
            self.leases[lease_id] = Lease()
            self.terms[lease_id] = (ttl_ms, due_ms)
            self._timers.add(due_ms, lease_id)

    def check_invariants(self) -> None:
        require(len(self._timers) == len(self.leases), "each lease has one timer")
        require(self.terms.keys() == self.leases.keys(), "each lease has its terms")
        for lease_id, (_, due_ms) in self.terms.items():
            require(due_ms > self._turn.clock_ms, f"lease {lease_id} lives beyond its time")
            require(lease_id <= self._turn.revision, f"lease {lease_id} is ahead of the revision")


def write_lease(writer: PlainWriter, lease: tuple[int, tuple[int, int]]) -> None:
    lease_id, (ttl_ms, due_ms) = lease
    writer.unsigned_column([lease_id, ttl_ms, due_ms])


def read_lease(reader: PlainReader) -> tuple[int, int, int]:
    lease_id, ttl_ms, due_ms = reader.unsigned_column(3)
    return lease_id, ttl_ms, due_ms
