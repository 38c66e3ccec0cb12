"""Guarded prefixes: no write below them without a fence of the right lock."""

import pytest

from replcache.statemachine import guards
from replcache.statemachine.commands import (
    Accessed,
    Command,
    Delete,
    DeleteRange,
    Fence,
    Get,
    GuardRemove,
    GuardSet,
    Increment,
    LockAcquire,
    Op,
    Set,
    SetMany,
    Touch,
    Update,
)
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import ChangeResult, LockResult, Refusal, RefusalCode
from tests.helpers.machine import Driver


@pytest.fixture
def driver() -> Driver:
    driver = Driver()
    driver.one(Set(b"orders/1", b"0"))
    assert driver.one(GuardSet(b"orders/", "orders")) == ChangeResult(True, 2)
    return driver


def is_rejected(result: object) -> bool:
    return isinstance(result, Refusal) and result.code is RefusalCode.FENCE_REJECTED


def held(driver: Driver, name: str) -> Fence:
    result = driver.one(LockAcquire(name, b"o", 1000))
    assert isinstance(result, LockResult)
    return Fence(name, result.token)


@pytest.mark.parametrize(
    "op",
    [
        Set(b"orders/1", b""),
        Set(b"orders/new", b""),
        Update(b"orders/1", append=b""),
        Increment(b"orders/1", 1),
        Delete(b"orders/1"),
        Touch(b"orders/1"),
        DeleteRange(b"a", b"z"),
        DeleteRange(b"orders/5", b"orders/6"),
        DeleteRange(b"orders/", b"orders/\x00"),
    ],
)
def test_writes_without_the_fence_are_rejected(driver: Driver, op: Op) -> None:
    assert is_rejected(driver.one(op))
    aborted = driver.atomic(Set(b"free", b""), op)
    assert isinstance(aborted, Refusal)
    assert aborted.cause is RefusalCode.FENCE_REJECTED
    assert driver.machine.revision == 2


def test_columns_are_rejected_as_a_whole(driver: Driver) -> None:
    result = driver.run(Command(set_many=SetMany([b"free", b"orders/2"], [b"", b""])))[0]
    assert is_rejected(result)
    assert driver.machine.peek(b"free") is None


def test_the_fence_of_the_lock_opens_another_does_not(driver: Driver) -> None:
    right, wrong = held(driver, "orders"), held(driver, "other")
    assert is_rejected(driver.one(Set(b"orders/1", b"", fence=wrong)))
    assert is_rejected(driver.one(Set(b"orders/1", b"", fence=Fence("orders", right.token + 99))))
    assert not is_rejected(driver.one(Set(b"orders/1", b"", fence=right)))
    assert not is_rejected(driver.one(DeleteRange(b"a", b"z", fence=right)))
    driver.clock_ms += 1000
    assert is_rejected(driver.one(Set(b"orders/1", b"", fence=right)))


def test_what_is_outside_or_only_reads_is_free(driver: Driver) -> None:
    for op in (
        Set(b"order", b""),
        Set(b"orders", b""),
        Get(b"orders/1"),
        Accessed((b"orders/1",)),
        DeleteRange(b"orders0"),
        DeleteRange(b"a", b"orders/"),
    ):
        assert not isinstance(driver.one(op), Refusal), op


def test_the_longest_prefix_counts_and_a_star_fits_many_locks(driver: Driver) -> None:
    driver.one(GuardSet(b"orders/eu/", "eu/*"))
    eu, orders = held(driver, "eu/7"), held(driver, "orders")
    assert not is_rejected(driver.one(Set(b"orders/eu/1", b"", fence=eu)))
    assert is_rejected(driver.one(Set(b"orders/eu/1", b"", fence=orders)))
    assert is_rejected(driver.one(Set(b"orders/us/1", b"", fence=eu)))
    assert is_rejected(driver.one(DeleteRange(b"orders/", b"orders0", fence=orders)))
    assert driver.machine.describe_guards() == [(b"orders/", "orders"), (b"orders/eu/", "eu/*")]


def test_guards_can_be_changed_and_removed(driver: Driver) -> None:
    assert driver.one(GuardSet(b"orders/", "orders")) == ChangeResult(False, 2)
    assert driver.one(GuardSet(b"orders/", "new")) == ChangeResult(True, 3)
    assert driver.one(GuardRemove(b"nothing")) == ChangeResult(False, 3)
    assert driver.one(GuardRemove(b"orders/")) == ChangeResult(True, 4)
    assert not is_rejected(driver.one(Set(b"orders/1", b"")))


def test_guards_are_bounded_and_need_names(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "GUARDS_MAX", 1)
    for op, code in (
        (GuardSet(b"x", "l"), RefusalCode.QUOTA_EXCEEDED),
        (GuardSet(b"", "l"), RefusalCode.INVALID),
        (GuardSet(b"x", ""), RefusalCode.INVALID),
    ):
        result = driver.one(op)
        assert isinstance(result, Refusal)
        assert result.code is code


def test_guards_survive_a_snapshot(driver: Driver) -> None:
    driver.machine = StateMachine.restore(driver.machine.begin_snapshot().chunks())
    assert is_rejected(driver.one(Set(b"orders/1", b"")))
