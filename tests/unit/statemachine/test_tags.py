"""Tags: dead at once, removed bit by bit, the same on every node; finding by tags."""

import random

import pytest

from replcache.statemachine import keysets
from replcache.statemachine import store as store_module
from replcache.statemachine.commands import Command, Delete, Get, InvalidateTags, Set, SetMany, Update
from replcache.statemachine.events import Event, EventKind, TagEvent
from replcache.statemachine.keysets import KeySet
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import CountResult, GetResult, SetManyResult, SetResult
from tests.helpers.machine import Driver


def keys_in(driver: Driver) -> list[bytes]:
    return [key for key, _ in driver.machine.scan(b"", b"", 10_000)[0]]


def invalidated(driver: Driver) -> list[bytes]:
    return [e.key for e in driver.events if isinstance(e, Event) and e.kind is EventKind.INVALIDATE]


def test_all_with_the_tag_go_and_only_they() -> None:
    driver = Driver()
    driver.do(
        Set(b"c", b"", tags=("t",)),
        Set(b"a", b"", tags=("u", "t")),
        Set(b"b", b"", tags=("u",)),
        Set(b"d", b""),
    )
    assert driver.one(InvalidateTags(("t", "nobody"))) == CountResult(2, 5)
    assert driver.events[0] == TagEvent(5, "t", 2)
    assert invalidated(driver) == [b"a", b"c"]
    assert [event.revision for event in driver.events] == [5, 6, 7]
    assert keys_in(driver) == [b"b", b"d"]
    driver.machine.check_invariants()


def test_a_tag_that_nobody_has_changes_nothing() -> None:
    driver = Driver()
    driver.one(Set(b"a", b"", tags=("t",)))
    assert driver.one(InvalidateTags(("x",))) == CountResult(0, 1)
    assert driver.events == []


def test_a_key_set_again_in_the_same_entry_lives() -> None:
    driver = Driver()
    driver.one(Set(b"a", b"old", tags=("t",)))
    results = driver.do(InvalidateTags(("t",)), Get(b"a"), Set(b"a", b"new", tags=("t",)))
    assert isinstance(results[1], GetResult)
    assert results[1].entry is None
    assert isinstance(results[2], SetResult)
    assert results[2].version == 1
    assert keys_in(driver) == [b"a"]
    # Its end was told before its new beginning.
    kinds = [event.kind for event in driver.events if isinstance(event, Event)]
    assert kinds == [EventKind.INVALIDATE, EventKind.PUT]


def test_in_an_atomic_batch_order_decides() -> None:
    driver = Driver()
    driver.do(Set(b"old", b"", tags=("t",)), Set(b"both", b"", tags=("t",)))
    driver.atomic(
        Set(b"before", b"", tags=("t",)),
        InvalidateTags(("t",)),
        Set(b"after", b"", tags=("t",)),
        Set(b"both", b"x"),
    )
    assert keys_in(driver) == [b"after", b"both"]
    assert driver.machine.peek(b"both") is not None
    driver.machine.check_invariants()
    driver.one(InvalidateTags(("t",)))
    assert keys_in(driver) == [b"both"]


def test_an_aborted_batch_invalidates_nothing() -> None:
    driver = Driver()
    driver.one(Set(b"a", b"", tags=("t",)))
    driver.atomic(InvalidateTags(("t",)), Update(b"nothing", append=b""))
    assert keys_in(driver) == [b"a"]
    assert driver.machine.revision == 1


def test_updates_keep_the_tags_and_a_later_write_without_them_drops_them() -> None:
    driver = Driver()
    driver.do(
        Set(b"a", b"1", tags=("t",)), Set(b"b", b"1", tags=("t",)), Update(b"a", append=b"2"), Set(b"b", b"2")
    )
    driver.one(InvalidateTags(("t",)))
    assert keys_in(driver) == [b"b"]


