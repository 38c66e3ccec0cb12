"""A register: one key with reads, writes, conditions and versions, as the cache's Set, Get and Delete.

Operations (input -> output):
    read       null               -> null (missing) | [value, version | null]
    write      value              -> version | null (not told)
    cas        [expected, new]    -> true | false        compares the value; a missing key has value null
    write_if   [kind, operand, value] -> [held, version | null]   kind: absent, present, version, value
    delete     null               -> true | false (was there) | null (not told)
    delete_if  [kind, operand]    -> held

State: (value, version). Missing: (null, 0). A version counts the changes since the key was created; it
starts over after a delete. Version 0 in a condition means: missing.
"""

from collections.abc import Sequence
from typing import Final

from replcache.verify.history import Operation, Value
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step, unknown_operation
from replcache.verify.models.register_plans import blocks, value_read, versioned_plan, written_value

MISSING: Final = (None, 0)


class Register(Model):
    """Args: initial: value that the key has before the history; None: missing."""

    name = "register"

    def __init__(self, initial: Value = None) -> None:
        self._initial = initial

    def initial(self) -> State:
        return MISSING if self._initial is None else (self._initial, 1)

    def step(self, state: State, operation: Operation) -> State:
        match operation.op:
            case "read":
                return _read(state, operation)
            case "write":
                return _written(state, operation.input, operation.output)
            case "cas":
                expected, new = operation.input
                held = state[0] == expected
                if operation.is_ok and operation.output != held:
                    return ILLEGAL
                return (new, state[1] + 1) if held else state
            case "write_if":
                kind, operand, value = operation.input
                held = _holds(state, kind, operand)
                if operation.is_ok and operation.output[0] != held:
                    return ILLEGAL
                version = operation.output[1] if operation.is_ok else None
                return _written(state, value, version) if held else state
            case "delete":
                known = operation.is_ok and operation.output is not None
                return ILLEGAL if known and operation.output != (state[1] != 0) else MISSING
            case "delete_if":
                held = _holds(state, *operation.input)
                if operation.is_ok and operation.output != held:
                    return ILLEGAL
                return MISSING if held else state
        raise unknown_operation(self, operation)

    def plan(self, operations: Sequence[Operation]) -> Plan:
        """Without any version in the history the state is the bare value and writes are constants."""
        if any(_needs_version(operation) for operation in operations):
            if any(operation.op in ("delete", "delete_if") for operation in operations):
                return super().plan(operations)
            return versioned_plan(self.initial(), self.step, operations)
        steps = [self._plain(operation) for operation in operations]
        useless = _never_seen(operations)
        unique = blocks(self._initial, operations, useless)
        if unique is None:
            return Plan(self._initial, steps, useless=useless)
        after, leave = unique
        return Plan(self._initial, steps, after, useless, leave)

    def is_read(self, operation: Operation) -> bool:
        if operation.op in ("cas", "delete", "delete_if"):
            return operation.is_ok and operation.output is False
        if operation.op == "write_if":
            return operation.is_ok and operation.output[0] is False
        return operation.op == "read"

    def _plain(self, operation: Operation) -> Step:
        unknown = not operation.is_ok
        match operation.op:
            case "read":
                seen = None if operation.output is None else operation.output[0]
                return lambda state: state if unknown or state == seen else ILLEGAL
            case "write":
                value = operation.input
                return lambda state: value
            case "cas":
                expected, new = operation.input
                if unknown:
                    return lambda state: new if state == expected else state
                if operation.output:
                    return lambda state: new if state == expected else ILLEGAL
                return lambda state: ILLEGAL if state == expected else state
            case "write_if" | "delete" | "delete_if":
                step = self.step

                # MISSING is (None, 0); no version is observed, so any other number does for "present".
                def general(state: State) -> State:
                    after = step(MISSING if state is None else (state, 1), operation)
                    return ILLEGAL if after is ILLEGAL else after[0]

                return general
        raise unknown_operation(self, operation)

    def removable(self, operations: Sequence[Operation]) -> list[frozenset[int]]:
        """Reads; writes that nobody can have seen; and, where there is nothing but reads and writes, whole
        values (the only write, and all reads of it)."""
        groups = super().removable(operations)
        if any(_needs_version(operation) for operation in operations):
            return groups
        useless = _never_seen(operations)
        groups += [frozenset((op.id,)) for bit, op in enumerate(operations) if useless >> bit & 1]
        if any(operation.op not in ("read", "write") for operation in operations):
            return groups
        by_value: dict[Value, list[Operation]] = {}
        for operation in operations:
            if operation.op == "write":
                by_value.setdefault(operation.input, []).append(operation)
        for value, writes in by_value.items():
            if len(writes) != 1 or value == self._initial:
                continue
            seen = [op for op in operations if op.op == "read" and op.is_ok and value_read(op) == value]
            groups.append(frozenset(op.id for op in (*writes, *seen)))
        return groups

    def describe(self, state: State) -> str:
        value, version = state
        return "missing" if not version else f"{value!r} (version {version})"


def _read(state: State, operation: Operation) -> State:
    if not operation.is_ok:
        return state
    if operation.output is None:
        return state if state[0] is None else ILLEGAL
    value, version = operation.output
    if state[0] != value or (version is not None and version != state[1]):
        return ILLEGAL
    return state


def _written(state: State, value: Value, version: int | None) -> State:
    if version is not None and version != state[1] + 1:
        return ILLEGAL
    return (value, state[1] + 1)


def _holds(state: State, kind: str, operand: Value) -> bool:
    match kind:
        case "absent":
            return bool(state[1] == 0)
        case "present":
            return bool(state[1] != 0)
        case "version":
            return bool(state[1] == operand)
        case "value":
            return state[1] != 0 and bool(state[0] == operand)
    raise ValueError(f"no such condition: {kind!r}")


def _needs_version(operation: Operation) -> bool:
    match operation.op:
        case "read":
            return value_read(operation) is not None and operation.output[1] is not None
        case "write":
            return operation.is_ok and operation.output is not None
        case "write_if":
            told = operation.is_ok and operation.output[1] is not None
            return told or bool(operation.input[0] == "version")
        case "delete_if":
            return bool(operation.input[0] == "version")
    return False


def _never_seen(operations: Sequence[Operation]) -> int:
    """Unknown writes (and cas) of values that nobody read or compared with.

    Only where every other operation is a read, a write or a cas: such a write can be left out of any
    linearization, because whatever came between it and the next write neither read nor expected its value
    (a cas that answered false, though, may have needed just any other value).
    """
    seen: set[Value] = set()
    for operation in operations:
        if operation.op == "read":
            seen.add(value_read(operation))
        elif operation.op == "cas":
            if operation.is_ok and not operation.output:
                return 0
            seen.add(operation.input[0])
        elif operation.op != "write":
            return 0
    return sum(
        1 << bit
        for bit, operation in enumerate(operations)
        if operation.is_unknown and operation.op != "read" and written_value(operation) not in seen
    )
