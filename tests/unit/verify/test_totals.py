"""Counters by bounds, sets, banks, long forks, and weak reads."""

from collections.abc import Callable

import pytest

from replcache.verify.history import INFINITY_NS, History, Operation, Outcome
from replcache.verify.levels import check_levels
from replcache.verify.totals import (
    check_bank,
    check_counter_bounds,
    check_long_fork,
    check_set,
    check_set_full,
)


def op(
    name: str, value: object, output: object, start: int, end: int | None, outcome: Outcome = Outcome.OK
) -> Operation:
    """end None: unknown."""
    if end is None:
        return Operation(start, start, name, "", value, None, start, INFINITY_NS, Outcome.UNKNOWN)
    return Operation(start, start, name, "", value, output, start, end, outcome)


ADDS = (op("add", 1, None, 0, 10), op("add", 2, None, 20, None), op("add", -1, None, 30, 40))


@pytest.mark.parametrize(
    ("start", "end", "value", "ok"),
    [
        (11, 15, 1, True),
        (11, 15, 0, False),
        (11, 15, 2, False),
        (5, 8, 0, True),
        (5, 8, 1, True),
        (21, 25, 3, True),
        (31, 35, 0, True),
        (31, 35, -1, False),
        (50, 60, 2, True),
        (50, 60, 0, True),
        (50, 60, 3, False),
    ],
)
def test_check_counter_bounds(start: int, end: int, value: int, ok: bool) -> None:
    history = History((*ADDS, op("read", None, value, start, end)))
    assert (check_counter_bounds(history) == []) == ok


SET = (op("add", 1, None, 0, 10), op("add", 2, None, 20, None), op("add", 3, None, 21, 22, Outcome.FAIL))


@pytest.mark.parametrize(
    ("check", "reads", "problem"),
    [
        (check_set, [(50, (1,))], None),
        (check_set, [(50, (1, 2))], None),
        (check_set, [(50, (2,))], "lost: 1"),
        (check_set, [(50, (1, 3))], "never added: 3"),
        (check_set, [], "never read"),
        (check_set_full, [(50, (1, 2)), (60, (1, 2))], None),
        (check_set_full, [(50, (1, 2)), (60, (1,))], "lost: 2"),
        (check_set_full, [(50, ()), (60, (1,))], None),
        (check_set_full, [(50, (1, 1))], "twice"),
        (check_set_full, [(50, (1, 9))], "nobody added: 9"),
    ],
)
def test_check_sets(
    check: Callable[[History], list[str]], reads: list[tuple[int, object]], problem: str | None
) -> None:
    history = History((*SET, *(op("read", None, seen, start, start + 5) for start, seen in reads)))
    problems = check(history)
    assert (problem is None and not problems) or any(str(problem) in found for found in problems)


def test_check_set_full_linearizable_calls_late_elements_stale() -> None:
    history = History((*SET, op("read", None, (), 50, 55), op("read", None, (1,), 60, 65)))
    assert check_set_full(history, linearizable=True) == ["stale: 1"]


def test_check_bank() -> None:
    def read(*balances: int | None) -> Operation:
        return op("read", None, tuple((str(n), b) for n, b in enumerate(balances)), 0, 1)

    assert check_bank(History((read(5, 5), read(3, 7)))) == []
    assert "total of 9" in check_bank(History((read(5, 5), read(3, 6))))[0]
    assert "instead of 11" in check_bank(History((read(5, 5),)), 11)[0]
    assert "balance of -1" in check_bank(History((read(11, -1),)))[0]
    assert check_bank(History((read(11, -1),)), negative_balances=True) == []
    assert "lacks" in check_bank(History((read(11, None),)))[0]


def test_check_long_fork() -> None:
    def read(x: int | None, y: int | None, start: int) -> Operation:
        return op("read", None, (("r", "x", x), ("r", "y", y)), start, start + 1)

    assert check_long_fork(History((read(1, None, 0), read(1, 1, 2), read(None, None, 4)))) == []
    assert len(check_long_fork(History((read(1, None, 0), read(None, 1, 2))))) == 1


def weak(
    level: str, value: object, start: int, revision: int, staleness_ns: int = -1, process: int = 9
) -> Operation:
    return Operation(
        start, process, "read", "", None, (value, None), start, start + 1, Outcome.OK, "", level, revision,
        staleness_ns,
    )  # fmt: skip


def write(value: int, start: int, revision: int, outcome: Outcome = Outcome.OK) -> Operation:
    return Operation(start, 1, "write", "", value, None, start, start + 1, outcome, "", "", revision)


@pytest.mark.parametrize(
    ("reads", "problem"),
    [
        ([weak("one", 1, 100, 1, 80), weak("one", 2, 110, 2, 0)], None),
        ([weak("one", 1, 100, 1, 40)], "lacks revision 2"),
        ([weak("one", 7, 100, 1)], "nobody wrote"),
        ([weak("one", 3, 100, 1)], "failed"),
        ([weak("one", 1, 5, 1)], "before it was written"),
        ([weak("session", 2, 100, 2), weak("session", 1, 110, 1)], "goes back"),
        ([weak("session", 2, 100, 2), weak("session", 1, 110, 1, process=8)], None),
        ([weak("one", 2, 100, 2), weak("one", 1, 110, 1)], None),
    ],
)
def test_check_levels(reads: list[Operation], problem: str | None) -> None:
    writes = (write(1, 10, 1), write(2, 50, 2), write(3, 60, 0, Outcome.FAIL))
    problems = check_levels(History((*writes, *reads)))
    assert (problem is None and not problems) or any(str(problem) in found for found in problems)
