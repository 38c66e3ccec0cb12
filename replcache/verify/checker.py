"""The verdict on a history: is there an order of its operations that the model allows and that respects time?

The history is split into partitions (keys) that are judged apart; it is linearizable when each of them is
(P-compositionality: Herlihy and Wing 1990, theorem 1). Cheap partitions come first, and the first bad one
ends the work. A partition that needs longer than its slice waits until the others had theirs; when the
budget ends before an answer, the verdict is UNDECIDED, which no caller may take for a pass.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from replcache.clock import Clock, SystemClock
from replcache.verify.history import History, Operation, Outcome
from replcache.verify.models.base import Model
from replcache.verify.search import Found, Partial, Search

TIME_BUDGET_S: Final = 60.0
# Up to half a kilobyte each: a search must not eat the machine that it runs on.
CONFIGURATIONS_MAX: Final = 1_500_000
_FIRST_SLICE_S: Final = 0.5


class Verdict(Enum):
    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    # Time or memory ran out. Counts as a failure, never as a pass.
    UNDECIDED = "undecided"
    # The history does not fulfil the assumptions, so that neither answer would mean anything.
    INVALID = "invalid"

    @property
    def exit_code(self) -> int:
        """0 linearizable, 1 violation, 2 no verdict."""
        return {Verdict.LINEARIZABLE: 0, Verdict.VIOLATION: 1}.get(self, 2)


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """What was found out about one partition. `operations` are those that count (no definite failures)."""

    partition: str
    verdict: Verdict
    operations: tuple[Operation, ...]
    configurations: int
    seconds: float
    partial: Partial


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict; `bad` is the partition that decided it, when it is not LINEARIZABLE.

    With VIOLATION, `partitions` holds those judged until then; others may be bad too.
    """

    verdict: Verdict
    model: str
    partitions: tuple[PartitionResult, ...]
    seconds: float
    bad: PartitionResult | None = None

    @property
    def configurations(self) -> int:
        return sum(part.configurations for part in self.partitions)


class _Job:
    def __init__(self, partition: Hashable, operations: Sequence[Operation], model: Model) -> None:
        self.partition = str(partition)
        self.search = Search(operations, model)
        self.seconds = 0.0
        self.found = Found.NOT_YET

    def run(self, clock: Clock, until_s: float, configurations_max: int) -> None:
        start = clock.now()
        self.found = self.search.run(clock, until_s, configurations_max)
        self.seconds += clock.now() - start

    def result(self) -> PartitionResult:
        verdict = {
            Found.YES: Verdict.LINEARIZABLE,
            Found.NO: Verdict.VIOLATION,
            Found.NOT_YET: Verdict.UNDECIDED,
        }[self.found]
        return PartitionResult(
            self.partition,
            verdict,
            tuple(sorted(self.search.operations, key=lambda op: op.invoke_ns)),
            self.search.configurations,
            self.seconds,
            self.search.best(),
        )


def check(
    history: History | Iterable[Operation],
    model: Model,
    *,
    time_budget_s: float = TIME_BUDGET_S,
    configurations_max: int = CONFIGURATIONS_MAX,
    clock: Clock | None = None,
) -> CheckResult:
    """Judges a history. Does not look at its assumptions (history.broken_assumptions).

    Args:
        history: the operations, all keys together.
        model: the sequential behaviour of one partition.
        time_budget_s: seconds for all partitions together; UNDECIDED when they do not suffice.
        configurations_max: limit for each partition, which bounds memory.

    Raises:
        ValueError: an operation that the model does not know, or with input that it can't read.
    """
    clock = clock or SystemClock()
    start_s = clock.now()
    end_s = start_s + time_budget_s
    jobs = [_Job(name, group, model) for name, group in partitions(_operations(history), model).items()]
    waiting = sorted(jobs, key=lambda job: job.search.cost)
    slice_s = _FIRST_SLICE_S
    bad: _Job | None = None
    while waiting and bad is None and clock.now() < end_s:
        left: list[_Job] = []
        for job in waiting:
            job.run(clock, min(end_s, clock.now() + slice_s), configurations_max)
            if job.found is Found.NO:
                bad = job
                break
            if job.found is Found.NOT_YET and job.search.configurations < configurations_max:
                left.append(job)
        waiting = left
        slice_s *= 2
    return _summary(model, jobs, bad, clock.now() - start_s)


def _summary(model: Model, jobs: Sequence[_Job], bad: _Job | None, seconds: float) -> CheckResult:
    results = [job.result() for job in jobs if job.found is not Found.NOT_YET or bad is None]
    if bad is not None:
        found = next(part for part in results if part.verdict is Verdict.VIOLATION)
        return CheckResult(Verdict.VIOLATION, model.name, tuple(results), seconds, found)
    undecided = next((part for part in results if part.verdict is Verdict.UNDECIDED), None)
    verdict = Verdict.LINEARIZABLE if undecided is None else Verdict.UNDECIDED
    return CheckResult(verdict, model.name, tuple(results), seconds, undecided)


def _operations(history: History | Iterable[Operation]) -> Iterable[Operation]:
    return history.operations if isinstance(history, History) else history


def partitions(operations: Iterable[Operation], model: Model) -> dict[Hashable, list[Operation]]:
    """The operations that count, by partition, in the order of first appearance."""
    result: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        if operation.outcome is not Outcome.FAIL:
            result.setdefault(model.partition_of(operation), []).append(operation)
    return result
