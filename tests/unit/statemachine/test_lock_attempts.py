"""The attempt of an acquire: a release that names one does nothing once a later one has the place."""

from replcache.statemachine import codec
from replcache.statemachine.commands import Command, Group, LockAcquire, LockRelease, Op
from replcache.statemachine.machine import StateMachine
from replcache.statemachine.results import OpResult, ReleaseResult


class Driver:
    """Applies single operations as entries of their own."""

    def __init__(self) -> None:
        self.machine = StateMachine()
        self.index = 0

    def run(self, op: Op) -> OpResult:
        self.index += 1
        group = Group("n1", 1, self.index, self.index, (Command(ops=(op,)),))
        applied = self.machine.apply(self.index, codec.encode_entry(0, [codec.encode_group(group)]))
        results = applied.group_results[0][3]
        assert results is not None
        assert isinstance(results[0], tuple)
        return results[0][0]

    def released(self, attempt: int) -> bool:
        result = self.run(LockRelease("l", b"a", 0, attempt))
        assert isinstance(result, ReleaseResult)
        return result.released


def acquire(owner: bytes, attempt: int) -> LockAcquire:
    return LockAcquire("l", owner, 10_000, 10_000, attempt=attempt)


def test_lock_held_by_a_later_attempt_stays() -> None:
    driver = Driver()
    driver.run(acquire(b"a", 1))
    driver.run(acquire(b"a", 2))
    assert not driver.released(1)
    assert driver.machine.held_token("l", b"a")
    assert driver.released(2)
    assert not driver.machine.held_token("l", b"a")


def test_place_of_a_later_attempt_stays_and_goes_with_it_into_the_grant() -> None:
    driver = Driver()
    driver.run(acquire(b"x", 9))
    driver.run(acquire(b"a", 1))
    driver.run(acquire(b"a", 2))
    assert not driver.released(1)
    driver.run(LockRelease("l", b"x"))
    assert driver.machine.held_token("l", b"a")
    assert not driver.released(1)
    assert driver.released(2)


def test_release_without_an_attempt_takes_whatever_there_is() -> None:
    driver = Driver()
    driver.run(acquire(b"a", 5))
    assert driver.released(0)


def test_attempts_survive_a_snapshot() -> None:
    driver = Driver()
    driver.run(acquire(b"x", 9))
    driver.run(acquire(b"a", 2))
    digest = driver.machine.digest()
    driver.machine = StateMachine.restore(list(driver.machine.begin_snapshot().chunks()))
    assert driver.machine.digest() == digest
    assert not driver.released(1)
    driver.run(LockRelease("l", b"x"))
    assert not driver.released(1)
    assert driver.released(2)


def test_attempts_survive_the_codec() -> None:
    for op in (acquire(b"a", 2**63), LockRelease("l", b"a", 3, 2**63)):
        group = Group("n1", 1, 1, 1, (Command(ops=(op,)),))
        assert codec.decode_group(codec.encode_group(group)) == group
