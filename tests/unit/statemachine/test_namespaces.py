"""Namespaces: exact accounting, quotas, counting what was there before."""

import random

import pytest

from replcache.statemachine import namespaces
from replcache.statemachine.commands import (
    Command,
    Delete,
    DeleteRange,
    Evict,
    Increment,
    InvalidateTags,
    NamespaceRemove,
    NamespaceSet,
    Op,
    Set,
    SetMany,
    Update,
)
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.namespaces import ENTRY_OVERHEAD_BYTES, NamespaceView, Policy
from replcache.statemachine.results import ChangeResult, Refusal, RefusalCode
from tests.helpers.machine import Driver

ENTRY = ENTRY_OVERHEAD_BYTES


def used(driver: Driver, name: str) -> tuple[int, int]:
    view = next(view for view in driver.machine.describe_namespaces() if view.name == name)
    return view.used_bytes, view.keys


def is_full(result: object) -> bool:
    return isinstance(result, Refusal) and result.code is RefusalCode.QUOTA_EXCEEDED


def test_bytes_and_keys_are_counted_through_every_kind_of_change() -> None:
    driver = Driver()
    assert driver.one(NamespaceSet("n", b"n/", 0)) == ChangeResult(True, 1)
    driver.do(Set(b"n/a", b"12345"), Set(b"m/a", b"12345"), Set(b"n/b", b"1", ttl_ms=10, tags=("t",)))
    assert used(driver, "n") == (2 * ENTRY + 8 + 4, 2)
    driver.do(Update(b"n/a", append=b"67"), Increment(b"n/c", 10))
    assert used(driver, "n") == (3 * ENTRY + 10 + 4 + 5, 3)
    driver.run(Command(set_many=SetMany([b"n/a", b"n/d", b"x"], [b"", b"123", b""])))
    assert used(driver, "n") == (4 * ENTRY + 3 + 4 + 5 + 6, 4)
    driver.pass_ms(10)
    driver.do(Delete(b"n/c"), Set(b"n/t", b"", tags=("t",)), InvalidateTags(("t",)), Evict((b"n/d",)))
    assert used(driver, "n") == (ENTRY + 3, 1)
    driver.atomic(Set(b"n/y", b"1"), DeleteRange(b"n/a", b"n/b"))
    assert used(driver, "n") == (ENTRY + 4, 1)
    driver.machine.check_invariants()


def test_a_quota_refuses_growth_and_nothing_else() -> None:
    driver = Driver()
    driver.one(NamespaceSet("n", b"n/", 2 * ENTRY + 20))
    driver.do(Set(b"n/1", b"1234567"), Set(b"n/2", b"1234567"))
    assert used(driver, "n")[0] == 2 * ENTRY + 20
    revision = driver.machine.revision
    for op in (Set(b"n/3", b""), Update(b"n/1", append=b"x"), Set(b"n/1", b"12345678"), Increment(b"n/4", 1)):
        assert is_full(driver.one(op)), op
    assert driver.machine.revision == revision
    assert not is_full(driver.one(Set(b"n/1", b"7654321")))
    assert not is_full(driver.one(Set(b"elsewhere", b"x" * 1000)))
    driver.one(Delete(b"n/2"))
    assert not is_full(driver.one(Set(b"n/3", b"")))


def test_an_atomic_batch_is_measured_as_a_whole() -> None:
    driver = Driver()
    driver.one(NamespaceSet("n", b"n/", 2 * ENTRY + 20))
    result = driver.atomic(Set(b"n/1", b""), Set(b"n/2", b""), Set(b"n/3", b""))
    assert isinstance(result, Refusal)
    assert (result.failed_op, result.cause) == (2, RefusalCode.QUOTA_EXCEEDED)
    assert used(driver, "n") == (0, 0)


def test_columns_are_measured_as_a_whole() -> None:
    driver = Driver()
    driver.one(NamespaceSet("n", b"n/", 2 * ENTRY + 20))
    assert is_full(driver.run(Command(set_many=SetMany([b"n/1", b"n/2", b"n/3"], [b""] * 3)))[0])
    assert not is_full(driver.run(Command(set_many=SetMany([b"n/1", b"n/2", b"x"], [b""] * 3)))[0])


def test_the_empty_prefix_is_the_quota_of_everything() -> None:
    driver = Driver()
    driver.one(Set(b"before", b"x"))
    driver.one(NamespaceSet("all", b"", 2 * ENTRY + 100))
    driver.one(NamespaceSet("n", b"n/", 0))
    assert used(driver, "all") == (ENTRY + 7, 1)
    driver.one(Set(b"n/1", b"x" * 90))
    assert is_full(driver.one(Set(b"a", b"")))
    assert is_full(driver.run(Command(set_many=SetMany([b"a"], [b""])))[0])
    driver.one(Delete(b"before"))
    assert not is_full(driver.one(Set(b"a", b"")))


def test_namespaces_that_evict_may_go_a_fifth_beyond() -> None:
    driver = Driver()
    driver.one(NamespaceSet("n", b"n/", 10 * (ENTRY + 4), int(Policy.LRU)))
    results = [driver.one(Set(b"n/%02d" % number, b"")) for number in range(20)]
    assert [is_full(result) for result in results].index(True) == 12


