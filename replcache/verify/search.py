"""The search for a linearization of one partition of a history.

Wing and Gong's search in Lowe's form ("Testing for linearizability", 2017; Horn and Kroening, "Faster
linearizability checking via P-compositionality", 2015): a configuration is the set of operations that have
taken effect and the state they led to; configurations that were seen are not entered again. The next
operation is always one that was called before the first return among the operations still missing.

What makes it quick enough in Python:
  - Sets of operations are bits of one integer, known operations numbered by their return. The first missing
    one is the lowest zero bit, and the candidates are one precomputed mask.
  - An operation that never changes a state (Model.is_read) takes effect as soon as its reply fits: in any
    linearization that goes on from here it can be moved to here. So reads cost no branches. This is wrong
    for writes that happen to change nothing here: at their later place they may be needed.
  - Operations with an unknown outcome need not take effect. Of two configurations with equal state and equal
    known operations, the one that used fewer unknown ones can do all that the other can (a subset is kept
    on purpose: they are compared by inclusion, not by number).
  - Of several equal calls with equal replies the one that returns first goes first (exchange argument).
  - The model's plan may order operations that every linearization orders the same way (Plan.after).

A search can be continued: `run` stops at its budget and goes on at the next call, so many partitions can
share one budget fairly.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any, Final

from replcache.clock import Clock
from replcache.verify.history import INFINITY_NS, Operation, Outcome
from replcache.verify.models.base import ILLEGAL, Model, Plan, State

# Looking at the clock costs about a tenth of a configuration.
_CONFIGURATIONS_PER_LOOK: Final = 256
_COMPARED_MAX: Final = 64


class Found(Enum):
    YES = "yes"
    NO = "no"
    NOT_YET = "not yet"


@dataclass(frozen=True, slots=True)
class Partial:
    """A longest partial linearization: operation ids in the order of their effects, and what comes after.

    stuck: known operations that could have come next by their times, but no order found lets them.
    """

    order: tuple[int, ...]
    stuck: tuple[int, ...]


# A configuration on the way: (set, state, parent, operation that led here). The greedy no-ops between parent
# and child are the bits that differ.
_Node = tuple[int, State, Any, int]


class Search:
    """One partition.

    Args:
        operations: of one partition, in any order; definite failures are dropped.
        guided: use what the plan knows of the whole history. Without it a search is slower, but its partial
            linearization shows how far one can come.
    """

    def __init__(self, operations: Sequence[Operation], model: Model, *, guided: bool = True) -> None:
        known = sorted((op for op in operations if op.is_ok), key=lambda op: (op.return_ns, op.invoke_ns))
        unknown = sorted(
            (op for op in operations if op.outcome is Outcome.UNKNOWN), key=lambda op: op.invoke_ns
        )
        self.operations = [*known, *unknown]
        self.configurations = 0
        self._known_count = len(known)
        self._known_mask = (1 << len(known)) - 1
        plan = model.plan(self.operations)
        if not guided:
            plan = Plan(plan.initial, plan.steps)
        self._steps = list(plan.steps)
        self._after = list(plan.after) or [0] * len(self.operations)
        self._candidates = self._candidate_masks(plan.useless)
        self._leave, self._viable = plan.leave, plan.viable
        self._twins = self._twin_masks(plan.names) if model.timeless else [0] * len(self.operations)
        self._reads = sum(1 << bit for bit, operation in enumerate(known) if model.is_read(operation))
        root: _Node = (0, plan.initial, None, -1)
        self._stack: list[_Node] = [root]
        self._best: _Node = root
        self._best_size = 0
        self._entered: set[tuple[int, State]] = set()
        # (known operations, state) -> sets of unknown operations used to get there
        self._seen: dict[tuple[int, State], list[int]] = {}
        self._result = Found.NO if plan.after and self._is_circular() else Found.NOT_YET

    def _is_circular(self) -> bool:
        """Whether the plan's order and the order in time contradict each other: no search is needed then.

        Takes away operation by operation what nothing that is left must precede. A known operation that
        stays waits for a circle; so does an unknown one, if a known one waits for it.
        """
        returned = [0] * len(self.operations)
        by_return = 0
        by_call = sorted(range(len(self.operations)), key=lambda bit: self.operations[bit].invoke_ns)
        position = 0
        for bit in by_call:  # known operations are numbered by their return
            while (
                position < self._known_count
                and self.operations[position].return_ns < self.operations[bit].invoke_ns
            ):
                by_return |= 1 << position
                position += 1
            returned[bit] = by_return
        left = (1 << len(self.operations)) - 1
        waiting = by_call
        while waiting:
            stuck = []
            for bit in waiting:
                if (returned[bit] | self._after[bit]) & left:
                    stuck.append(bit)
                else:
                    left ^= 1 << bit
            if len(stuck) == len(waiting):
                break
            waiting = stuck
        return bool(left & self._known_mask)

    def _candidate_masks(self, useless: int) -> list[int]:
        """For each known operation: all that were called before it returned."""
        by_call = sorted(
            (bit for bit in range(len(self.operations)) if not useless >> bit & 1),
            key=lambda bit: self.operations[bit].invoke_ns,
        )
        masks: list[int] = []
        mask = position = 0
        for operation in self.operations[: self._known_count]:
            while position < len(by_call):
                bit = by_call[position]
                if self.operations[bit].invoke_ns > operation.return_ns:
                    break
                mask |= 1 << bit
                position += 1
            masks.append(mask)
        return masks

    def _twin_masks(self, names: Sequence[Hashable]) -> list[int]:
        """For each operation: equal ones that go first when both could."""
        masks = [0] * len(self.operations)
        groups: dict[Hashable, int] = {}
        for bit, operation in enumerate(self.operations):
            called = names[bit] if names else (operation.op, operation.input)
            name = (operation.outcome, called, operation.output)
            masks[bit] = groups.get(name, 0)
            groups[name] = masks[bit] | 1 << bit
        return masks

    def run(self, clock: Clock, until_s: float, configurations_max: int) -> Found:
        """Searches on until there is an answer, the clock reaches until_s, or the limit of configurations."""
        if self._result is not Found.NOT_YET:
            return self._result
        stack = self._stack
        look = 0
        while stack:
            look += 1
            if look % _CONFIGURATIONS_PER_LOOK == 0 and clock.now() >= until_s:
                return Found.NOT_YET
            if self.configurations >= configurations_max:
                return Found.NOT_YET
            if self._enter(stack.pop()):
                self._result = Found.YES
                break
        else:
            self._result = Found.NO
        # The answer is all that is needed from here on; the tables can be large.
        self._entered, self._seen, self._stack = set(), {}, []
        return self._result

    def _enter(self, node: _Node) -> bool:
        """Takes in the reads that fit, then puts the successors on the stack. True: all are placed."""
        done, state, _, _ = node
        known_mask, reads = self._known_mask, self._reads
        steps, after, twins = self._steps, self._after, self._twins
        self.configurations += 1
        tried = 0
        next_steps: list[tuple[int, State]] = []
        while True:
            missing = ~done & known_mask
            if not missing:
                self._best = (done, state, node[2], node[3])
                return True
            first = (missing & -missing).bit_length() - 1
            candidates = self._candidates[first] & ~done
            untried = candidates & ~tried
            grown = False
            while untried:
                bit = untried & -untried
                untried ^= bit
                number = bit.bit_length() - 1
                if after[number] & ~done or twins[number] & candidates:
                    continue
                tried |= bit
                reached = steps[number](state)
                if reached is ILLEGAL:
                    continue
                if bit & reads:
                    done |= bit
                    candidates ^= bit
                    grown = True
                    continue
                if bit > known_mask and reached == state:
                    continue  # without a known reply, an operation that changes nothing need not take place
                next_steps.append((bit, reached))
            if not grown:
                break
        if next_steps and self._leave.get(state, 0) & ~done:
            next_steps = [(bit, reached) for bit, reached in next_steps if reached == state]
        if next_steps or (done & known_mask).bit_count() > self._best_size:
            self._push((done, state, node[2], node[3]), next_steps)
        return False

    def _push(self, node: _Node, next_steps: list[tuple[int, State]]) -> None:
        done, state = node[0], node[1]
        known = done & self._known_mask
        if known.bit_count() > self._best_size:
            self._best, self._best_size = node, known.bit_count()
        used = done >> self._known_count
        others = self._seen.setdefault((known, state), [])
        # The first are the smallest, as a rule; looking at all of many would cost more than it saves.
        if any(other & used == other for other in islice(others, _COMPARED_MAX)):
            return
        others.append(used)
        entered, stack, viable = self._entered, self._stack, self._viable
        for bit, reached in reversed(next_steps):
            key = (done | bit, reached)
            if key not in entered and (viable is None or viable(*key)):
                entered.add(key)
                stack.append((done | bit, reached, node, bit.bit_length() - 1))

    def best(self) -> Partial:
        """The longest linearization found (a complete one when the answer is yes)."""
        parts: list[list[int]] = []
        node: _Node | None = self._best
        while node is not None:
            done, _, parent, number = node
            before = parent[0] if parent is not None else 0
            led = [number] if number >= 0 else []
            greedy = done & ~before & ~(1 << number if number >= 0 else 0)
            parts.append(led + _bits(greedy))
            node = parent
        order = [number for part in reversed(parts) for number in part]
        stuck = self._stuck(self._best[0])
        name = [operation.id for operation in self.operations]
        return Partial(tuple(name[number] for number in order), tuple(name[number] for number in stuck))

    def _stuck(self, done: int) -> list[int]:
        missing = ~done & self._known_mask
        if not missing:
            return []
        first = (missing & -missing).bit_length() - 1
        return _bits(self._candidates[first] & missing)

    @property
    def cost(self) -> tuple[int, int]:
        """A guess that only orders partitions: unknown operations are what makes a search long."""
        unknown = sum(1 for operation in self.operations if operation.return_ns == INFINITY_NS)
        return (len(self.operations) + 4 * unknown, unknown)


def _bits(mask: int) -> list[int]:
    result = []
    while mask:
        bit = mask & -mask
        mask ^= bit
        result.append(bit.bit_length() - 1)
    return result
