"""Locks: modes, queue, times, tokens, fences."""

import pytest

from replcache.constants import LOCK_PERMITS_MAX
from replcache.statemachine import locks as locks_module
from replcache.statemachine.commands import (
    Condition,
    Fence,
    Get,
    Increment,
    LockAcquire,
    LockRelease,
    LockRenew,
    Set,
)
from replcache.statemachine.events import LockEvent, LockEventKind
from replcache.statemachine.results import (
    LockResult,
    OpResult,
    Refusal,
    RefusalCode,
    ReleaseResult,
    SetResult,
)
from tests.helpers.machine import Driver


@pytest.fixture
def driver() -> Driver:
    return Driver()


def acquire(
    owner: str, *, ttl: int = 1000, wait: int = 0, shared: bool = False, permits: int = 1
) -> LockAcquire:
    return LockAcquire("door", owner.encode(), ttl, wait, shared, permits, f"{owner} was here")


def token(result: OpResult) -> int:
    assert isinstance(result, LockResult), result
    return result.token


def code(result: object) -> RefusalCode:
    assert isinstance(result, Refusal), result
    return result.code


def granted(driver: Driver) -> list[bytes]:
    """Owners granted by the last entry, in order."""
    return [
        event.owner
        for event in driver.events
        if isinstance(event, LockEvent) and event.kind is LockEventKind.GRANTED
    ]


def test_the_token_is_the_revision_of_the_grant(driver: Driver) -> None:
    driver.one(Set(b"k", b"v"))
    result = driver.one(acquire("a"))
    assert token(result) == driver.machine.revision == 2
    assert driver.machine.held_token("door", b"a") == 2
    assert driver.machine.held_token("door", b"b") == 0


def test_exclusive_excludes_and_busy_changes_nothing(driver: Driver) -> None:
    driver.one(acquire("a"))
    revision = driver.machine.revision
    assert code(driver.one(acquire("b"))) is RefusalCode.LOCK_BUSY
    assert code(driver.one(acquire("b", shared=True))) is RefusalCode.LOCK_BUSY
    assert driver.machine.revision == revision


def test_waiters_are_served_first_come_first_served(driver: Driver) -> None:
    first = token(driver.one(acquire("a")))
    positions = []
    for owner in "bcd":
        result = driver.one(acquire(owner, wait=5000))
        assert isinstance(result, LockResult)
        assert result.token == 0
        positions.append(result.position)
    assert positions == [1, 2, 3]
    tokens = [first]
    for holder, successor in ("ab", "bc", "cd"):
        driver.one(LockRelease("door", holder.encode()))
        assert granted(driver) == [successor.encode()]
        tokens.append(driver.machine.held_token("door", successor.encode()))
    assert tokens == sorted(set(tokens))


def test_asking_again_as_holder_gives_the_same_token_and_starts_the_ttl_anew(driver: Driver) -> None:
    first = token(driver.one(acquire("a", ttl=1000)))
    driver.pass_ms(900)
    assert token(driver.one(acquire("a", ttl=1000))) == first
    driver.pass_ms(900)
    assert driver.machine.held_token("door", b"a") == first
    driver.pass_ms(100)
    assert driver.machine.held_token("door", b"a") == 0


def test_asking_again_as_waiter_keeps_the_place_and_starts_the_wait_anew(driver: Driver) -> None:
    driver.one(acquire("a", ttl=3000))
    driver.one(acquire("b", wait=1000))
    driver.one(acquire("c", wait=10_000))
    driver.pass_ms(900)
    again = driver.one(acquire("b", wait=1000))
    assert isinstance(again, LockResult)
    assert again.position == 1
    driver.pass_ms(900)
    driver.one(LockRelease("door", b"a"))
    assert granted(driver) == [b"b"]


def test_shared_holders_share_but_do_not_overtake_a_waiting_writer(driver: Driver) -> None:
    driver.do(acquire("r1", shared=True), acquire("r2", shared=True))
    assert driver.machine.held_token("door", b"r2") > driver.machine.held_token("door", b"r1") > 0
    driver.one(acquire("w", wait=5000))
    assert token(driver.one(acquire("r3", shared=True, wait=5000))) == 0
    assert token(driver.one(acquire("r4", shared=True, wait=5000))) == 0
    driver.one(LockRelease("door", b"r1"))
    assert granted(driver) == []
    driver.one(LockRelease("door", b"r2"))
    assert granted(driver) == [b"w"]
    driver.one(LockRelease("door", b"w"))
    assert granted(driver) == [b"r3", b"r4"]


