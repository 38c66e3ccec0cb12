"""An oracle for the checker, and random small histories for it.

The oracle tries every order with nothing but the model's `step`: no bit sets, no memory of configurations,
no shortcuts. Usable up to about eight operations.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from replcache.verify.history import INFINITY_NS, Operation, Outcome, Value
from replcache.verify.models import ILLEGAL, Model, State
from replcache.verify.models.leases import MS


def brute_force(operations: Sequence[Operation], model: Model) -> bool:
    """Whether a history of ONE partition is linearizable."""
    counted = [op for op in operations if op.outcome is not Outcome.FAIL]
    return _search(model.initial(), counted, model)


def _search(state: State, left: Sequence[Operation], model: Model) -> bool:
    if not any(op.is_ok for op in left):
        return True
    for index, operation in enumerate(left):
        rest = [*left[:index], *left[index + 1 :]]
        if any(other.return_ns < operation.invoke_ns for other in rest):
            continue
        after = model.step(state, operation)
        if after is not ILLEGAL and _search(after, rest, model):
            return True
    return False


@dataclass(frozen=True)
class Family:
    """How random histories of one model look: random calls, the reply of the true object, and a wrong one."""

    model: Model
    call: Callable[[random.Random], tuple[str, Value]]
    outputs: Callable[[random.Random, State, str, Value], list[Value]]


def random_history(
    family: Family, rng: random.Random, size_max: int = 6, unknown_share: float = 0.15
) -> list[Operation]:
    """A history of a true object, whose replies or times are then sometimes changed.

    Every operation takes effect at a moment within its interval, with one of the replies that the model
    allows there; about half of the histories get one reply from another moment or another operation.
    """
    size = rng.randint(1, size_max)
    # Often no two events have the same time, sometimes many do.
    times = (
        rng.sample(range(1, 40), 2 * size) if rng.random() < 0.7 else rng.choices(range(1, 12), k=2 * size)
    )
    calls = []
    for number in range(size):
        invoke, back = sorted((times[2 * number], times[2 * number + 1]))
        name, value = family.call(rng)
        calls.append(
            (rng.uniform(invoke, back), Operation(number, number, name, "k", value, None, invoke * MS))
        )
        calls[-1] = (calls[-1][0], replace(calls[-1][1], return_ns=back * MS, outcome=Outcome.OK))
    state = family.model.initial()
    done: list[Operation] = []
    for _, operation in sorted(calls, key=lambda item: item[0]):
        unknown = replace(operation, outcome=Outcome.UNKNOWN, output=None, return_ns=INFINITY_NS)
        fate = rng.random()
        if fate < 0.1:  # never happened
            done.append(replace(operation, outcome=Outcome.FAIL) if fate < 0.05 else unknown)
            continue
        legal = [
            (output, after)
            for output in family.outputs(rng, state, operation.op, operation.input)
            if (after := family.model.step(state, replace(operation, output=output))) is not ILLEGAL
        ]
        if not legal:
            done.append(replace(operation, outcome=Outcome.FAIL))
            continue
        output, state = rng.choice(legal)
        done.append(unknown if fate < 0.1 + unknown_share else replace(operation, output=output))
    return _disturbed(family, rng, done)


def _disturbed(family: Family, rng: random.Random, operations: list[Operation]) -> list[Operation]:
    known = [index for index, op in enumerate(operations) if op.is_ok]
    if not known or rng.random() < 0.5:
        return operations
    index = rng.choice(known)
    victim = operations[index]
    kind = rng.random()
    if kind < 0.5:  # the same call at another time, or twice; other operations may have the same times
        start, end = sorted(rng.sample(range(1, 40), 2))
        moved = replace(victim, invoke_ns=start * MS, return_ns=end * MS)
        if kind < 0.25:
            return [*operations, replace(moved, id=len(operations), process=len(operations))]
        return [*operations[:index], moved, *operations[index + 1 :]]
    replies = [op.output for op in operations if op.is_ok and op.op == victim.op]
    replies += family.outputs(rng, family.model.initial(), victim.op, victim.input)
    return [*operations[:index], replace(victim, output=rng.choice(replies)), *operations[index + 1 :]]
