"""History: bounded, in order, never with a gap that it does not admit."""

import random

from replcache.statemachine.commands import Command, Delete, Set, SetMany
from replcache.statemachine.entries import Row
from replcache.statemachine.events import Event, EventKind, PutBatch, expand
from replcache.statemachine.history import EVENT_OVERHEAD_BYTES, History
from replcache.statemachine.machine import StateMachine
from tests.helpers.machine import Driver


def row(revision: int, size: int = 1) -> Row:
    return (b"x" * size, revision, revision, 1, None)


def put(revision: int, size: int = 1) -> Event:
    return Event(revision, EventKind.PUT, b"k", row(revision, size))


def test_since_gives_everything_from_the_revision_on() -> None:
    history = History(1, 100, 10**6)
    history.extend([put(revision) for revision in range(1, 11)])
    assert [event.revision for event in history.since(4, 100) or []] == list(range(4, 11))
    assert [event.revision for event in history.since(4, 3) or []] == [4, 5, 6]
    assert history.since(11, 5) == []
    assert history.since(0, 5) is None


def test_events_of_one_revision_are_never_torn_apart() -> None:
    history = History(1, 100, 10**6)
    history.extend([put(1), put(2), put(2), put(2), put(3)])
    assert [event.revision for event in history.since(2, 1) or []] == [2, 2, 2]
    small = History(1, 2, 10**6)
    small.extend([put(1), put(1), put(1), put(2)])
    assert small.oldest_revision == 2
    assert [event.revision for event in small.since(2, 9) or []] == [2]


def test_a_batch_that_straddles_the_revision_is_returned_whole() -> None:
    history = History(1, 100, 10**6)
    batch = PutBatch(1, 3, [b"a", b"b", b"c"], [row(1), row(2), row(3)])
    history.extend([batch, put(4)])
    found = history.since(2, 10)
    assert found is not None
    assert found[0] is batch
    assert [event.revision for event in expand(found)] == [1, 2, 3, 4]


def test_bounded_by_count_and_by_bytes() -> None:
    by_count = History(1, 50, 10**9)
    by_bytes = History(1, 10**6, 50 * (EVENT_OVERHEAD_BYTES + 2))
    for revision in range(1, 20_001):
        by_count.extend([put(revision)])
        by_bytes.extend([put(revision)])
    for history in (by_count, by_bytes):
        assert len(history) == 50
        assert history.oldest_revision == 19_951
        assert [event.revision for event in history.since(19_951, 100) or []] == list(range(19_951, 20_001))
        assert history.since(19_950, 1) is None
    huge = History(1, 10, 1000)
    huge.extend([put(1, 5000)])
    assert (len(huge), huge.bytes, huge.oldest_revision) == (0, 0, 2)


def test_random_bounds_keep_the_promise(rng: random.Random) -> None:
    """What since() gives from oldest_revision on is exactly the tail of what was put in."""
    history = History(1, 30, 5000)
    everything: list[Event] = []
    for revision in range(1, 2001):
        burst = [put(revision, rng.randrange(300)) for _ in range(rng.randrange(1, 5))]
        history.extend(burst)
        everything += burst
        kept = history.since(history.oldest_revision, 10**6)
        assert kept == [event for event in everything if event.revision >= history.oldest_revision]
        assert len(history) <= 30
        assert history.bytes <= 5000


def test_the_machine_keeps_events_of_every_change_in_order() -> None:
    driver = Driver(StateMachine(history_events_max=1000))
    driver.run(Command(set_many=SetMany([b"a", b"b"], [b"1", b"2"])))
    driver.run(Command(set_many=SetMany([b"a", b"b"], [b"3", b"4"]), atomic=True))
    driver.do(Delete(b"a"), Delete(b"a"), Set(b"c", b"5", ttl_ms=10))
    driver.pass_ms(10)
    events = driver.machine.events_since(1, 100)
    assert events is not None
    found = [
        (e.revision, e.kind.name, e.key, e.entry and e.entry.value)
        for e in expand(events)
        if isinstance(e, Event)
    ]
    assert found == [
        (1, "PUT", b"a", b"1"),
        (2, "PUT", b"b", b"2"),
        (3, "PUT", b"a", b"3"),
        (3, "PUT", b"b", b"4"),
        (4, "DELETE", b"a", None),
        (5, "PUT", b"c", b"5"),
        (6, "EXPIRE", b"c", None),
    ]
