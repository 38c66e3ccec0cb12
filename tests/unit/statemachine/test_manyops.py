"""Delete ranges, accesses, evictions."""

import random

import pytest

from replcache.statemachine import manyops
from replcache.statemachine.commands import (
    Accessed,
    Command,
    Delete,
    DeleteRange,
    Evict,
    Fence,
    Op,
    Set,
    SetMany,
)
from replcache.statemachine.events import Event, EventKind
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.manyops import prefix_end
from replcache.statemachine.results import CountResult, Refusal, RefusalCode
from tests.helpers.machine import Driver


def keys_in(driver: Driver) -> list[bytes]:
    return [key for key, _ in driver.machine.scan(b"", b"", 10_000)[0]]


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"", b""), (b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", b""), (b"a\x00", b"a\x01")]
)
def test_prefix_end(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end


def test_a_range_is_deleted_under_one_revision() -> None:
    driver = Driver()
    driver.do(*(Set(key, b"") for key in (b"a", b"b", b"b\x00", b"bz", b"c")))
    assert driver.one(DeleteRange(b"b", prefix_end(b"b"))) == CountResult(3, 6, False)
    assert [(e.key, e.kind, e.revision) for e in driver.events if isinstance(e, Event)] == [
        (b"b", EventKind.DELETE, 6),
        (b"b\x00", EventKind.DELETE, 6),
        (b"bz", EventKind.DELETE, 6),
    ]
    assert driver.one(DeleteRange(b"b", prefix_end(b"b"))) == CountResult(0, 6, False)
    assert keys_in(driver) == [b"a", b"c"]


def test_a_large_range_goes_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manyops, "DELETE_RANGE_KEYS_MAX", 10)
    driver = Driver()
    keys = [b"%02d" % number for number in range(25)]
    driver.run(Command(set_many=SetMany(keys, keys)))
    results = [driver.one(DeleteRange(b"", limit=limit)) for limit in (0, 3, 100, 0)]
    assert [(r.count, r.more) for r in results if isinstance(r, CountResult)] == [
        (10, True),
        (3, True),
        (10, True),
        (2, False),
    ]


def test_the_fence_of_a_range_is_checked() -> None:
    driver = Driver()
    driver.one(Set(b"a", b""))
    result = driver.one(DeleteRange(b"", fence=Fence("l", 9)))
    assert isinstance(result, Refusal)
    assert result.code is RefusalCode.FENCE_REJECTED
    assert keys_in(driver) == [b"a"]


def test_how_far_a_range_gets_does_not_depend_on_what_the_index_remembers(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of a node that lived through churn has keys that are gone; one that was restored has not."""
    monkeypatch.setattr(manyops, "DELETE_RANGE_EXAMINED_MAX", 50)
    driver = Driver()
    for _ in range(40):
        some = [b"%03d" % rng.randrange(1000) for _ in range(50)]
        driver.run(Command(set_many=SetMany(some, some, "", rng.choice([0, 500]))))
        driver.do(*(Delete(key) for key in some[:40]))
    for _ in range(20):
        copy = StateMachine.restore(driver.machine.begin_snapshot().chunks())
        start = b"%03d" % rng.randrange(1000)
        ops: tuple[Op, ...] = (Set(b"%03d" % rng.randrange(1000), b""), DeleteRange(start, limit=30))
        if rng.random() < 0.5:
            driver.atomic(*ops)
        else:
            driver.do(*ops)
        assert driver.applied is not None
        applied = copy.apply(copy.applied_index + 1, driver.payloads[-1])
        assert applied.group_results == driver.applied.group_results
        assert copy.digest() == driver.machine.digest()


def test_accesses_slide_without_revision_or_event() -> None:
    driver = Driver()
    driver.do(
        Set(b"idle", b"", idle_ttl_ms=100), Set(b"both", b"", idle_ttl_ms=100, ttl_ms=150), Set(b"plain", b"")
    )
    driver.pass_ms(90)
    assert driver.one(Accessed((b"idle", b"both", b"plain", b"missing"))) == CountResult(2, 3)
    assert driver.events == []
    driver.pass_ms(60)
    assert keys_in(driver) == [b"idle", b"plain"]
    driver.pass_ms(40)
    assert keys_in(driver) == [b"plain"]
    driver.machine.check_invariants()


def test_accesses_do_not_use_up_counted_reads() -> None:
    driver = Driver()
    driver.one(Set(b"k", b"", idle_ttl_ms=100, max_reads=2))
    driver.pass_ms(50)
    driver.one(Accessed((b"k",)))
    entry = driver.machine.peek(b"k")
    assert entry is not None
    assert (entry.reads_left, entry.expires_at_ms) == (2, 150)


def test_victims_go_unless_they_were_written_since() -> None:
    driver = Driver()
    driver.do(Set(b"a", b""), Set(b"b", b""), Set(b"c", b""), Set(b"a", b"new"))
    assert driver.one(Evict((b"a", b"b", b"missing"), (1, 2, 9), "lru")) == CountResult(1, 5)
    assert driver.events == [Event(5, EventKind.EVICT, b"b", None)]
    assert keys_in(driver) == [b"a", b"c"]
    assert driver.one(Evict((b"a",), reason="quota")) == CountResult(1, 6)
    assert driver.machine.statistics().evicted_totals == (("lru", 1), ("quota", 1))
    refused = driver.one(Evict((b"a", b"b"), (1,)))
    assert isinstance(refused, Refusal)
    assert refused.code is RefusalCode.INVALID