def test_very_many_die_at_once_and_are_removed_bit_by_bit_equally_everywhere(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several invalidations overlap, keys come back and die again, and a node is restored at every entry."""
    monkeypatch.setattr(store_module, "REMOVALS_PER_ENTRY_MAX", 7)
    monkeypatch.setattr(keysets, "SORTED_AT_ONCE", 20)
    driver = Driver()
    living: dict[bytes, tuple[str, ...]] = {}
    behind = 0
    for step in range(150):
        ops = []
        for _ in range(rng.randrange(12)):
            key, tags = b"%03d" % rng.randrange(200), tuple(rng.sample(["t", "u", "v"], rng.randrange(3)))
            ops.append(Set(key, b"%d" % step, tags=tags, ttl_ms=rng.choice([0, 0, 50])))
            living[key] = tags
        tag = rng.choice(["t", "u", "v"])
        if rng.random() < 0.2:
            ops.append(InvalidateTags((tag,)))
            living = {key: tags for key, tags in living.items() if tag not in tags}
        copy = StateMachine.restore(driver.machine.begin_snapshot().chunks())
        driver.clock_ms += rng.choice([0, 0, 10])
        driver.do(*ops)
        copied = copy.apply(copy.applied_index + 1, driver.payloads[-1])
        assert driver.applied is not None
        assert [repr(event) for event in copied.events] == [repr(event) for event in driver.applied.events]
        assert copy.digest() == driver.machine.digest()
        assert copy.chain == driver.machine.chain
        driver.machine.check_invariants()
        copy.check_invariants()
        assert set(keys_in(driver)) <= set(living)
        behind = max(behind, driver.machine.statistics().keys - len(keys_in(driver)))
        for wanted in (["t"], ["t", "u"]):
            pages, after = [], b""
            while after is not None:
                page, after = driver.machine.find_page(wanted, after, 3)
                pages += [key for key, _ in page]
            assert pages == [key for key in keys_in(driver) if set(wanted) <= set(living[key])]
    assert behind > 0
    while driver.machine.next_due_ms() is not None:
        driver.pass_ms(50)
    assert driver.machine.statistics().keys == len(keys_in(driver))
    assert driver.machine.store.tags.invalidated == {}


def test_next_due_asks_for_ticks_until_all_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "REMOVALS_PER_ENTRY_MAX", 2)
    driver = Driver()
    driver.do(*(Set(b"%d" % number, b"", tags=("t",)) for number in range(5)))
    driver.one(InvalidateTags(("t",)))
    ticks = 0
    while driver.machine.next_due_ms() is not None:
        assert driver.machine.next_due_ms() == driver.clock_ms
        driver.pass_ms(0)
        ticks += 1
    assert ticks == 2
    assert driver.machine.statistics().keys == 0


def test_find_of_nothing() -> None:
    driver = Driver()
    driver.do(Set(b"a", b"", tags=("t",)), Delete(b"a"))
    assert driver.machine.find_page([], b"", 10) == ([], None)
    assert driver.machine.find_page(["t"], b"", 10) == ([], None)
    assert driver.machine.find_page(["t", "x"], b"", 10) == ([], None)


def test_a_key_set_in_order_also_when_large(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keysets, "SORTED_AT_ONCE", 50)
    keys = KeySet()
    model: set[bytes] = set()
    for _ in range(3000):
        key = b"%d" % rng.randrange(200)
        if rng.random() < 0.6:
            keys.add(key)
            model.add(key)
        else:
            keys.discard(key)
            model.discard(key)
    assert len(keys) == len(model) > 50
    assert list(keys.in_order()) == sorted(model)
    assert list(keys.in_order(b"15")) == sorted(key for key in model if key > b"15")


@pytest.mark.parametrize("atomic", [False, True])
def test_columns_over_a_dead_key_start_over_with_its_end_told_first(atomic: bool) -> None:
    driver = Driver()
    driver.do(Set(b"a", b"1", tags=("t",)), Set(b"a", b"2", tags=("t",)))
    results = driver.run(
        Command((InvalidateTags(("t",)),)),
        Command(set_many=SetMany([b"a", b"b"], [b"3", b"4"]), atomic=atomic),
    )
    assert results[1] == SetManyResult([1, 1], 5)
    kinds = [(event.kind, event.revision) for event in driver.events if isinstance(event, Event)]
    last = 5 if atomic else 6
    assert kinds == [(EventKind.INVALIDATE, 4), (EventKind.PUT, 5), (EventKind.PUT, last)]
    driver.machine.check_invariants()
