"""Leases: what hangs on them ends with them, and not before; notes of holders."""

import random

import pytest

from replcache.statemachine import keysets
from replcache.statemachine import leases as leases_module
from replcache.statemachine import store as store_module
from replcache.statemachine.commands import (
    LeaseGrant,
    LeaseKeep,
    LeaseRevoke,
    LockAcquire,
    LockNote,
    LockRelease,
    LockRenew,
    Op,
    Set,
    Update,
)
from replcache.statemachine.events import Event, EventKind, LeaseEvent, LockEvent, LockEventKind
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import LeaseResult, LockResult, OpResult, Refusal, RefusalCode
from tests.helpers.machine import Driver


@pytest.fixture
def driver() -> Driver:
    return Driver()


def grant(driver: Driver, ttl_ms: int = 1000) -> int:
    result = driver.one(LeaseGrant(ttl_ms))
    assert isinstance(result, LeaseResult)
    assert result.lease_id == result.revision
    return result.lease_id


def code(result: OpResult) -> RefusalCode:
    assert isinstance(result, Refusal), result
    return result.code


def keys_in(driver: Driver) -> list[bytes]:
    return [key for key, _ in driver.machine.scan(b"", b"", 10_000)[0]]


def test_keys_end_when_the_lease_was_not_kept(driver: Driver) -> None:
    lease = grant(driver)
    driver.do(Set(b"b", b"", lease_id=lease), Set(b"a", b"", lease_id=lease), Set(b"c", b""))
    driver.pass_ms(900)
    assert driver.one(LeaseKeep(lease)) == LeaseResult(lease, True, 5, 1000)
    driver.pass_ms(999)
    assert keys_in(driver) == [b"a", b"b", b"c"]
    driver.pass_ms(1)
    assert keys_in(driver) == [b"c"]
    first, *rest = driver.events
    assert first == LeaseEvent(6, lease, 2)
    assert [(e.key, e.kind) for e in rest if isinstance(e, Event)] == [
        (b"a", EventKind.EXPIRE),
        (b"b", EventKind.EXPIRE),
    ]
    assert driver.one(LeaseKeep(lease)) == LeaseResult(0, False, 8, 0)
    driver.machine.check_invariants()


def test_revoking_ends_everything_at_once(driver: Driver) -> None:
    lease = grant(driver)
    driver.do(
        Set(b"a", b"", lease_id=lease),
        LockAcquire("l", b"mine", 0, lease_id=lease),
        LockAcquire("m", b"other", 500),
        LockAcquire("m", b"mine", 0, 300, lease_id=lease),
        LockAcquire("l", b"next", 1000, 5000),
    )
    described = driver.machine.describe_lease(lease)
    assert described is not None
    assert (described.keys, described.places) == (1, (("l", b"mine"), ("m", b"mine")))
    results = driver.do(LeaseRevoke(lease), Set(b"x", b"", lease_id=lease))
    assert isinstance(results[0], LeaseResult)
    assert results[0].alive
    assert code(results[1]) is RefusalCode.NOT_FOUND
    kinds = [(e.kind, e.name, e.owner) for e in driver.events if isinstance(e, LockEvent)]
    assert kinds == [
        (LockEventKind.EXPIRED, "l", b"mine"),
        (LockEventKind.WAIT_ENDED, "m", b"mine"),
        (LockEventKind.GRANTED, "l", b"next"),
    ]
    assert driver.machine.describe_lease(lease) is None
    assert keys_in(driver) == []
    driver.machine.check_invariants()


def test_a_lock_with_a_lease_and_a_ttl_ends_with_the_first(driver: Driver) -> None:
    lease = grant(driver, 1000)
    first = driver.one(LockAcquire("l", b"o", 300, lease_id=lease))
    assert isinstance(first, LockResult)
    driver.pass_ms(300)
    assert driver.machine.held_token("l", b"o") == 0
    driver.one(LockAcquire("l", b"o", 5000, lease_id=lease))
    driver.pass_ms(700)
    assert driver.machine.held_token("l", b"o") == 0
    assert driver.machine.describe_locks() == []


