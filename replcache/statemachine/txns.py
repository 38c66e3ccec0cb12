"""Transactions: compare, then one of two lists of operations, as one atomic step under one revision."""

from typing import TYPE_CHECKING

from replcache.statemachine.commands import Txn
from replcache.statemachine.conditions import check_condition
from replcache.statemachine.results import Refusal, TxnResult

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine


def apply_txn(machine: "StateMachine", op: Txn) -> TxnResult | Refusal:
    """All compares and held locks hold: then_ops; otherwise else_ops. A refused operation undoes its list."""
    for compare in op.compares:
        # What is dead ends before the transaction looks.
        machine.store.bury_if_dead(compare.key)
    succeeded = all(
        check_condition(compare.condition, machine.store.peek(compare.key)) is None for compare in op.compares
    ) and all(machine.locks.check_fence(fence) is None for fence in op.held)
    results = machine.execute_atomic(op.then_ops if succeeded else op.else_ops)
    if isinstance(results, Refusal):
        return results
    return TxnResult(succeeded, results, machine.revision)
