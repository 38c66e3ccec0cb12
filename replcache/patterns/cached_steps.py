"""What happens in a call that the cache can't answer at once, written down once for both colours.

The functions here are generators: they decide, and yield what is to be done; cached_drivers.py does it, with
threads or with tasks, and sends back what came of it. No I/O, no clock, no waiting here.

    seen -> fresh: answer. missing, outdated, or drawn for an early refresh:
      one flight a key in this process (single_flight)
        one loader a key in the cluster (single_flight="cluster": the lock, then look again)
          claim -> load -> fill

The right to fill (decisions 0100 and 0110) is the revision of the entry that was there when the load began: a
placeholder that the claim put there, or the old value. The fill is refused when that is not the key's last
change any more: whatever happened in between, the loaded value may be older than it.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from replcache.patterns.cached_flight import Flight, Flights, is_inside_a_load
from replcache.patterns.cached_info import Counts
from replcache.patterns.cached_policy import Policy
from replcache.patterns.cached_stored import Found, Kind, Outcome

# --- what is to be done; the comment says what is sent back -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """Read the key. -> Found"""


@dataclass(frozen=True, slots=True)
class Claim:
    """Put a placeholder under the key if it is missing, or in the place of what `over` changed last.
    -> its revision; 0: refused."""

    over: int = 0


@dataclass(frozen=True, slots=True)
class Renew:
    """Write the entry of `found` once more as it is, so that fills that began before are refused.
    -> its new revision; 0: refused."""

    found: Found


@dataclass(frozen=True, slots=True)
class Load:
    """Call the function, for those who wait for `flight`. -> Outcome"""

    flight: Flight | None


@dataclass(frozen=True, slots=True)
class Fill:
    """Store the outcome in the place of what `revision` put there. -> whether the cluster took it"""

    revision: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove what `revision` put there; 0: whatever is there. -> whether there was something"""

    revision: int


@dataclass(frozen=True, slots=True)
class Lock:
    """Take the key's lock in the cluster; it is given back at the end. -> whether it was granted in time"""

    is_waiting: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Until the flight has ended. -> whether it has; False: not within the time to wait, or the wait could
    never end."""

    flight: Flight


Step = Look | Claim | Renew | Load | Fill | Clear | Lock | Wait
Steps = Generator[Step, Any, Outcome]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a decorated function."""

    key: str
    policy: Policy
    flights: Flights
    counts: Counts


# --- calls ------------------------------------------------------------------------------------------------


def answer(call: Call, seen: Found) -> Steps:
    """Of a call that found nothing fresh, or that was drawn to refresh early."""
    while True:
        if call.policy.single_flight is None:
            return (yield from _fly(call, seen, None))
        is_queueing = call.policy.single_flight == "cluster"
        flight, leads, shares = call.flights.join(call.key, is_queueing)
        if leads:
            return (yield from _lead(call, seen, flight))
        if seen.is_fresh:
            # Somebody else refreshes it already.
            return _hit(call, seen)
        call.counts.add("waits")
        has_ended = yield Wait(flight)
        if not has_ended:
            return (yield from _fly(call, seen, None))
        if shares and flight.outcome is not None:
            call.counts.add("hits")
            return flight.outcome
        seen = yield Look()
        if seen.is_fresh:
            return _hit(call, seen)


def _lead(call: Call, seen: Found, flight: Flight) -> Steps:
    shared: Outcome | None = None
    try:
        outcome, is_proven = yield from _in_the_cluster(call, seen, flight)
        # The end of the load is known to be no older than anything that was announced before the seal.
        shared = outcome if is_proven else None
        return outcome
    finally:
        call.flights.finish(call.key, flight, shared)


def _fly(call: Call, seen: Found, flight: Flight | None) -> Steps:
    outcome, _ = yield from _in_the_cluster(call, seen, flight)
    return outcome


def _in_the_cluster(
    call: Call, seen: Found, flight: Flight | None
) -> Generator[Step, Any, tuple[Outcome, bool]]:
    """(outcome, whether it may be shared)."""
    has_lock = False
    if call.policy.single_flight == "cluster" and seen.kind is not Kind.UNREACHABLE:
        # Nobody waits in a queue inside of a load, nor for a refresh that somebody else does already.
        has_lock = yield Lock(not seen.is_fresh and not is_inside_a_load())
        if not has_lock and seen.is_fresh:
            return _hit(call, seen), False
        if has_lock:
            before, seen = seen, (yield Look())
            # The same fresh entry as before is the one that is to be refreshed early.
            if seen.is_fresh and not (before.is_fresh and before.revision == seen.revision):
                return _hit(call, seen), False
    if flight is not None:
        flight.is_queueing = False
    return (yield from _load_and_fill(call, seen, flight, has_lock))


