"""Expiry on the cluster clock, with bounded work; the timers behind it against a plain dictionary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replcache.statemachine import store as store_module
from replcache.statemachine.commands import Accessed, Command, Get, Increment, Op, Set, SetMany, Touch, Update
from replcache.statemachine.events import Event, EventKind
from replcache.statemachine.expiry import STALE_SLOTS_MAX, Timers
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import GetResult, IncrementResult, SetResult
from tests.helpers.machine import Driver


def expired(driver: Driver) -> list[bytes]:
    return [e.key for e in driver.events if isinstance(e, Event) and e.kind is EventKind.EXPIRE]


def test_an_entry_goes_when_its_time_has_come_not_before() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"v", ttl_ms=100))
    driver.pass_ms(99)
    assert driver.machine.peek(b"k") is not None
    driver.pass_ms(1)
    assert driver.machine.peek(b"k") is None
    assert expired(driver) == [b"k"]
    assert driver.machine.statistics().keys == 0


def test_the_clock_never_goes_back() -> None:
    driver = Driver()
    driver.pass_ms(1000)
    driver.clock_ms = 10
    driver.one(Set(b"k", b"v", ttl_ms=100))
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert entry.expires_at_ms == 1100
    assert driver.machine.clock_ms == 1000


def test_due_entries_go_in_order_of_time_then_key() -> None:
    driver = Driver()
    driver.do(
        Set(b"z", b"", ttl_ms=50),
        Set(b"b", b"", ttl_ms=70),
        Set(b"a", b"", ttl_ms=70),
        Set(b"y", b"", ttl_ms=90),
    )
    driver.pass_ms(80)
    assert expired(driver) == [b"z", b"a", b"b"]
    assert [event.revision for event in driver.events] == [5, 6, 7]


def test_idle_expiry_slides_with_writes_and_touches_and_ends_at_the_hard_limit() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"1", ttl_ms=1000, idle_ttl_ms=300))
    for _ in range(3):
        driver.pass_ms(299)
        assert isinstance(driver.one(Increment(b"k", 1)), IncrementResult)
    driver.pass_ms(102)
    assert driver.machine.peek(b"k") is not None
    driver.pass_ms(1)
    assert expired(driver) == [b"k"]


@pytest.mark.parametrize(
    "access",
    [
        Update(b"k", append=b"x"),
        Update(b"k", append=b"x", content_type="a/b"),
        Update(b"k", replace=b"x", ttl_ms=5000),
        Increment(b"k", 1),
        Set(b"k", b"", keep_ttl=True),
        Get(b"k"),
        Accessed((b"k",)),
        Touch(b"k", 5000, 300),
    ],
)
def test_every_access_in_the_log_starts_the_idle_time_anew(access: Op) -> None:
    driver = Driver()
    driver.one(Set(b"k", b"1", ttl_ms=5000, idle_ttl_ms=300))
    driver.pass_ms(200)
    driver.one(access)
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert (entry.expires_at_ms, entry.idle_ttl_ms) == (500, 300)
    driver.pass_ms(299)
    assert driver.machine.peek(b"k") is not None
    driver.pass_ms(1)
    assert driver.machine.peek(b"k") is None


@pytest.mark.parametrize(
    ("change", "expires_at_ms"),
    [
        (Update(b"k", append=b"x"), 1000),
        (Update(b"k", append=b"x", ttl_ms=50), 250),
        (Update(b"k", append=b"x", ttl_ms=0), 0),
        (Update(b"k", append=b"x", content_type="a/b"), 1000),
        (Set(b"k", b"", keep_ttl=True, ttl_ms=7), 1000),
        (Set(b"k", b"", ttl_ms=7), 207),
        (Set(b"k", b""), 0),
        (Increment(b"k", 1, ttl_ms=7), 1000),
        (Touch(b"k", 7), 207),
        (Touch(b"k"), 0),
    ],
)
def test_what_each_write_does_to_the_ttl(change: Op, expires_at_ms: int) -> None:
    driver = Driver()
    driver.one(Set(b"k", b"1", ttl_ms=1000))
    driver.pass_ms(200)
    driver.one(change)
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert entry.expires_at_ms == expires_at_ms
    driver.machine.check_invariants()


def test_touch_replaces_both_limits() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"1", ttl_ms=100, idle_ttl_ms=50))
    driver.one(Touch(b"k"))
    driver.pass_ms(10_000)
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert (entry.expires_at_ms, entry.idle_ttl_ms, entry.version, entry.mod_revision) == (0, 0, 1, 1)
    assert driver.machine.next_due_ms() is None


def test_an_expired_key_starts_over() -> None:
    driver = Driver()
    driver.do(Set(b"k", b"1", ttl_ms=10), Set(b"k", b"2", ttl_ms=10))
    driver.clock_ms += 10
    result = driver.one(Set(b"k", b"3"))
    assert result == SetResult(1, 4)
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert entry.create_revision == 4


def test_removals_are_bounded_but_nothing_expired_is_ever_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog of dead entries: invisible to every operation, each gone with its own event first."""
    monkeypatch.setattr(store_module, "REMOVALS_PER_ENTRY_MAX", 10)
    driver = Driver()
    keys = [b"%03d" % number for number in range(100)]
    driver.run(Command(set_many=SetMany(keys, [b"old"] * 100, "", 1000)))
    driver.pass_ms(1000)
    assert expired(driver) == keys[:10]
    machine = driver.machine
    assert machine.statistics().keys == 90
    assert machine.peek_many(keys) == [None] * 100
    assert machine.scan(b"", b"", 1000) == ([], False)
    assert machine.next_due_ms() == 1000
    restored = StateMachine.restore(machine.begin_snapshot().chunks())
    assert restored.digest() == machine.digest()
    got = driver.one(Get(b"050"))
    assert isinstance(got, GetResult)
    assert got.entry is None
    assert expired(driver) == [*keys[10:20], b"050"]
    restored.apply(restored.applied_index + 1, driver.payloads[-1])
    driver.atomic(Set(b"060", b"new"), Increment(b"061", 5))
    assert [(e.key, e.kind) for e in driver.events if isinstance(e, Event)][10:] == [
        (b"060", EventKind.EXPIRE),
        (b"061", EventKind.EXPIRE),
        (b"060", EventKind.PUT),
        (b"061", EventKind.PUT),
    ]
    restored.apply(restored.applied_index + 1, driver.payloads[-1])
    driver.run(Command(set_many=SetMany([b"070", b"071"], [b"new"] * 2)))
    assert [entry and entry.version for entry in machine.peek_many([b"060", b"061", b"070"])] == [1, 1, 1]
    restored.apply(restored.applied_index + 1, driver.payloads[-1])
    assert restored.digest() == machine.digest()
    while machine.next_due_ms() is not None:
        driver.pass_ms(0)
        machine.check_invariants()
    assert [key for key, _ in machine.scan(b"", b"", 1000)[0]] == [b"060", b"061", b"070", b"071"]
    watched = set(keys)
    for event in machine.events_since(1, 10_000) or []:
        if isinstance(event, Event) and event.kind is EventKind.EXPIRE:
            watched.remove(event.key)
    assert watched == set()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 9), st.integers(1, 400)),
        st.tuples(st.just("many"), st.integers(0, 9), st.integers(1, 400)),
        st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 150), st.just(0)),
    )
)


