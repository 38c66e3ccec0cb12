"""Values that only grow: a list with appends, and a set with additions.

Such objects tell more than registers: every read shows the whole past. All reads of a list must be prefixes
of one list, so the longest read fixes the order of all that it holds; a set's read says for each addition
whether it came before or after. The plans use this to leave (almost) nothing to search.

Operations of AppendList (input -> output):
    append  x      -> length after it | the list after it | null (not told)
    read    null   -> list | null (missing, the same as empty)

Operations of GrowSet:
    add     x      -> null
    read    null   -> list of the elements, in any order | null (missing)
"""

from collections.abc import Iterable, Sequence

from replcache.verify.history import Operation, Value
from replcache.verify.models.base import ILLEGAL, Model, Plan, State, Step, unknown_operation
from replcache.verify.models.monotone import Bounds, order_by_growth


class PrefixOrder:
    """The order that all complete observations of an append-only list must agree upon.

    With it the state of the list is just its length: shorter than the longest observation, the list must be
    a prefix of it (or that observation could never happen any more); longer, nobody saw its content.
    """

    def __init__(self, observations: Iterable[tuple[Value, ...]]) -> None:
        self._longest: tuple[Value, ...] = max(observations, key=len, default=())

    def has(self, element: Value) -> bool:
        return element in self._longest

    def agrees(self, observation: tuple[Value, ...]) -> bool:
        return self._longest[: len(observation)] == observation

    def may_append(self, length: int, element: Value) -> bool:
        return length >= len(self._longest) or bool(self._longest[length] == element)


class AppendList(Model):
    name = "append"

    def initial(self) -> State:
        return ()

    def step(self, state: State, operation: Operation) -> State:
        output = operation.output
        if operation.op == "read":
            return state if not operation.is_ok or (output or ()) == state else ILLEGAL
        if operation.op == "append":
            after = (*state, operation.input)
            if operation.is_ok and output is not None:
                seen = after if isinstance(output, tuple) else len(after)
                return after if seen == output else ILLEGAL
            return after
        raise unknown_operation(self, operation)

    def plan(self, operations: Sequence[Operation]) -> Plan:
        order = PrefixOrder(filter(None, map(observed_list, operations)))
        after, viable = order_by_growth([_list_bounds(operation) for operation in operations])
        steps = [_list_step(order, operation) for operation in operations]
        # Elements that nobody saw are alike.
        names = [(op.op, op.input if op.op == "read" or order.has(op.input) else None) for op in operations]
        return Plan(0, steps, after, viable=viable, names=names)

    def describe(self, state: State) -> str:
        return repr(list(state))


def observed_list(operation: Operation) -> tuple[Value, ...] | None:
    """The complete list that the operation saw; None when it saw none."""
    if not operation.is_ok:
        return None
    if operation.op == "read":
        return operation.output or ()
    return operation.output if isinstance(operation.output, tuple) else None


def _list_bounds(operation: Operation) -> Bounds | None:
    """The length before and after, where it was told."""
    seen = observed_list(operation)
    if operation.op == "read" or not operation.is_ok:
        return None if seen is None else (len(seen), len(seen))
    length = operation.output if seen is None else len(seen)
    return None if length is None else (length - 1, length)


def _list_step(order: PrefixOrder, operation: Operation) -> Step:
    seen = observed_list(operation)
    if seen is not None and not order.agrees(seen):
        return lambda length: ILLEGAL
    if operation.op == "read":
        if seen is None:
            return lambda length: length
        expected = len(seen)
        return lambda length: length if length == expected else ILLEGAL
    if operation.op != "append":
        raise unknown_operation(AppendList(), operation)
    element, may_append = operation.input, order.may_append
    told = len(seen) if seen is not None else operation.output if operation.is_ok else None
    if seen is not None and seen[-1:] != (element,):
        return lambda length: ILLEGAL
    if told is None:
        return lambda length: length + 1 if may_append(length, element) else ILLEGAL
    before = told - 1
    return lambda length: told if length == before and may_append(length, element) else ILLEGAL


class GrowSet(Model):
    name = "set"

    def initial(self) -> State:
        return frozenset()

    def step(self, state: State, operation: Operation) -> State:
        if operation.op == "read":
            same = not operation.is_ok or frozenset(operation.output or ()) == state
            return state if same else ILLEGAL
        if operation.op == "add":
            return state | {operation.input}
        raise unknown_operation(self, operation)

    def plan(self, operations: Sequence[Operation]) -> Plan:
        """States are bit sets of elements. An addition comes after each read that lacks the element, and,
        where it is the only one of its element, before each read that has it."""
        bits: dict[Value, int] = {}
        for operation in operations:
            for element in _elements(operation):
                bits.setdefault(element, 1 << len(bits))
        adders: dict[Value, int] = {}
        for bit, operation in enumerate(operations):
            if operation.op == "add":
                adders[operation.input] = adders.get(operation.input, 0) | 1 << bit
        after = [0] * len(operations)
        steps: list[Step] = []
        for bit, operation in enumerate(operations):
            if operation.op == "add":
                steps.append(_set_add(bits[operation.input]))
            elif operation.op == "read":
                if not operation.is_ok:
                    steps.append(lambda state: state)
                    continue
                seen = frozenset(operation.output or ())
                steps.append(_set_read(sum(bits[element] for element in seen)))
                for element, mask in adders.items():
                    if element in seen:
                        after[bit] |= mask if mask.bit_count() == 1 else 0
                        continue
                    for adder in range(len(operations)):
                        if mask >> adder & 1:
                            after[adder] |= 1 << bit
            else:
                raise unknown_operation(self, operation)
        return Plan(0, steps, after)

    def describe(self, state: State) -> str:
        return "{" + ", ".join(sorted(map(repr, state))) + "}"


def _elements(operation: Operation) -> Iterable[Value]:
    if operation.op == "add":
        return (operation.input,)
    return (operation.output or ()) if operation.is_ok else ()


def _set_add(bit: int) -> Step:
    return lambda state: state | bit


def _set_read(mask: int) -> Step:
    return lambda state: state if state == mask else ILLEGAL