@pytest.mark.parametrize(
    ("name", "prefix", "policy", "code"),
    [
        ("", b"x", 0, RefusalCode.INVALID),
        ("x", b"x", 3, RefusalCode.INVALID),
        ("n", b"other", 0, RefusalCode.INVALID),
        ("x", b"n/", 0, RefusalCode.INVALID),
        ("x", b"n/sub", 0, RefusalCode.INVALID),
        ("x", b"n", 0, RefusalCode.INVALID),
    ],
)
def test_bad_namespaces_are_refused(name: str, prefix: bytes, policy: int, code: RefusalCode) -> None:
    driver = Driver()
    driver.do(NamespaceSet("n", b"n/", 0), NamespaceSet("all", b"", 0))
    result = driver.one(NamespaceSet(name, prefix, 0, policy))
    assert isinstance(result, Refusal)
    assert result.code is code


def test_changing_and_removing() -> None:
    driver = Driver()
    driver.one(NamespaceSet("n", b"n/", 5))
    assert driver.one(NamespaceSet("n", b"n/", 5)) == ChangeResult(False, 1)
    assert driver.one(NamespaceSet("n", b"n/", 9999)) == ChangeResult(True, 2)
    assert driver.one(NamespaceRemove("x")) == ChangeResult(False, 2)
    driver.one(Set(b"n/1", b""))
    assert driver.one(NamespaceRemove("n")) == ChangeResult(True, 4)
    assert driver.machine.describe_namespaces() == []
    assert driver.machine.peek(b"n/1") is not None
    driver.one(NamespaceSet("again", b"n", 0))
    assert used(driver, "again") == (ENTRY + 3, 1)


def test_existing_keys_are_counted_bit_by_bit_equally_everywhere(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes and deletes go on on both sides of the cursor; a node is restored at every entry."""
    monkeypatch.setattr(namespaces, "BACKFILL_KEYS_PER_ENTRY", 7)
    driver = Driver()
    for _ in range(6):
        keys = [rng.choice([b"a/", b"b/", b"c"]) + b"%03d" % rng.randrange(200) for _ in range(50)]
        driver.run(Command(set_many=SetMany(keys, [b"x" * rng.randrange(20) for _ in keys])))
        driver.do(*(Delete(key) for key in keys[:20]))
    driver.do(NamespaceSet("b", b"b/", 0), NamespaceSet("a", b"a/", 0))
    rounds = 0
    while driver.machine.next_due_ms() is not None:
        assert driver.machine.next_due_ms() == driver.machine.clock_ms
        copy = StateMachine.restore(driver.machine.begin_snapshot().chunks())
        assert copy.describe_namespaces() == driver.machine.describe_namespaces()
        ops: list[Op] = []
        for _ in range(4):
            key = rng.choice([b"a/", b"b/"]) + b"%03d" % rng.randrange(200)
            ops.append(Delete(key) if rng.random() < 0.5 else Set(key, b"y" * rng.randrange(30)))
        driver.do(*ops)
        copy.apply(copy.applied_index + 1, driver.payloads[-1])
        assert copy.digest() == driver.machine.digest()
        assert copy.describe_namespaces() == driver.machine.describe_namespaces()
        copy.check_invariants()
        driver.machine.check_invariants()
        rounds += 1
    assert rounds > 10
    for name, prefix in (("a", b"a/"), ("b", b"b/")):
        rows = driver.machine.scan(prefix, b"", 1000)[0]
        size = sum(len(key) + len(entry.value) + ENTRY for key, entry in rows)
        assert next(
            view for view in driver.machine.describe_namespaces() if view.name == name
        ) == NamespaceView(name, prefix, 0, Policy.NONE, size, len(rows), True)


def test_growth_elsewhere_in_an_atomic_batch_does_not_count() -> None:
    driver = Driver()
    driver.one(NamespaceSet("small", b"s:", 2000))
    blob, little = Set(b"blob", b"x" * 100_000), Set(b"s:a", b"1")
    for ops in ((blob, little), (little, blob)):
        assert not isinstance(driver.atomic(*ops), Refusal)
        driver.do(Delete(b"blob"), Delete(b"s:a"))
    filling = [Set(b"s:%d" % number, b"x" * 500) for number in range(4)]
    result = driver.atomic(blob, *filling)
    assert isinstance(result, Refusal)
    assert (result.code, result.cause) == (RefusalCode.BATCH_ABORTED, RefusalCode.QUOTA_EXCEEDED)


def test_growth_of_all_of_an_atomic_batch_counts_against_the_quota_of_everything() -> None:
    driver = Driver()
    driver.one(NamespaceSet("small", b"s:", 10_000))
    driver.one(NamespaceSet("all", b"", 3000))
    result = driver.atomic(Set(b"blob", b"x" * 2000), Set(b"s:a", b"x" * 2000))
    assert isinstance(result, Refusal)
    assert result.cause is RefusalCode.QUOTA_EXCEEDED