def test_readers_behind_a_writer_that_gives_up_go_ahead(driver: Driver) -> None:
    driver.one(acquire("r1", shared=True, ttl=10_000))
    driver.one(acquire("w", wait=100))
    driver.one(acquire("r2", shared=True, wait=5000))
    driver.pass_ms(100)
    assert granted(driver) == [b"r2"]
    ended = next(event for event in driver.events if isinstance(event, LockEvent))
    assert (ended.kind, ended.owner) == (LockEventKind.WAIT_ENDED, b"w")


def test_a_semaphore_admits_as_many_as_it_has_permits(driver: Driver) -> None:
    results = driver.do(*(acquire(owner, permits=3, wait=100) for owner in "abcde"))
    assert [token(result) > 0 for result in results] == [True, True, True, False, False]
    driver.one(LockRelease("door", b"b"))
    assert granted(driver) == [b"d"]
    assert code(driver.one(acquire("x", permits=2))) is RefusalCode.INVALID


@pytest.mark.parametrize(
    "request_",
    [
        acquire("a", ttl=0),
        acquire("a", permits=LOCK_PERMITS_MAX + 1),
        acquire("a", permits=2, shared=True),
    ],
)
def test_impossible_requests_are_refused(driver: Driver, request_: LockAcquire) -> None:
    assert code(driver.one(request_)) is RefusalCode.INVALID
    assert driver.machine.describe_locks() == []


def test_permits_zero_means_one(driver: Driver) -> None:
    assert token(driver.one(acquire("a", permits=0))) > 0
    assert code(driver.one(acquire("b"))) is RefusalCode.LOCK_BUSY


def test_the_other_mode_under_the_same_owner_is_refused(driver: Driver) -> None:
    driver.one(acquire("a"))
    assert code(driver.one(acquire("a", shared=True))) is RefusalCode.INVALID
    driver.one(acquire("b", wait=100))
    assert code(driver.one(acquire("b", wait=100, shared=True))) is RefusalCode.INVALID


def test_a_holder_that_does_not_renew_loses_the_lock_to_the_next(driver: Driver) -> None:
    held = token(driver.one(acquire("a", ttl=500)))
    driver.one(acquire("b", wait=5000))
    driver.pass_ms(499)
    assert granted(driver) == []
    driver.pass_ms(1)
    assert granted(driver) == [b"b"]
    assert code(driver.one(LockRenew("door", b"a", held, 500))) is RefusalCode.LOCK_LOST
    released = driver.one(LockRelease("door", b"a", held))
    assert released == ReleaseResult(False, driver.machine.revision)


def test_renewal_extends_and_needs_the_right_token(driver: Driver) -> None:
    held = token(driver.one(acquire("a", ttl=500)))
    driver.pass_ms(400)
    assert code(driver.one(LockRenew("door", b"a", held + 1, 500))) is RefusalCode.LOCK_LOST
    assert code(driver.one(LockRenew("door", b"b", held, 500))) is RefusalCode.LOCK_LOST
    renewed = driver.one(LockRenew("door", b"a", held, 500))
    assert isinstance(renewed, LockResult)
    assert (renewed.token, renewed.expires_in_ms) == (held, 500)
    driver.pass_ms(499)
    assert driver.machine.held_token("door", b"a") == held


def test_a_waiter_whose_time_is_over_is_not_granted_when_both_are_due(driver: Driver) -> None:
    """The clock leaps over the holder's end and the waiter's end: nobody would use that grant."""
    driver.one(acquire("a", ttl=500))
    driver.one(acquire("b", wait=600))
    driver.one(acquire("c", wait=5000))
    driver.pass_ms(1000)
    assert granted(driver) == [b"c"]


