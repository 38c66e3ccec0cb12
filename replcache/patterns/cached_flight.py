"""One load of a key at a time in this process, for threads and for tasks, without deadlocks.

A flight is one load that others may wait for. Two things make sharing its outcome subtle.

Outdated outcomes: who asks after an invalidation must not get what was loaded before it. A flight is
`sealed` just before its fill is sent (or, when it has no right to fill, before it loads). Who joined before
the seal may share the outcome if the fill was taken: an invalidation between claim and fill would have made
the cluster refuse it. Who comes later waits for the end and then looks into the cache.

Deadlocks: a load may call cached functions itself, so that two of them could wait for each other's flights.
Each flight knows what its load waits for; nobody waits when that closes a circle, but loads for himself. Nor
does anybody wait, inside of a load, for a flight that queues for a lock in the cluster: what goes on behind
that is not visible here.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from replcache.patterns.cached_stored import Outcome

# The flights whose loads this thread or task is inside of, innermost last.
_held: "ContextVar[tuple[Flight, ...]]" = ContextVar("replcache_cached_held", default=())
# Guards all flights: what waits for what is a graph across all functions.
_guard = threading.Lock()


class Flight:
    """One load. Fields are written under the guard, or by the leader before it is done."""

    __slots__ = ("_callbacks", "is_done", "is_queueing", "is_sealed", "outcome", "waits_for")

    def __init__(self, is_queueing: bool) -> None:
        self.is_queueing = is_queueing
        self.is_sealed = False
        self.is_done = False
        # What those who joined before the seal may take; None: nothing, they try again.
        self.outcome: Outcome | None = None
        self.waits_for: list[Flight] = []
        self._callbacks: list[Callable[[], None]] = []

    def seal(self) -> None:
        with _guard:
            self.is_sealed = True

    def when_done(self, callback: Callable[[], None]) -> None:
        """Calls back at the end, or at once; in the leader's thread, so it must not block."""
        with _guard:
            if not self.is_done:
                self._callbacks.append(callback)
                return
        callback()

    def end(self, outcome: Outcome | None) -> list[Callable[[], None]]:
        """Under the guard; whom to call back when it has been given up."""
        self.outcome = outcome
        self.is_done = True
        callbacks, self._callbacks = self._callbacks, []
        return callbacks


class Flights:
    """The flights of one decorated function, by key."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, Flight] = {}

    def join(self, key: Hashable, is_queueing: bool) -> tuple[Flight, bool, bool]:
        """(flight, whether the caller leads it, whether its outcome may be shared)."""
        with _guard:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False, not flight.is_sealed
            flight = self._flights[key] = Flight(is_queueing)
            return flight, True, True

    def finish(self, key: Hashable, flight: Flight, outcome: Outcome | None) -> None:
        """outcome: None when it must not be shared."""
        with _guard:
            if self._flights.get(key) is flight:
                del self._flights[key]
            callbacks = flight.end(outcome)
        for callback in callbacks:
            callback()


@contextmanager
def waiting_for(flight: Flight) -> Iterator[bool]:
    """Whether the caller may wait for `flight`; while inside, it counts as waiting."""
    held = _held.get()
    if not held:
        yield True
        return
    with _guard:
        allowed = not flight.is_queueing and not _leads_to(flight, held)
        if allowed:
            for own in held:
                own.waits_for.append(flight)
    try:
        yield allowed
    finally:
        if allowed:
            with _guard:
                for own in held:
                    own.waits_for.remove(flight)


@contextmanager
def loading(flight: Flight | None) -> Iterator[None]:
    """The load of a flight runs inside; None: a load that nobody waits for."""
    if flight is None:
        flight = Flight(False)
    token = _held.set((*_held.get(), flight))
    try:
        yield
    finally:
        _held.reset(token)


def is_inside_a_load() -> bool:
    return any(not flight.is_done for flight in _held.get())


def _leads_to(start: Flight, held: tuple[Flight, ...]) -> bool:
    """Whether `start` is, or waits for, one of `held`."""
    seen: set[int] = set()
    stack = [start]
    while stack:
        flight = stack.pop()
        if any(flight is own for own in held):
            return True
        if id(flight) not in seen:
            seen.add(id(flight))
            stack += flight.waits_for
    return False
