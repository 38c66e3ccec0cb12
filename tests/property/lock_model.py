"""The naive model of locks: lists, searched from the front; time in one loop, millisecond by millisecond
events.

Written from the documented behaviour: one holder or many shared or up to `permits`; first come first served;
waiters whose time is over go before holders whose time is over; an owner has one place.
"""

from dataclasses import dataclass

from replcache.statemachine.commands import LockAcquire, LockRelease, LockRenew


@dataclass
class Place:
    name: str
    owner: bytes
    shared: bool
    permits: int
    ttl: int
    attempt: int
    # Holders: end of the lock; waiters: end of the waiting.
    due: int
    token: int = 0


class LockModel:
    def __init__(self) -> None:
        # All places of all locks in order of arrival (waiters) and of grants (holders).
        self.holders: list[Place] = []
        self.waiters: list[Place] = []
        self.clock = 0
        self.revision = 0
        self.granted: list[tuple[str, bytes, int]] = []

    def of(self, places: list[Place], name: str) -> list[Place]:
        return [place for place in places if place.name == name]

    def place(self, places: list[Place], name: str, owner: bytes) -> Place | None:
        return next((place for place in places if (place.name, place.owner) == (name, owner)), None)

    def fits(self, wanted: Place) -> bool:
        others = self.of(self.holders, wanted.name)
        if not others:
            return True
        if wanted.permits > 1:
            return len(others) < wanted.permits
        return wanted.shared and all(other.shared for other in others)

    def grant(self, place: Place) -> None:
        self.revision += 1
        place.token, place.due = self.revision, self.clock + place.ttl
        self.holders.append(place)
        self.granted.append((place.name, place.owner, place.token))

    def move(self, name: str) -> None:
        for place in self.of(self.waiters, name):
            if not self.fits(place):
                return
            self.waiters.remove(place)
            self.grant(place)

    def tick(self, clock: int) -> None:
        self.clock = max(self.clock, clock)
        self.granted = []
        touched = []
        for places in (self.waiters, self.holders):
            due = [place for place in places if place.due <= self.clock]
            for place in sorted(due, key=lambda place: (place.due, place.name, place.owner)):
                places.remove(place)
                self.revision += 1
                touched.append(place.name)
        for name in dict.fromkeys(touched):
            self.move(name)

    def acquire(self, op: LockAcquire) -> tuple[object, ...] | str:
        permits = op.permits or 1
        if op.ttl_ms <= 0 or (op.shared and permits > 1):
            return "INVALID"
        there = self.of(self.holders, op.name)
        if there and there[0].permits != permits:
            return "INVALID"
        holder = self.place(self.holders, op.name, op.owner)
        waiter = self.place(self.waiters, op.name, op.owner)
        known = holder or waiter
        if known is not None and known.shared != op.shared:
            return "INVALID"
        if holder is not None:
            holder.due, holder.attempt = self.clock + op.ttl_ms, op.attempt
            self.revision += 1
            return ("held", holder.token)
        wanted = Place(op.name, op.owner, op.shared, permits, op.ttl_ms, op.attempt, self.clock + op.wait_ms)
        if waiter is None and not self.of(self.waiters, op.name) and self.fits(wanted):
            self.grant(wanted)
            return ("held", wanted.token)
        if op.wait_ms <= 0:
            return "LOCK_BUSY"
        self.revision += 1
        if waiter is None:
            self.waiters.append(wanted)
        else:
            waiter.ttl, waiter.attempt, waiter.due = op.ttl_ms, op.attempt, self.clock + op.wait_ms
        queue = [place.owner for place in self.of(self.waiters, op.name)]
        return ("waits", queue.index(op.owner) + 1)

    def renew(self, op: LockRenew) -> tuple[object, ...] | str:
        holder = self.place(self.holders, op.name, op.owner)
        if holder is None or holder.token != op.token:
            return "LOCK_LOST"
        if op.ttl_ms <= 0:
            return "INVALID"
        holder.due = self.clock + op.ttl_ms
        self.revision += 1
        return ("held", holder.token)

    def release(self, op: LockRelease) -> tuple[object, ...]:
        holder = self.place(self.holders, op.name, op.owner)
        waiter = self.place(self.waiters, op.name, op.owner)
        if holder is not None and op.token in (0, holder.token) and op.attempt in (0, holder.attempt):
            self.holders.remove(holder)
        elif waiter is not None and op.token == 0 and op.attempt in (0, waiter.attempt):
            self.waiters.remove(waiter)
        else:
            return ("released", False)
        self.revision += 1
        self.move(op.name)
        return ("released", True)
