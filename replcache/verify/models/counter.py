"""A counter: integer additions and reads, as the cache's Increment.

Operations (input -> output):
    add    delta   -> the new value | null (not told)
    read   null    -> the value | null (missing: nothing was ever added)

State: the value; None while missing.
"""

from collections.abc import Sequence

from replcache.verify.history import Operation
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step, unknown_operation


class Counter(Model):
    """Args: initial: value before the history; None: missing, and the first addition counts from 0."""

    name = "counter"

    def __init__(self, initial: int | None = None) -> None:
        self._initial = initial

    def initial(self) -> State:
        return self._initial

    def step(self, state: State, operation: Operation) -> State:
        if operation.op == "read":
            return state if not operation.is_ok or operation.output == state else ILLEGAL
        if operation.op == "add":
            value = (state or 0) + operation.input
            told = operation.is_ok and operation.output is not None
            return ILLEGAL if told and operation.output != value else value
        raise unknown_operation(self, operation)

    def plan(self, operations: Sequence[Operation]) -> Plan:
        return Plan(self._initial, [self._bind(operation) for operation in operations])

    def _bind(self, operation: Operation) -> Step:
        output = operation.output
        if operation.op == "read" and operation.is_ok:
            return lambda state: state if state == output else ILLEGAL
        if operation.op == "add":
            delta: int = operation.input
            if output is None or not operation.is_ok:
                return lambda state: (state or 0) + delta
            before: int = output - delta
            return lambda state: output if (state or 0) == before else ILLEGAL
        return super()._bind(operation)

    def describe(self, state: State) -> str:
        return "missing" if state is None else str(state)
