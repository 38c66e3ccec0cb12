"""Groups count once, however often and over whichever leader they come."""

from replcache.statemachine.commands import Command, Group, Increment
from replcache.statemachine.machine import StateMachine
from tests.helpers.machine import Driver


def group(sequence: int, done_below: int = 0, boot: int = 1, origin: str = "n1") -> Group:
    return Group(origin, boot, sequence, done_below, (Command((Increment(b"n", 1),)),))


def count(driver: Driver) -> int:
    entry = driver.machine.peek(b"n")
    return 0 if entry is None else int(entry.value)


def was_skipped(driver: Driver, *groups: Group) -> list[bool]:
    return [result[3] is None for result in driver.apply_groups(*groups).group_results]


def test_a_group_is_applied_once() -> None:
    driver = Driver()
    assert was_skipped(driver, group(1)) == [False]
    assert was_skipped(driver, group(1), group(2), group(2)) == [True, False, True]
    assert count(driver) == 2


def test_groups_may_come_in_any_order() -> None:
    driver = Driver()
    for sequence in (5, 2, 4, 1, 3, 5, 1):
        was_skipped(driver, group(sequence))
    assert count(driver) == 5


def test_what_the_origin_is_done_with_is_skipped_for_ever_and_forgotten() -> None:
    driver = Driver()
    was_skipped(driver, group(1), group(2), group(3))
    assert was_skipped(driver, group(10, done_below=9)) == [False]
    assert was_skipped(driver, group(8), group(1), group(9)) == [True, True, False]
    assert driver.machine.groups.origins["n1"].applied == {10: None, 9: None}
    assert was_skipped(driver, group(2**60, done_below=2**60)) == [False]
    driver.machine.check_invariants()


def test_a_lower_done_below_takes_nothing_back() -> None:
    driver = Driver()
    was_skipped(driver, group(10, done_below=9))
    assert was_skipped(driver, group(11, done_below=3), group(4)) == [False, True]


def test_a_new_boot_ends_the_old_one() -> None:
    driver = Driver()
    was_skipped(driver, group(7))
    assert was_skipped(driver, group(7, boot=2)) == [False]
    assert was_skipped(driver, group(8, boot=1), group(7, boot=2), group(8, boot=2)) == [True, True, False]
    assert count(driver) == 3


def test_origins_are_apart() -> None:
    driver = Driver()
    assert was_skipped(driver, group(1), group(1, origin="n2")) == [False, False]


def test_the_table_survives_a_snapshot() -> None:
    driver = Driver()
    was_skipped(driver, group(1), group(4, done_below=3), group(2, origin="ü"))
    driver.machine = StateMachine.restore(driver.machine.begin_snapshot().chunks())
    assert was_skipped(driver, group(1), group(2), group(3), group(4), group(2, origin="ü")) == [
        True,
        True,
        False,
        True,
        True,
    ]