def test_a_lock_may_change_between_lease_only_and_ttl(driver: Driver) -> None:
    lease = grant(driver, 5000)
    result = driver.one(LockAcquire("l", b"o", 0, lease_id=lease))
    assert isinstance(result, LockResult)
    assert result.expires_in_ms == 0
    driver.one(LockRenew("l", b"o", result.token, 400))
    assert driver.machine.next_due_ms() == 400
    again = driver.one(LockAcquire("l", b"o", 0, lease_id=lease))
    assert isinstance(again, LockResult)
    assert again.token == result.token
    assert driver.machine.next_due_ms() == 5000
    assert code(driver.one(LockAcquire("l", b"o", 100))) is RefusalCode.INVALID
    driver.machine.check_invariants()
    driver.one(LockRelease("l", b"o"))
    described = driver.machine.describe_lease(lease)
    assert described is not None
    assert described.places == ()


def test_bad_leases_are_refused(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(driver.one(LeaseGrant(0))) is RefusalCode.INVALID
    assert code(driver.one(LockAcquire("l", b"o", 100, lease_id=9))) is RefusalCode.NOT_FOUND
    assert code(driver.one(LockAcquire("l", b"o", 0))) is RefusalCode.INVALID
    assert driver.one(LeaseRevoke(9)) == LeaseResult(0, False, 0, 0)
    assert driver.machine.describe_locks() == []
    monkeypatch.setattr(leases_module, "LEASES_MAX", 1)
    grant(driver)
    assert code(driver.one(LeaseGrant(5))) is RefusalCode.QUOTA_EXCEEDED


def test_a_write_without_the_lease_detaches_the_key_an_update_does_not(driver: Driver) -> None:
    lease = grant(driver)
    driver.do(Set(b"a", b"", lease_id=lease), Set(b"b", b"", lease_id=lease))
    driver.do(Set(b"a", b"1"), Update(b"b", append=b"1"))
    driver.one(LeaseRevoke(lease))
    assert keys_in(driver) == [b"a"]


def test_large_leases_end_equally_on_restored_nodes(
    rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "REMOVALS_PER_ENTRY_MAX", 7)
    monkeypatch.setattr(keysets, "SORTED_AT_ONCE", 20)
    driver = Driver()
    behind = 0
    for step in range(120):
        ops: list[Op] = [LeaseGrant(rng.choice([60, 200]))] if step % 5 == 0 else []
        leases = list(driver.machine.leases.leases) or [0]
        for _ in range(rng.randrange(12)):
            lease = rng.choice([*leases, 0])
            tags = ("t",) if rng.random() < 0.3 else ()
            ops.append(Set(b"%03d" % rng.randrange(200), b"%d" % step, lease_id=lease, tags=tags))
        ops += [
            LockAcquire(
                f"l{rng.randrange(4)}", b"%d" % rng.randrange(3), 50, 40, lease_id=rng.choice(leases)
            ),
            LeaseKeep(rng.choice(leases)),
        ]
        copy = StateMachine.restore(driver.machine.begin_snapshot().chunks())
        driver.clock_ms += rng.choice([0, 10])
        driver.do(*ops)
        copied = copy.apply(copy.applied_index + 1, driver.payloads[-1])
        assert driver.applied is not None
        assert [repr(event) for event in copied.events] == [repr(event) for event in driver.applied.events]
        assert copy.digest() == driver.machine.digest()
        driver.machine.check_invariants()
        copy.check_invariants()
        behind = max(behind, driver.machine.statistics().keys - len(keys_in(driver)))
    assert behind > 0


def test_a_note_can_be_replaced_by_the_holder_only(driver: Driver) -> None:
    held = driver.one(LockAcquire("election", b"a", 1000, note="candidate a"))
    assert isinstance(held, LockResult)
    granted = driver.events[0]
    assert isinstance(granted, LockEvent)
    assert granted.note == "candidate a"
    assert code(driver.one(LockNote("election", b"b", held.token, "x"))) is RefusalCode.LOCK_LOST
    assert code(driver.one(LockNote("election", b"a", held.token + 1, "x"))) is RefusalCode.LOCK_LOST
    assert code(driver.one(LockNote("nothing", b"a", held.token, "x"))) is RefusalCode.LOCK_LOST
    driver.pass_ms(400)
    assert driver.one(LockNote("election", b"a", held.token, "leader ü")) == LockResult(held.token, 2, 600)
    noted = driver.events[0]
    assert noted == LockEvent(2, LockEventKind.NOTED, "election", b"a", held.token, "leader ü")
    assert driver.machine.describe_locks("election")[0].holders[0].note == "leader ü"
