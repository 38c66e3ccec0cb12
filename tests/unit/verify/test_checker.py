"""The checker against the oracle, on many small histories, and its verdicts at the edges."""

import random
from collections import Counter as Tally

import pytest

from replcache.verify.checker import Verdict, check
from replcache.verify.history import INFINITY_NS, Operation, Outcome
from replcache.verify.models import AppendList, Counter, Register
from tests.helpers.families import FAMILIES
from tests.helpers.linearizability import brute_force, random_history

# Sixteen families: 11,200 histories.
HISTORIES_PER_FAMILY = 700


@pytest.mark.parametrize("name", list(FAMILIES))
def test_check_on_random_small_histories_agrees_with_brute_force(name: str, seed: int) -> None:
    """Goal: no shortcut of search or plans changes a verdict."""
    family = FAMILIES[name]
    verdicts: Tally[bool] = Tally()
    for number in range(HISTORIES_PER_FAMILY):
        operations = random_history(family, random.Random(f"{seed}/{name}/{number}"))
        expected = brute_force(operations, family.model)
        result = check(operations, family.model)
        told = "\n".join(map(str, operations))
        wanted = Verdict.LINEARIZABLE if expected else Verdict.VIOLATION
        assert result.verdict is wanted, f"history {number}:\n{told}"
        verdicts[expected] += 1
    print(verdicts)
    assert min(verdicts[True], verdicts[False]) >= HISTORIES_PER_FAMILY // 100, "one-sided histories"


@pytest.mark.parametrize("name", ["register", "conditions", "versions", "counter", "append", "exactly-once"])
def test_check_with_many_unknown_outcomes_agrees_with_brute_force(name: str, seed: int) -> None:
    """Goal: which unknown operations were used on the way to a configuration is not mixed up."""
    family = FAMILIES[name]
    for number in range(300):
        rng = random.Random(f"{seed}/{name}/{number}")
        operations = random_history(family, rng, size_max=8, unknown_share=0.45)
        result = check(operations, family.model)
        told = "\n".join(map(str, operations))
        assert (result.verdict is Verdict.LINEARIZABLE) == brute_force(operations, family.model), told


def op(
    number: int, name: str, value: object, output: object, start: int, end: int | None, key: str = "k"
) -> Operation:
    """A known operation; end None: its outcome is unknown."""
    if end is None:
        return Operation(number, number, name, key, value, None, start)
    return Operation(number, number, name, key, value, output, start, end, Outcome.OK)


def test_check_without_operations_is_linearizable() -> None:
    assert check([], Register()).verdict is Verdict.LINEARIZABLE


def test_check_of_unknown_write_read_later_is_linearizable() -> None:
    history = [
        op(0, "write", 1, None, 0, None),
        op(1, "read", None, None, 5, 6),
        op(2, "read", None, (1, None), 7, 8),
    ]
    assert check(history, Register()).verdict is Verdict.LINEARIZABLE


def test_check_of_unknown_write_read_before_its_call_is_a_violation() -> None:
    history = [op(0, "read", None, (1, None), 0, 1), op(1, "write", 1, None, 2, None)]
    assert check(history, Register()).verdict is Verdict.VIOLATION


def test_check_of_failed_write_that_was_read_is_a_violation() -> None:
    failed = Operation(0, 0, "write", "k", 1, None, 0, 1, Outcome.FAIL)
    assert check([failed, op(1, "read", None, (1, None), 2, 3)], Register()).verdict is Verdict.VIOLATION


def test_check_splits_by_key_and_names_the_bad_one() -> None:
    good = [op(n, "write", n, None, 2 * n, 2 * n + 1, key="good") for n in range(5)]
    bad = [op(10, "write", 1, None, 0, 1, key="bad"), op(11, "read", None, None, 2, 3, key="bad")]
    result = check([*good, *bad], Register())
    assert result.verdict is Verdict.VIOLATION
    assert result.bad is not None
    assert result.bad.partition == "bad"


def test_check_write_of_present_value_may_be_needed_later() -> None:
    """A write that changes nothing where it could go first must not be taken in early."""
    history = [
        op(0, "write", 1, None, 0, 1),
        op(1, "write", 1, None, 2, 9),
        op(2, "write", 2, None, 3, 4),
        op(3, "read", None, (1, None), 5, 6),
    ]
    assert check(history, Register()).verdict is Verdict.LINEARIZABLE


def test_check_unknown_write_that_nobody_read_may_explain_a_failed_cas() -> None:
    history = [
        op(0, "write", 1, None, 0, 1),
        op(1, "write", 3, None, 2, None),
        op(2, "cas", (1, 2), False, 4, 5),
    ]
    assert check(history, Register()).verdict is Verdict.LINEARIZABLE


class TickingClock:
    """Each look costs a second."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now(self) -> float:
        self.time_s += 1.0
        return self.time_s


def hard_history(width: int) -> list[Operation]:
    """Concurrent additions of different numbers, one below zero, and a read that no subset explains."""
    adds = [op(n, "add", (2 << n) if n else -1, None, n, 1000 + n) for n in range(width)]
    return [*adds, op(width, "read", None, 1 << 40, 500, 2000)]


def test_check_out_of_time_is_undecided_and_no_pass() -> None:
    result = check(hard_history(16), Counter(), time_budget_s=10.0, clock=TickingClock())
    assert result.verdict is Verdict.UNDECIDED
    assert result.verdict.exit_code == 2
    assert result.bad is not None


def test_check_out_of_configurations_is_undecided() -> None:
    assert check(hard_history(16), Counter(), configurations_max=100).verdict is Verdict.UNDECIDED


def test_check_undecided_key_does_not_hide_the_violation_of_another() -> None:
    bad = [op(100, "read", None, 7, 0, 1, key="bad")]
    slow = [*hard_history(16)]
    result = check([*slow, *bad], Counter(), time_budget_s=10.0, clock=TickingClock())
    assert result.verdict is Verdict.VIOLATION


def test_check_partial_linearization_respects_time_and_model(rng: random.Random) -> None:
    family = FAMILIES["register"]
    for _ in range(200):
        operations = random_history(family, rng)
        result = check(operations, family.model)
        for part in result.partitions:
            by_id = {operation.id: operation for operation in part.operations}
            state = family.model.initial()
            placed: list[Operation] = []
            for number in part.partial.order:
                state = family.model.step(state, by_id[number])
                assert not any(by_id[number].return_ns < before.invoke_ns for before in placed)
                placed.append(by_id[number])
            known = {operation.id for operation in part.operations if operation.is_ok}
            complete = known <= set(part.partial.order)
            assert complete == (part.verdict is Verdict.LINEARIZABLE)


def test_check_wide_appends_without_reads_between_is_quick() -> None:
    """A long list whose order only the last read tells must not be guessed."""
    appends = [op(n, "append", n, None, n, n + 12) for n in range(180)]
    order = sorted(range(180), key=lambda n: (n // 6, -n))
    result = check([*appends, op(180, "read", None, tuple(order), 400, 401)], AppendList())
    assert result.verdict is Verdict.LINEARIZABLE
    assert result.configurations < 5000


def test_check_unknown_return_is_infinite() -> None:
    assert op(0, "write", 1, None, 0, None).return_ns == INFINITY_NS
