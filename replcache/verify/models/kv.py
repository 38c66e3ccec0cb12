"""Key-value strings and several registers at once.

StringStore (get, put, append on strings; a missing key is the empty string):
    get     null    -> string
    put     string  -> null
    append  string  -> null

MultiRegister (transactions over registers; not partitioned, because one operation may touch many keys):
    txn  [["read" | "r", key, null] | ["write" | "w", key, value], ...] -> the same with the reads filled in

Mutex (a lock without owners or tokens):
    acquire  null -> null
    release  null -> null
"""

from collections.abc import Hashable, Mapping, Sequence

from replcache.verify.history import Operation, Value
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step, unknown_operation


class StringStore(Model):
    name = "kv"

    def initial(self) -> State:
        return ""

    def step(self, state: State, operation: Operation) -> State:
        match operation.op:
            case "get":
                return state if not operation.is_ok or (operation.output or "") == state else ILLEGAL
            case "put":
                return operation.input
            case "append":
                return state + operation.input
        raise unknown_operation(self, operation)

    def plan(self, operations: Sequence[Operation]) -> Plan:
        """An append may only lead to what somebody saw, or what nobody looked at any more.

        Where no put follows, a string only grows; so as long as the longest observation has not been
        reached, each value on the way must be a prefix of it. With puts this holds for none of the values,
        and the definition is used as it is.
        """
        if any(operation.op == "put" for operation in operations):
            return super().plan(operations)
        longest = max(
            (op.output or "" for op in operations if op.op == "get" and op.is_ok), key=len, default=""
        )
        return Plan(0, [_grow(longest, operation) for operation in operations])


def _grow(longest: str, operation: Operation) -> Step:
    """Steps on lengths: below len(longest) the state is longest[:length]; above, nobody saw it."""
    if operation.op == "append":
        text: str = operation.input

        def append(length: int) -> State:
            after = length + len(text)
            if length >= len(longest):
                return after
            # Overshooting the longest observation makes it impossible as much as differing from it.
            return after if longest.startswith(text, length) else ILLEGAL

        return append
    if operation.op != "get":
        raise unknown_operation(StringStore(), operation)
    if not operation.is_ok:
        return lambda length: length
    seen: str = operation.output or ""
    if not longest.startswith(seen):
        return lambda length: ILLEGAL
    return lambda length: length if length == len(seen) else ILLEGAL


class MultiRegister(Model):
    """Args: initial: values before the history; keys not named are missing (None)."""

    name = "multi-register"

    def __init__(self, initial: Mapping[str, Value] | None = None) -> None:
        self._initial = tuple(sorted((initial or {}).items()))

    def partition_of(self, operation: Operation) -> Hashable:
        return ""

    def initial(self) -> State:
        return self._initial

    def step(self, state: State, operation: Operation) -> State:
        if operation.op != "txn":
            raise unknown_operation(self, operation)
        values = dict(state)
        parts = operation.output if operation.is_ok and operation.output is not None else operation.input
        if not _answers(operation.input, parts):
            return ILLEGAL
        for action, key, value in parts:
            if action in ("read", "r"):
                if operation.is_ok and values.get(key) != value:
                    return ILLEGAL
            elif action in ("write", "w"):
                values[key] = value
            else:
                raise unknown_operation(self, operation)
        return tuple(sorted(values.items()))

    def is_read(self, operation: Operation) -> bool:
        return all(action in ("read", "r") for action, _, _ in operation.input or ())


def _answers(called: Value, ended: Value) -> bool:
    """Whether the reply is one to this call: the same parts, and the same values written."""
    if len(called) != len(ended):
        return False
    return all(
        before[:2] == after[:2] and (before[0] in ("read", "r") or before[2] == after[2])
        for before, after in zip(called, ended, strict=True)
    )


class Mutex(Model):
    name = "mutex"

    def initial(self) -> State:
        return False

    def step(self, state: State, operation: Operation) -> State:
        if operation.op not in ("acquire", "release"):
            raise unknown_operation(self, operation)
        acquire = operation.op == "acquire"
        return acquire if state is not acquire else ILLEGAL
