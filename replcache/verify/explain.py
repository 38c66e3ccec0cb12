"""Why a history is not linearizable: the smallest part of it that still is not.

Shrinking must be sound: what is left over is only a proof if the same would follow from the whole history.
Three steps keep that:

  - cutting off the future: operations called later are dropped, those that return later become unknown;
  - leaving out operations without which a linearizable history would stay linearizable (Model.removable:
    reads, refusals, whole values);
  - forgetting replies: a known operation becomes one with unknown outcome, which allows more.

They are applied by delta debugging (Zeller and Hildebrandt, 2002), largest parts first, as long as the
search still answers "no" within its budget.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from replcache.clock import Clock, SystemClock
from replcache.verify.checker import PartitionResult, Verdict
from replcache.verify.history import INFINITY_NS, Operation
from replcache.verify.models import Model
from replcache.verify.search import Found, Partial, Search

T = TypeVar("T")
BUDGET_S: Final = 5.0
# Parts that take longer than this to refute are no better explanation. Many forgotten replies make a search
# long, and most such tries are in vain.
_STEP_BUDGET_S: Final = 0.5
_CONFIGURATIONS_MAX: Final = 3_000
_ORDER_BUDGET_S: Final = 1.0
_ORDER_CONFIGURATIONS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is wrong with one partition.

    prefix: how many of its operations return within the longest linearizable prefix.
    breaking: the operation whose reply makes the prefix that ends with it impossible.
    core: smallest contradiction found, in call order: replies that can't all be true.
    others: operations that could have had effects among them, at any time from their call on or never; none
        of this makes the core possible. Their own replies, where known, are not needed.
    order: longest partial linearization of the whole partition (operation ids).
    unplaceable: operations that could come next by their times, but fit after no order that was found.
    """

    partition: str
    model: str
    operations: tuple[Operation, ...]
    prefix: int
    breaking: Operation
    core: tuple[Operation, ...]
    others: tuple[Operation, ...]
    order: tuple[int, ...]
    unplaceable: tuple[int, ...]
    final_state: str

    def text(self) -> str:
        """For a terminal."""
        by_id = {operation.id: operation for operation in self.operations}
        lines = [
            f"key {self.partition!r} is not linearizable as {self.model}: "
            f"{self.prefix} of its {len(self.operations)} operations are, then this one is not possible:",
            f"  {self.breaking}",
            f"smallest contradiction found: these {len(self.core)} replies can't all be true",
        ]
        lines += [f"  {self._with_times(operation)}" for operation in self.core]
        if self.others:
            lines.append(f"whatever, and whenever, {len(self.others)} other operations did:")
            lines += [f"  {self._with_times(operation)}" for operation in self.others[-10:]]
        lines.append(
            f"the longest order found has {len(self.order)} operations and ends in: {self.final_state}"
        )
        lines += [f"  can't come next: {by_id[number]}" for number in self.unplaceable[:10]]
        return "\n".join(lines)

    def _with_times(self, operation: Operation) -> str:
        start_ns = min(op.invoke_ns for op in (*self.core, *self.others))
        begin, end = self._time(operation.invoke_ns, start_ns), self._time(operation.return_ns, start_ns)
        return f"{begin:>11} to {end:>11}  {operation}"

    def _time(self, time_ns: int, start_ns: int) -> str:
        """Milliseconds; plain numbers where times are just positions in a file."""
        if time_ns == INFINITY_NS:
            return "..."
        if max(op.invoke_ns for op in self.operations) < 1_000_000:
            return str(time_ns)
        return f"{(time_ns - start_ns) / 1e6:.3f} ms"


class _Judge:
    """Answers "certainly not linearizable?" within a budget."""

    def __init__(self, model: Model, clock: Clock, budget_s: float) -> None:
        self.model = model
        self._clock = clock
        self._end_s = clock.now() + budget_s

    @property
    def is_over(self) -> bool:
        return self._clock.now() >= self._end_s

    def refutes(self, operations: Sequence[Operation]) -> bool:
        until_s = min(self._end_s, self._clock.now() + _STEP_BUDGET_S)
        search = Search(operations, self.model)
        return search.run(self._clock, until_s, _CONFIGURATIONS_MAX) is Found.NO


