"""What the history of a register as a whole tells the search (see base.Plan).

With versions in the replies, and no deletes that would start them over, versions grow. With unique values
and nothing but reads and writes, each write and its reads are one block: nothing else can come in between,
so one operation of a block before one of another puts the whole block before it (Gibbons and Korach,
"Testing shared memories", 1997).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from replcache.verify.history import Operation, Value
from replcache.verify.models.base import ILLEGAL, Plan, State, Step
from replcache.verify.models.monotone import Bounds, order_by_growth

# Stands for every value that nobody read or compared with.
_UNSEEN: Final = "\0unseen"


def written_value(operation: Operation) -> Value:
    return operation.input if operation.op == "write" else operation.input[-1]


def value_read(operation: Operation) -> Value:
    return None if operation.output is None else operation.output[0]


def _seen_values(operations: Sequence[Operation]) -> set[Value]:
    seen: set[Value] = set()
    for operation in operations:
        if operation.op == "read" and operation.is_ok:
            seen.add(value_read(operation))
        elif operation.op in ("cas", "delete_if", "write_if"):
            seen.add(operation.input[0] if operation.op == "cas" else operation.input[1])
    return seen


def _only_writers(operations: Sequence[Operation]) -> dict[Value, int]:
    """Value -> number of the only operation that can have written it."""
    writers: dict[Value, int] = {}
    twice = set()
    for number, operation in enumerate(operations):
        if operation.op in ("write", "cas", "write_if"):
            value = written_value(operation)
            if value in writers:
                twice.add(value)
            writers[value] = number
    return {value: number for value, number in writers.items() if value not in twice}


# --- with versions -----------------------------------------------------------------------------------------


def versioned_plan(
    initial: State, step: Callable[[State, Operation], State], operations: Sequence[Operation]
) -> Plan:
    """For histories without deletes. States are (value, version), as in Register.step."""
    bounds: list[Bounds | None] = [_version_bounds(operation) for operation in operations]
    writers = _only_writers(operations)
    for operation in operations:  # a write that was read is told its version by the read
        if operation.op == "read" and operation.is_ok and operation.output is not None:
            value, version = operation.output
            writer = writers.get(value)
            if writer is not None and bounds[writer] is None and version is not None:
                bounds[writer] = (version - 1, version)
    after, viable = order_by_growth(bounds)
    seen = _seen_values(operations)
    steps: list[Step] = []
    names = []
    for operation, both in zip(operations, bounds, strict=True):
        known = operation
        if operation.op in ("write", "write_if") and written_value(operation) not in seen:
            given = _UNSEEN if operation.op == "write" else (*operation.input[:-1], _UNSEEN)
            known = replace(operation, input=given)
        names.append((known.op, known.input))
        steps.append(_at_version(step, known, None if both is None else both[0]))
    return Plan(initial, steps, after, viable=lambda done, state: viable(done, state[1]), names=names)


def _at_version(step: Callable[[State, Operation], State], operation: Operation, low: int | None) -> Step:
    if low is None:
        return lambda state: step(state, operation)
    return lambda state: step(state, operation) if state[1] == low else ILLEGAL


def _version_bounds(operation: Operation) -> Bounds | None:
    """The version before and after, where it was told."""
    if not operation.is_ok:
        return None
    output = operation.output
    match operation.op:
        case "read":
            if output is None:
                return 0, 0
            return None if output[1] is None else (output[1], output[1])
        case "write":
            return None if output is None else (output - 1, output)
        case "write_if" if output[0]:
            if output[1] is not None:
                return output[1] - 1, output[1]
            if operation.input[0] == "version":
                return operation.input[1], operation.input[1] + 1
            return (0, 1) if operation.input[0] == "absent" else None
    return None


# --- unique values without versions ------------------------------------------------------------------------


def blocks(
    initial: Value, operations: Sequence[Operation], useless: int
) -> tuple[list[int], dict[Value, int]] | None:
    """(Plan.after, Plan.leave) of a history of reads and unique writes; None: it is no such history."""
    if any(operation.op not in ("read", "write") for operation in operations):
        return None
    writers = _only_writers(operations)
    if initial in writers or len(writers) != sum(operation.op == "write" for operation in operations):
        return None
    reads: dict[Value, int] = {}
    members: dict[Value, list[int]] = {
        value: [number] for value, number in writers.items() if not useless >> number & 1
    }
    for number, operation in enumerate(operations):
        if operation.op == "read" and operation.is_ok:
            value = value_read(operation)
            reads[value] = reads.get(value, 0) | 1 << number
            members.setdefault(value, []).append(number)
    first_reads = reads.get(initial, 0)
    members.pop(initial, None)
    spans = [
        (
            value,
            min(operations[number].return_ns for number in numbers),
            max(operations[number].invoke_ns for number in numbers),
            sum(1 << number for number in numbers),
        )
        for value, numbers in members.items()
    ]
    after = [0] * len(operations)
    for value, mask in reads.items():
        for number in members.get(value, ()):
            if mask >> number & 1:  # what nobody wrote can't be read: such a read waits for itself
                after[number] = 1 << writers.get(value, number)
    for value, _, last_call_ns, _ in spans:
        if value in writers:
            after[writers[value]] = first_reads | sum(
                mask for other, end_ns, _, mask in spans if other != value and end_ns < last_call_ns
            )
    return after, reads
