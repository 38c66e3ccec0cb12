"""The models one by one: what each allows and forbids, and that what they call removable is."""

import random

import pytest

from replcache.verify.checker import Verdict, check
from replcache.verify.history import INFINITY_NS, Operation, Outcome
from replcache.verify.models import (
    ILLEGAL,
    MODELS,
    ExpiringRegister,
    FencedLock,
    Model,
    Register,
    model_named,
)
from replcache.verify.models.leases import MS
from tests.helpers.families import FAMILIES
from tests.helpers.linearizability import brute_force, random_history

UNTOLD = object()


def op(name: str, value: object, output: object, start_ms: int = 0, end_ms: int = 1) -> Operation:
    """output UNTOLD: the outcome is unknown."""
    if output is UNTOLD:
        return Operation(start_ms, start_ms, name, "k", value, None, start_ms * MS)
    return Operation(start_ms, start_ms, name, "k", value, output, start_ms * MS, end_ms * MS, Outcome.OK)


def walk(model: Model, *operations: Operation) -> object:
    """The state after all of them in this order, or ILLEGAL."""
    state = model.initial()
    for operation in operations:
        state = model.step(state, operation)
        if state is ILLEGAL:
            return ILLEGAL
    return state


W1 = op("write", 1, None)


@pytest.mark.parametrize(
    ("operations", "state"),
    [
        ([op("read", None, None)], (None, 0)),
        ([op("read", None, (1, None))], ILLEGAL),
        ([W1, op("read", None, (1, 1))], (1, 1)),
        ([W1, op("read", None, (1, 2))], ILLEGAL),
        ([W1, op("read", None, None)], ILLEGAL),
        ([W1, op("write", 2, 2)], (2, 2)),
        ([W1, op("write", 2, 3)], ILLEGAL),
        ([W1, op("cas", (1, 5), True)], (5, 2)),
        ([W1, op("cas", (2, 5), True)], ILLEGAL),
        ([W1, op("cas", (1, 5), False)], ILLEGAL),
        ([W1, op("cas", (2, 5), UNTOLD)], (1, 1)),
        ([op("write_if", ("absent", None, 3), (True, 1))], (3, 1)),
        ([W1, op("write_if", ("absent", None, 3), (False, None))], (1, 1)),
        ([W1, op("write_if", ("absent", None, 3), (True, 2))], ILLEGAL),
        ([op("write_if", ("present", None, 3), (False, None))], (None, 0)),
        ([W1, op("write_if", ("version", 1, 3), (True, 2))], (3, 2)),
        ([W1, op("write_if", ("version", 0, 3), (True, 2))], ILLEGAL),
        ([op("write_if", ("version", 0, 3), (True, 1))], (3, 1)),
        ([W1, op("write_if", ("value", 1, 3), (True, 2))], (3, 2)),
        ([W1, op("write_if", ("value", 2, 3), UNTOLD)], (1, 1)),
        ([W1, op("delete", None, True), op("write", 2, 1)], (2, 1)),
        ([W1, op("delete", None, False)], ILLEGAL),
        ([op("delete", None, False)], (None, 0)),
        ([W1, op("delete_if", ("version", 1), True)], (None, 0)),
        ([W1, op("delete_if", ("version", 2), True)], ILLEGAL),
    ],
)
def test_register_steps(operations: list[Operation], state: object) -> None:
    assert walk(Register(), *operations) == state


def verdict(*operations: Operation, model: Model | None = None) -> bool:
    result = check(operations, model or FencedLock(early_tolerance_ns=0))
    assert brute_force(operations, model or FencedLock(early_tolerance_ns=0)) == (
        result.verdict is Verdict.LINEARIZABLE
    )
    return result.verdict is Verdict.LINEARIZABLE


A = op("acquire", ("a", 50), 5, 0, 1)


