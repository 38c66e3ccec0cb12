"""Transactions: compare, then or else, all or nothing."""

import pytest

from replcache.statemachine.commands import (
    Command,
    Compare,
    Condition,
    Delete,
    DeleteRange,
    Fence,
    Get,
    Increment,
    InvalidateTags,
    LockAcquire,
    Op,
    SessionOpen,
    Set,
    Txn,
    Update,
)
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import GetResult, LockResult, Refusal, RefusalCode, SetResult, TxnResult
from tests.helpers.machine import Driver


def run(driver: Driver, txn: Txn) -> TxnResult:
    result = driver.one(txn)
    assert isinstance(result, TxnResult), result
    return result


def when(key: bytes, **condition: object) -> Compare:
    return Compare(key, Condition(**condition))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("compares", "succeeds"),
    [
        ((), True),
        ((when(b"a", if_value=b"1"),), True),
        ((when(b"a", if_version=1), when(b"b", if_absent=True)), True),
        ((when(b"a", if_version=1), when(b"b", if_present=True)), False),
        ((when(b"a", if_value=b"2"),), False),
        ((when(b"b", if_version=0),), True),
    ],
)
def test_compares_choose_the_branch(compares: tuple[Compare, ...], succeeds: bool) -> None:
    driver = Driver()
    driver.one(Set(b"a", b"1"))
    result = run(driver, Txn(compares, (), (Set(b"x", b"then"), Get(b"a")), (Set(b"x", b"else"),)))
    assert (result.succeeded, result.revision) == (succeeds, 2)
    assert result.results[0] == SetResult(1, 2)
    entry = driver.machine.peek(b"x")
    assert entry is not None
    assert entry.value == (b"then" if succeeds else b"else")


def test_a_held_lock_can_be_compared() -> None:
    driver = Driver()
    held = driver.one(LockAcquire("l", b"o", 1000))
    assert isinstance(held, LockResult)
    txn = Txn((), (Fence("l", held.token),), (Increment(b"n", 1),))
    assert run(driver, txn).succeeded
    driver.pass_ms(1000)
    assert run(driver, txn) == TxnResult(False, (), driver.machine.revision)
    entry = driver.machine.peek(b"n")
    assert entry is not None
    assert entry.value == b"1"


def test_an_empty_branch_changes_nothing() -> None:
    driver = Driver()
    driver.one(Set(b"a", b"1"))
    assert run(driver, Txn((when(b"a", if_absent=True),), (), (Delete(b"a"),))) == TxnResult(False, (), 1)


def test_a_refused_operation_undoes_its_branch() -> None:
    driver = Driver()
    result = driver.one(Txn((), (), (Set(b"a", b""), Update(b"missing", append=b""), Set(b"b", b""))))
    assert isinstance(result, Refusal)
    assert (result.code, result.failed_op, result.cause) == (
        RefusalCode.BATCH_ABORTED,
        1,
        RefusalCode.NOT_FOUND,
    )
    assert driver.machine.scan(b"", b"", 9) == ([], False)
    assert driver.machine.revision == 0


@pytest.mark.parametrize("op", [Txn(), LockAcquire("l", b"o", 100), SessionOpen(100)])
def test_only_operations_on_keys_are_allowed(op: Op) -> None:
    driver = Driver()
    inside = driver.one(Txn((), (), (op,)))
    assert isinstance(inside, Refusal)
    assert inside.cause is RefusalCode.INVALID
    assert isinstance(driver.atomic(Txn()), Refusal)


def test_a_transfer_between_two_accounts() -> None:
    """A guard on the version makes a retry of an older view fail as a whole."""
    driver = Driver()
    driver.do(Set(b"alice", b"100"), Set(b"bob", b"0"))
    transfer = Txn(
        (when(b"alice", if_version=1),),
        (),
        (Increment(b"alice", -30, minimum=0), Increment(b"bob", 30)),
        (Get(b"alice"),),
    )
    assert run(driver, transfer).succeeded
    again = run(driver, transfer)
    assert not again.succeeded
    got = again.results[0]
    assert isinstance(got, GetResult)
    assert got.entry is not None
    assert got.entry.value == b"70"


def test_all_kinds_of_key_operations_in_one_transaction() -> None:
    driver = Driver()
    driver.do(Set(b"t", b"", tags=("x",)), Set(b"r1", b""), Set(b"r2", b""), Set(b"old", b"", ttl_ms=10))
    driver.clock_ms += 10
    txn = Txn(
        (when(b"old", if_absent=True),),
        (),
        (
            InvalidateTags(("x",)),
            DeleteRange(b"r", b"s"),
            Set(b"r9", b"", tags=("x",)),
            Get(b"t"),
            Set(b"r8", b""),
            DeleteRange(b"r8"),
        ),
    )
    result = run(driver, txn)
    assert result.succeeded
    assert [key for key, _ in driver.machine.scan(b"", b"", 9)[0]] == []
    driver.machine.check_invariants()
    restored = StateMachine.restore(driver.machine.begin_snapshot().chunks())
    assert restored.digest() == driver.machine.digest()


def test_a_retry_gets_the_stored_result_also_from_a_snapshot() -> None:
    driver = Driver()
    driver.one(SessionOpen(10_000))
    command = Command((Txn((), (), (Set(b"a", b"1"), Get(b"a"))),), session_id=1, session_sequence=1)
    first = driver.run(command)
    driver.machine = StateMachine.restore(driver.machine.begin_snapshot().chunks())
    assert driver.run(command) == first
