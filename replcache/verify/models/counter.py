"""A counter: integer additions and reads, as the cache's Increment.

Operations of Counter (input -> output):
    add    delta   -> the new value | null (not told)
    read   null    -> the value | null (missing: nothing was ever added)
State: the value; None while missing.

OnceCounter has instead of add:
    add_once  [delta, request_id]  -> the new value | null (not told)
Calls with equal request_id are tries of one addition: whichever comes first adds, and all are told the same.
State: (value, set of (request_id, reply)).
"""

from collections import Counter as Tally
from collections.abc import Sequence

from replcache.verify.history import Operation, Value
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step, unknown_operation
from replcache.verify.models.monotone import Bounds, order_by_growth


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
        """With additions above zero only, the value grows and orders all that were told it."""
        steps = [self._bind(operation) for operation in operations]
        if not all(op.input > 0 for op in operations if op.op == "add"):
            return Plan(self._initial, steps)
        start = self._initial or 0
        after, viable = order_by_growth([_bounds(op, op.input, start) for op in operations])
        return Plan(self._initial, steps, after, viable=lambda done, state: viable(done, state or 0))

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


def _bounds(operation: Operation, delta: int | None, start: int) -> Bounds | None:
    """The value before and after, where it was told."""
    if not operation.is_ok:
        return None
    if operation.op == "read":
        value = start if operation.output is None else operation.output
        return value, value
    if operation.output is None or delta is None:
        return None
    return operation.output - delta, operation.output


class OnceCounter(Model):
    name = "exactly-once"

    def initial(self) -> State:
        return (None, frozenset())

    def step(self, state: State, operation: Operation) -> State:
        value, replies = state
        if operation.op == "read":
            return state if not operation.is_ok or operation.output == value else ILLEGAL
        if operation.op != "add_once":
            raise unknown_operation(self, operation)
        delta, request_id = operation.input
        told = operation.output if operation.is_ok else None
        reply = next((reply for known, reply in replies if known == request_id), None)
        after = state
        if reply is None:
            reply = (value or 0) + delta
            after = (reply, replies | {(request_id, reply)})
        return ILLEGAL if told is not None and told != reply else after

    def plan(self, operations: Sequence[Operation]) -> Plan:
        """Only requests that were sent more than once need to be remembered. The value grows as for Counter,
        but a reply to a repeated request tells nothing of its own moment."""
        for operation in operations:
            if operation.op not in ("read", "add_once"):
                raise unknown_operation(self, operation)
        sent: Tally[Value] = Tally(op.input[1] for op in operations if op.op == "add_once")
        steps = [self._forgetful(op, sent) for op in operations]
        if not all(op.input[0] > 0 for op in operations if op.op == "add_once"):
            return Plan(self.initial(), steps)
        bounds = [
            None if op.op != "read" and sent[op.input[1]] > 1 else _bounds(op, (op.input or (0,))[0], 0)
            for op in operations
        ]
        after, viable = order_by_growth(bounds)
        return Plan(self.initial(), steps, after, viable=lambda done, state: viable(done, state[0] or 0))

    def _forgetful(self, operation: Operation, sent: Tally[Value]) -> Step:
        if operation.op != "add_once" or sent[operation.input[1]] > 1:
            return self._bind(operation)
        delta, told = operation.input[0], operation.output if operation.is_ok else None

        def add(state: State) -> State:
            value = (state[0] or 0) + delta
            return ILLEGAL if told is not None and told != value else (value, state[1])

        return add

    def describe(self, state: State) -> str:
        return "missing" if state[0] is None else str(state[0])
