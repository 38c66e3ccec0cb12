"""Checks that need one pass: counters by bounds, sets, banks and long forks.

They ask for less than linearizability, and so also judge histories in which reads are only eventually
consistent (final reads of a set) or see several objects at once (a bank). The definitions follow Jepsen's
checkers of the same names. Each returns what is wrong, one sentence an item; empty: nothing.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate, combinations

from replcache.verify.history import History, Operation, Outcome, Value


def check_counter_bounds(history: History, initial: int = 0) -> list[str]:
    """Each read must lie between what surely was added before it and all that may have been added by then.

    Operations: add (input: delta), read (output: value).
    """
    adds = [op for op in history.operations if op.op == "add" and op.outcome is not Outcome.FAIL]
    called = _Sums([(op.invoke_ns, op.input) for op in adds])
    returned = _Sums([(op.return_ns, op.input) for op in adds])
    problems = []
    for read in history.operations:
        if read.op != "read" or not read.is_ok or read.output is None:
            continue
        down, up = called.until(read.return_ns)
        down_surely, up_surely = returned.until(read.invoke_ns)
        lowest, highest = initial + down + up_surely, initial + up + down_surely
        if not lowest <= read.output <= highest:
            problems.append(f"{read} is not within {lowest}..{highest}")
    return problems


class _Sums:
    """Sums of the negative and of the positive numbers with a time before a given one."""

    def __init__(self, numbers: list[tuple[int, int]]) -> None:
        numbers.sort()
        self._times = [time for time, _ in numbers]
        self._down = [0, *accumulate(min(number, 0) for _, number in numbers)]
        self._up = [0, *accumulate(max(number, 0) for _, number in numbers)]

    def until(self, time: int) -> tuple[int, int]:
        count = bisect_left(self._times, time)
        return self._down[count], self._up[count]


def check_set(history: History) -> list[str]:
    """The last read has every element whose add succeeded, and none that nobody tried to add."""
    reads = [op for op in history.operations if op.op == "read" and op.is_ok]
    if not reads:
        return ["the set was never read"]
    final = max(reads, key=lambda op: op.return_ns)
    seen = set(final.output or ())
    adds = [op for op in history.operations if op.op == "add"]
    tried = {op.input for op in adds if op.outcome is not Outcome.FAIL}
    lost = sorted(repr(op.input) for op in adds if op.is_ok and op.input not in seen)
    strange = sorted(map(repr, seen - tried))
    problems = [f"lost: {_some(lost)}"] if lost else []
    return problems + ([f"never added: {_some(strange)}"] if strange else [])


def check_set_full(history: History, *, linearizable: bool = False) -> list[str]:
    """For each added element, by all reads: lost, stale (with linearizable), seen twice, or never added.

    Lost: some read that began after the element was known (its add returned, or a read saw it) lacks it,
    and no later read has it again. An element that no read could show is not judged.
    """
    reads = [op for op in history.operations if op.op == "read" and op.is_ok]
    reads.sort(key=lambda op: op.invoke_ns)
    adds = {op.input: op for op in history.operations if op.op == "add" and op.outcome is not Outcome.FAIL}
    problems: list[str] = []
    contents = [frozenset(read.output or ()) for read in reads]
    for read, content in zip(reads, contents, strict=True):
        if len(content) != len(read.output or ()):
            problems.append(f"#{read.id} has an element twice")
        strange = sorted(repr(element) for element in content if element not in adds)
        if strange:
            problems.append(f"#{read.id} has what nobody added: {_some(strange)}")
    lost, stale = [], []
    for element, add in adds.items():
        having = [read for read, content in zip(reads, contents, strict=True) if element in content]
        known_ns = min(
            [read.return_ns for read in having] + ([add.return_ns] if add.is_ok else []), default=None
        )
        if known_ns is None:
            continue
        last_seen_ns = max((read.invoke_ns for read in having), default=-1)
        lacking = [
            read
            for read, content in zip(reads, contents, strict=True)
            if element not in content and read.invoke_ns > known_ns
        ]
        if any(read.invoke_ns > last_seen_ns for read in lacking):
            lost.append(repr(element))
        elif lacking:
            stale.append(repr(element))
    if lost:
        problems.append(f"lost: {_some(sorted(lost))}")
    if stale and linearizable:
        problems.append(f"stale: {_some(sorted(stale))}")
    return problems


def check_bank(history: History, total: int | None = None, *, negative_balances: bool = False) -> list[str]:
    """Every read of all accounts has the same total, and no account is below zero.

    Operations: read (output: {account: balance}), transfer. `total` None: that of the first read.
    """
    problems = []
    for read in history.operations:
        if read.op != "read" or not read.is_ok or not read.output:
            continue
        balances = [balance for _, balance in _pairs(read.output)]
        if any(balance is None for balance in balances):
            problems.append(f"#{read.id} lacks the balance of an account")
            continue
        total = sum(balances) if total is None else total
        if sum(balances) != total:
            problems.append(f"#{read.id} reads a total of {sum(balances)} instead of {total}")
        if not negative_balances and min(balances) < 0:
            problems.append(f"#{read.id} reads a balance of {min(balances)}")
    return problems


def check_long_fork(history: History) -> list[str]:
    """Two reads of the same keys, each written once, must not see the writes in opposite orders."""
    groups: dict[frozenset[Value], list[tuple[Operation, Mapping[Value, Value]]]] = {}
    for operation in history.operations:
        if operation.op not in ("txn", "read") or not operation.is_ok:
            continue
        parts: Sequence[tuple[str, Value, Value]] = operation.output or ()
        if len(parts) > 1 and all(action in ("r", "read") for action, _, _ in parts):
            seen = {key: value for _, key, value in parts}
            groups.setdefault(frozenset(seen), []).append((operation, seen))
    problems = []
    for reads in groups.values():
        for (first, one), (second, other) in combinations(reads, 2):
            differing = [key for key in one if (one[key] is None) != (other[key] is None)]
            if any(one[key] is None for key in differing) and any(other[key] is None for key in differing):
                problems.append(f"#{first.id} and #{second.id} see the writes in opposite orders")
    return problems


def _pairs(balances: Value) -> Sequence[tuple[Value, Value]]:
    return list(balances.items()) if isinstance(balances, dict) else list(balances)


def _some(items: Sequence[str]) -> str:
    shown = ", ".join(items[:10])
    return shown if len(items) <= 10 else f"{shown} and {len(items) - 10} more"