def explain(
    bad: PartitionResult, model: Model, *, budget_s: float = BUDGET_S, clock: Clock | None = None
) -> Explanation:
    """Explains a partition with verdict VIOLATION.

    Raises:
        ValueError: the partition is not a violation.
    """
    if bad.verdict is not Verdict.VIOLATION:
        raise ValueError(f"partition {bad.partition!r} is {bad.verdict.value}; only violations are explained")
    clock = clock or SystemClock()
    judge = _Judge(model, clock, budget_s)
    partial = _longest_order(bad.operations, model, clock)
    count, breaking = _longest_prefix(bad.operations, judge)
    core = _cut(bad.operations, breaking.return_ns)
    if not judge.refutes(core):  # out of budget: the whole partition is known to be bad
        core = list(bad.operations)
    core = _without_groups(core, judge)
    core = _with_replies_forgotten(core, breaking, judge)
    core = _without_groups(core, judge)
    original = {operation.id: operation for operation in bad.operations}
    core.sort(key=lambda op: op.invoke_ns)
    return Explanation(
        partition=bad.partition,
        model=model.name,
        operations=bad.operations,
        prefix=count,
        breaking=breaking,
        core=tuple(operation for operation in core if not operation.is_unknown),
        others=tuple(original[operation.id] for operation in core if operation.is_unknown),
        order=partial.order,
        unplaceable=partial.stuck,
        final_state=_final_state(model, bad.operations, partial.order),
    )


def _longest_order(operations: Sequence[Operation], model: Model, clock: Clock) -> Partial:
    """As far as a search comes that does not know beforehand that it is in vain."""
    search = Search(operations, model, guided=False)
    search.run(clock, clock.now() + _ORDER_BUDGET_S, _ORDER_CONFIGURATIONS_MAX)
    return search.best()


def _final_state(model: Model, operations: Sequence[Operation], order: Sequence[int]) -> str:
    by_id = {operation.id: operation for operation in operations}
    state = model.initial()
    for number in order:
        state = model.step(state, by_id[number])
    return model.describe(state)


def _cut(operations: Iterable[Operation], time_ns: int) -> list[Operation]:
    """What was known at that moment."""
    started = (operation for operation in operations if operation.invoke_ns <= time_ns)
    return [op if op.return_ns <= time_ns or op.is_unknown else op.weakened() for op in started]


def _longest_prefix(operations: Sequence[Operation], judge: _Judge) -> tuple[int, Operation]:
    """(operations that return within the longest linearizable prefix, the one that returns next).

    Prefixes of linearizable histories are linearizable, so bisection finds the border. Where the budget
    does not suffice for a prefix it counts as linearizable, which only makes the prefix longer.
    """
    known = sorted((op for op in operations if not op.is_unknown), key=lambda op: op.return_ns)
    good, bad = 0, len(known)  # prefixes of this many returns
    while bad - good > 1:
        middle = (good + bad) // 2
        if judge.refutes(_cut(operations, known[middle - 1].return_ns)):
            bad = middle
        else:
            good = middle
    return bad - 1, known[bad - 1]


def _without_groups(core: list[Operation], judge: _Judge) -> list[Operation]:
    def left(groups: Iterable[frozenset[int]]) -> list[Operation]:
        gone = frozenset().union(*groups)
        return [operation for operation in core if operation.id not in gone]

    while not judge.is_over:
        groups = judge.model.removable(core)
        removed = _largest(groups, lambda chosen: judge.refutes(left(chosen)), judge)
        if not removed:
            break
        core = left(removed)
    return core


def _with_replies_forgotten(core: list[Operation], breaking: Operation, judge: _Judge) -> list[Operation]:
    candidates = [op.id for op in core if not op.is_unknown and op.id != breaking.id]

    def weakened(chosen: Iterable[int]) -> list[Operation]:
        forget = set(chosen)
        return [op.weakened() if op.id in forget else op for op in core]

    return weakened(_largest(candidates, lambda chosen: judge.refutes(weakened(chosen)), judge))


def _largest(items: Sequence[T], still_bad: Callable[[Sequence[T]], bool], judge: _Judge) -> list[T]:
    """A maximal set of items that can be taken away together (delta debugging on the complement)."""
    taken: list[T] = []
    size = len(items)
    left = list(items)
    while size >= 1 and left and not judge.is_over:
        index = 0
        while index < len(left):
            part = left[index : index + size]
            if still_bad([*taken, *part]):
                taken += part
                del left[index : index + size]
            else:
                index += size
            if judge.is_over:
                break
        size //= 2
    return taken