def test_release_without_token_gives_back_the_place_in_the_queue(driver: Driver) -> None:
    driver.one(acquire("a"))
    driver.one(acquire("b", wait=100))
    assert driver.one(LockRelease("door", b"b", 77)) == ReleaseResult(False, driver.machine.revision)
    result = driver.one(LockRelease("door", b"b"))
    assert isinstance(result, ReleaseResult)
    assert result.released
    driver.one(LockRelease("door", b"a"))
    assert granted(driver) == []
    assert driver.machine.describe_locks() == []
    driver.machine.check_invariants()


def test_release_and_regrant_give_a_new_token(driver: Driver) -> None:
    first = token(driver.one(acquire("a")))
    driver.one(LockRelease("door", b"a", first))
    assert token(driver.one(acquire("a"))) > first


def test_describe_shows_holders_and_waiters_in_order(driver: Driver) -> None:
    driver.one(acquire("a", ttl=1000))
    driver.one(acquire("c", wait=300))
    driver.one(acquire("b", wait=400))
    driver.one(LockAcquire("attic", b"z", 50))
    driver.pass_ms(10)
    attic, door = driver.machine.describe_locks()
    assert (attic.name, door.name) == ("attic", "door")
    assert [(h.owner, h.token, h.expires_in_ms, h.note) for h in door.holders] == [
        (b"a", 1, 990, "a was here")
    ]
    assert [(w.owner, w.token, w.expires_in_ms) for w in door.waiters] == [(b"c", 0, 290), (b"b", 0, 390)]
    assert [lock.name for lock in driver.machine.describe_locks("door")] == ["door"]
    assert driver.machine.describe_locks("nothing") == []


def test_queue_and_table_are_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks_module, "LOCK_WAITERS_MAX", 2)
    monkeypatch.setattr(locks_module, "LOCKS_MAX", 1)
    driver.do(acquire("a"), acquire("b", wait=100), acquire("c", wait=100))
    assert code(driver.one(acquire("d", wait=100))) is RefusalCode.QUOTA_EXCEEDED
    assert code(driver.one(LockAcquire("attic", b"a", 100))) is RefusalCode.QUOTA_EXCEEDED


def test_a_fenced_write_needs_the_lock_to_be_held_under_its_token(driver: Driver) -> None:
    held = token(driver.one(acquire("a", ttl=500)))
    fence = Fence("door", held)
    assert isinstance(driver.one(Set(b"k", b"1", fence=fence)), SetResult)
    assert code(driver.one(Set(b"k", b"2", fence=Fence("attic", held)))) is RefusalCode.FENCE_REJECTED
    assert code(driver.one(Set(b"k", b"2", fence=Fence("door", held + 1)))) is RefusalCode.FENCE_REJECTED
    driver.one(acquire("b", wait=1000))
    driver.clock_ms += 500
    # The same entry that makes the old holder's time be over carries its write.
    assert code(driver.one(Increment(b"k", 1, fence=fence))) is RefusalCode.FENCE_REJECTED
    entry = driver.one(Get(b"k"))
    assert getattr(entry, "entry").value == b"1"  # noqa: B009  # the result is a union
    new = driver.machine.held_token("door", b"b")
    assert isinstance(driver.one(Set(b"k", b"2", fence=Fence("door", new))), SetResult)


def test_the_fence_is_checked_before_the_condition(driver: Driver) -> None:
    both = Set(b"k", b"v", condition=Condition(if_present=True), fence=Fence("door", 5))
    assert code(driver.one(both)) is RefusalCode.FENCE_REJECTED


def test_lock_operations_are_not_part_of_atomic_batches(driver: Driver) -> None:
    result = driver.atomic(Set(b"k", b"v"), acquire("a"))
    assert isinstance(result, Refusal)
    assert (result.code, result.failed_op, result.cause) == (
        RefusalCode.BATCH_ABORTED,
        1,
        RefusalCode.INVALID,
    )
    assert driver.machine.peek(b"k") is None
    assert driver.machine.describe_locks() == []


def test_next_due_names_the_next_end_of_holders_and_waiters(driver: Driver) -> None:
    driver.one(acquire("a", ttl=1000))
    assert driver.machine.next_due_ms() == 1000
    driver.one(acquire("b", wait=300))
    assert driver.machine.next_due_ms() == 300
    driver.pass_ms(300)
    assert driver.machine.next_due_ms() == 1000
    driver.pass_ms(700)
    assert driver.machine.next_due_ms() is None