@pytest.mark.parametrize(
    ("rest", "ok"),
    [
        # somebody else, while the lease holds, when it may be over, after a release
        ([op("acquire", ("b", 50), 6, 10, 20)], False),
        ([op("acquire", ("b", 50), 6, 10, 51)], True),
        ([op("acquire", ("b", 50), None, 10, 20)], True),
        ([op("release", ("a", 5), True, 2, 3), op("acquire", ("b", 50), 6, 10, 20)], True),
        ([op("release", ("a", 5), UNTOLD, 2), op("acquire", ("b", 50), 6, 10, 20)], True),
        ([op("release", ("a", 5), True, 2, 3), op("acquire", ("b", 50), None, 10, 20)], False),
        # tokens grow
        ([op("release", ("a", 5), True, 2, 3), op("acquire", ("b", 50), 5, 10, 20)], False),
        ([op("acquire", ("b", 50), 4, 60, 61)], False),
        # the same request again
        ([op("acquire", ("a", 50), 5, 10, 20)], True),
        ([op("acquire", ("a", 50), 6, 10, 20)], False),
        ([op("acquire", ("a", 50), 6, 60, 61)], True),
        # renewals
        ([op("renew", ("a", 5, 50), True, 40, 45), op("acquire", ("b", 50), 6, 60, 70)], False),
        ([op("renew", ("a", 5, 50), True, 40, 45), op("acquire", ("b", 50), 6, 60, 95)], True),
        ([op("renew", ("a", 5, 50), False, 10, 20)], False),
        ([op("renew", ("a", 5, 50), False, 10, 60)], True),
        ([op("renew", ("a", 4, 50), False, 10, 20)], True),
        # what was lost stays lost
        ([op("renew", ("a", 5, 50), False, 60, 61), op("renew", ("a", 5, 50), True, 70, 71)], False),
        # the fence
        ([op("append", (5, "x"), 1, 2, 3), op("read", None, ("x",), 4, 5)], True),
        ([op("append", (4, "x"), 1, 2, 3)], False),
        ([op("append", (4, "x"), False, 2, 3)], True),
        ([op("append", (5, "x"), False, 2, 3)], False),
        ([op("append", (5, "x"), False, 2, 53), op("append", (5, "y"), 1, 60, 61)], False),
        ([op("append", (5, "x"), UNTOLD, 2), op("read", None, ("x",), 4, 5)], True),
        # a refused append leaves no trace in the list
        (
            [
                op("append", (4, "y"), False, 2, 3),
                op("append", (5, "x"), 1, 4, 5),
                op("read", None, ("x",), 6, 7),
            ],
            True,
        ),
        # an acquire without reply got some token, and time does not go back
        ([op("release", ("a", 5), True, 2, 3), op("acquire", ("b", 50), UNTOLD, 4)], True),
        (
            [
                op("release", ("a", 5), True, 2, 3),
                op("acquire", ("b", 50), UNTOLD, 4),
                op("append", (7, "x"), 1, 6, 7),
                op("release", ("b", 0), True, 8, 9),
                op("acquire", ("c", 50), 7, 10, 11),
            ],
            False,
        ),
        ([op("acquire", ("b", 50), UNTOLD, 4), op("append", (6, "x"), 1, 6, 7)], False),
        ([op("acquire", ("b", 50), UNTOLD, 4), op("append", (6, "x"), 1, 6, 57)], True),
    ],
)
def test_fenced_lock(rest: list[Operation], ok: bool) -> None:
    assert verdict(A, *rest) == ok


W = op("write", ("v", 50), None, 0, 1)


@pytest.mark.parametrize(
    ("rest", "ok"),
    [
        ([op("read", None, "v", 10, 11)], True),
        ([op("read", None, None, 10, 11)], False),
        ([op("read", None, None, 48, 50)], True),
        ([op("read", None, None, 50, 51), op("read", None, "v", 52, 53)], False),
        ([op("read", None, "v", 60, 61)], True),
        ([op("read", None, "v", 62, 63)], False),
        ([op("touch", 50, True, 40, 41), op("read", None, None, 60, 61)], False),
        ([op("touch", 50, True, 40, 41), op("read", None, "v", 80, 81)], True),
        ([op("touch", 50, False, 10, 11)], False),
        ([op("touch", 50, False, 55, 56), op("read", None, None, 60, 61)], True),
        ([op("touch", 50, UNTOLD, 40), op("read", None, "v", 80, 81)], True),
        ([op("touch", 0, True, 40, 41), op("read", None, "v", 900, 901)], True),
        ([op("delete", None, True, 10, 11), op("read", None, None, 12, 13)], True),
        ([op("delete", None, False, 10, 11)], False),
        ([op("write", ("w", 0), None, 10, 11), op("read", None, "w", 900, 901)], True),
        ([op("write", ("w", 0), UNTOLD, 10), op("read", None, None, 900, 901)], True),
    ],
)
def test_expiring_register(rest: list[Operation], ok: bool) -> None:
    assert verdict(W, *rest, model=ExpiringRegister(0, 10 * MS)) == ok


def test_expiring_register_tolerates_what_it_is_told_to() -> None:
    early = [W, op("read", None, None, 40, 42)]
    assert not verdict(*early, model=ExpiringRegister(0, None))
    assert verdict(*early, model=ExpiringRegister(10 * MS, None))
    assert verdict(W, op("read", None, "v", 10**6, 10**6 + 1), model=ExpiringRegister(0, None))


@pytest.mark.parametrize("name", list(FAMILIES))
def test_removable_groups_leave_a_linearizable_history_linearizable(name: str, seed: int) -> None:
    family = FAMILIES[name]
    checked = 0
    for number in range(600):
        rng = random.Random(f"{seed}/{name}/{number}")
        operations = random_history(family, rng)
        counted = [op for op in operations if op.outcome is not Outcome.FAIL]
        if not brute_force(counted, family.model):
            continue
        groups = family.model.removable(counted)
        chosen = frozenset().union(*rng.sample(groups, rng.randint(0, len(groups))))
        left = [op for op in counted if op.id not in chosen]
        assert brute_force(left, family.model), "\n".join(map(str, [*operations, chosen]))
        checked += bool(chosen)
    assert checked > 20 or name == "mutex"


def test_weakened_operation_keeps_only_its_call() -> None:
    weak = A.weakened()
    assert (weak.op, weak.input, weak.invoke_ns) == (A.op, A.input, A.invoke_ns)
    assert (weak.outcome, weak.output, weak.return_ns) == (Outcome.UNKNOWN, None, INFINITY_NS)


@pytest.mark.parametrize("name", list(MODELS))
def test_models_refuse_operations_that_they_do_not_know(name: str) -> None:
    model = model_named(name)
    assert model.describe(model.initial())
    with pytest.raises(ValueError, match="knows no operation 'fly'"):
        model.step(model.initial(), op("fly", None, None))
    with pytest.raises(ValueError, match="fly"):
        check([op("fly", None, None)], model)


def test_model_named_refuses_unknown_names_and_options() -> None:
    with pytest.raises(ValueError, match="no model 'queue'"):
        model_named("queue")
    with pytest.raises(ValueError, match="model 'counter'"):
        model_named("counter", {"colour": 1})