@given(actions)
def test_timers_against_a_dictionary(steps: list[tuple[str, int, int]]) -> None:
    timers: Timers[int] = Timers()
    model: dict[int, int] = {}
    clock = 0
    for action, number, delay in steps:
        if action == "wait":
            clock += number
            expected = sorted((due, key) for key, due in model.items() if due <= clock)
            found = []
            for due, key in timers.due(clock):
                found.append((due, key))
                timers.cancel(due, key)
                del model[key]
            assert found == expected
        elif action == "cancel":
            if number in model:
                timers.cancel(model.pop(number), number)
        else:
            keys = [number] if action == "set" else [number, (number + 1) % 10, number]
            for key in keys:
                if key in model:
                    timers.cancel(model.pop(key), key)
            if action == "set":
                timers.add(clock + delay, number)
            else:
                timers.add_many(clock + delay, keys)
            model.update(dict.fromkeys(keys, clock + delay))
        assert len(timers) == len(model)
        next_due = timers.next_due_ms()
        assert (next_due is None) == (not model)
        assert next_due is None or next_due <= min(model.values())


def test_a_key_overwritten_for_ever_leaves_nothing_behind() -> None:
    timers: Timers[bytes] = Timers()
    due = 10**6
    timers.add(due, b"k")
    for step in range(20_000):
        timers.cancel(due, b"k")
        due = 10**6 + step * 64 * 7 % 10**9
        timers.add(due, b"k")
    assert len(timers) == 1
    # The only thing that may stay: numbers of emptied slots, up to a bound.
    assert len(timers._order) <= 2 * STALE_SLOTS_MAX  # no public way to see a leak