def _load_and_fill(
    call: Call, seen: Found, flight: Flight | None, has_lock: bool
) -> Generator[Step, Any, tuple[Outcome, bool]]:
    if seen.is_fresh:
        call.counts.add("early")
    revision, seen = yield from _right_to_fill(call, seen, has_lock)
    if seen.is_fresh and not revision:
        return _hit(call, seen), False
    if not revision and flight is not None:
        flight.seal()
    outcome: Outcome = yield Load(flight)
    return (yield from finish(call, seen, revision, outcome, flight))


def _right_to_fill(call: Call, seen: Found, has_lock: bool) -> Generator[Step, Any, tuple[int, Found]]:
    """(revision or 0, what is known to be there)."""
    if seen.kind is Kind.MISSING:
        revision = yield Claim()
        if revision:
            return revision, seen
        seen = yield Look()
        if seen.is_fresh:
            return 0, seen
    if seen.kind is Kind.LOADING and has_lock:
        # Whoever put it there does not hold the lock any more: dead, or slower than it may be.
        revision = yield Claim(seen.revision)
        return revision, seen
    if seen.kind is Kind.FILLED:
        return seen.revision, seen
    return 0, seen


def finish(
    call: Call, seen: Found, revision: int, outcome: Outcome, flight: Flight | None
) -> Generator[Step, Any, tuple[Outcome, bool]]:
    """After the load: store, clear, or fall back to what there was."""
    policy, counts = call.policy, call.counts
    counts.add("loads")
    counts.add("load_s", outcome.load_s)
    if flight is not None:
        flight.seal()
    if not policy.is_answer(outcome):
        return (yield from _failed(call, seen, revision, outcome))
    counts.add("misses")
    if not revision:
        # The flight was sealed before the load began: newer than all who share it.
        return outcome, True
    if not policy.is_stored(outcome):
        # Also when there was an older value: the newest answer is one that is not to be kept.
        return outcome, (yield Clear(revision))
    taken = yield Fill(revision, outcome)
    counts.add("stored" if taken else "refused")
    return outcome, taken


def _failed(
    call: Call, seen: Found, revision: int, outcome: Outcome
) -> Generator[Step, Any, tuple[Outcome, bool]]:
    """The load ended with an error that is no answer: what there was is served while it may be."""
    counts = call.counts
    old = seen.outcome
    if old is not None and (seen.is_fresh or (call.policy.stale_ms and old.error is None)):
        counts.add("hits" if seen.is_fresh else "stale")
        now: Found = yield Look()
        # Still there after the seal: nobody has invalidated it, and those who wait may have it too.
        return old, now.revision == seen.revision
    counts.add("misses")
    if not revision:
        return outcome, True
    if seen.kind is Kind.FILLED:
        return outcome, False
    return outcome, (yield Clear(revision))


def refresh(call: Call) -> Steps:
    """Loads whatever is there, and refuses the fills of all loads that began before. When it ends without an
    error, nothing older than its load is in the cache."""
    while True:
        seen: Found = yield Look()
        revision = 0
        if seen.kind is Kind.MISSING:
            revision = yield Claim()
        elif seen.kind is Kind.LOADING:
            revision = yield Claim(seen.revision)
        elif seen.kind is Kind.FILLED:
            revision = yield Renew(seen)
        if revision:
            break
    outcome: Outcome = yield Load(None)
    # An explicit wish is not answered with what there was.
    there = Found(Kind.FILLED if seen.kind is Kind.FILLED else Kind.LOADING, revision)
    outcome, is_proven = yield from finish(call, there, revision, outcome, None)
    if not is_proven and call.policy.is_answer(outcome):
        # Another refresh came in between, and may have written the old value once more.
        yield Clear(0)
    return outcome


def _hit(call: Call, seen: Found) -> Outcome:
    assert seen.outcome is not None
    return count_hit(call.counts, seen.outcome)


def count_hit(counts: Counts, outcome: Outcome) -> Outcome:
    counts.add("hits")
    if outcome.error is not None or outcome.value is None:
        counts.add("negative")
    return outcome
