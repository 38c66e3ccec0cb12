"""Reads of weaker levels, judged by what they promise.

    session  never goes back: the revisions that one process sees (its reads and its acknowledged writes) only
             grow, and with them the values.
    one      any committed state; a reply that states a bound holds every write that was acknowledged longer
             ago than that.

Both: a value that is read was written, by a call that had begun and did not certainly fail. Needs replies
with revisions (Operation.revision); the operations are those of the register workload.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from replcache.verify.history import History, Operation, Outcome


def is_weak(operation: Operation) -> bool:
    """Whether the operation is a read that linearizability is not promised for."""
    return operation.level not in ("", "linearizable")


def check_levels(history: History) -> list[str]:
    """What is wrong with the weak reads, one sentence each; empty: nothing."""
    reads = [op for op in history.operations if is_weak(op) and op.is_ok]
    problems = [*_unwritten(history, reads), *_going_back(history.operations)]
    return problems + list(_staler_than_said(history, reads))


def _written_value(operation: Operation) -> object:
    return operation.input[2] if operation.op == "write_if" else operation.input


def _unwritten(history: History, reads: Sequence[Operation]) -> Iterator[str]:
    writers = {
        (op.key, _written_value(op)): op for op in history.operations if op.op in ("write", "write_if")
    }
    for read in reads:
        if read.output is None:
            continue
        writer = writers.get((read.key, read.output[0]))
        refused = writer is not None and writer.op == "write_if" and writer.is_ok and not writer.output[0]
        if writer is None or writer.outcome is Outcome.FAIL or refused:
            yield f"{read}: nobody wrote this, or the write was refused or failed"
        elif writer.invoke_ns > read.return_ns:
            yield f"{read}: read before it was written by {writer}"


def _going_back(operations: Sequence[Operation]) -> Iterator[str]:
    """Within one process: the revision of a session read is not below any that it was told before."""
    seen: dict[int, Operation] = {}
    for operation in sorted(operations, key=lambda op: op.return_ns):
        if not operation.is_ok or not operation.revision:
            continue
        last = seen.get(operation.process)
        if operation.level == "session" and last is not None and operation.revision < last.revision:
            yield f"{operation} (revision {operation.revision}) goes back behind {last} ({last.revision})"
        if last is None or operation.revision >= last.revision:
            seen[operation.process] = operation


def _staler_than_said(history: History, reads: Sequence[Operation]) -> Iterator[str]:
    """The highest revision acknowledged (of any key) before the read began, minus its bound."""
    writes = sorted(
        (op.return_ns, op.revision)
        for op in history.operations
        if op.op in ("write", "write_if") and op.is_ok and op.revision
    )
    times = [time_ns for time_ns, _ in writes]
    highest = [0]
    for _, revision in writes:
        highest.append(max(highest[-1], revision))
    for read in reads:
        if read.staleness_ns < 0 or not read.revision:
            continue
        needed = highest[bisect_left(times, read.invoke_ns - read.staleness_ns)]
        if read.revision < needed:
            bound_ms = read.staleness_ns / 1e6
            yield f"{read} says at most {bound_ms:.0f} ms old, but lacks revision {needed} ({read.revision})"
