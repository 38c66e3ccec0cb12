"""Settings in the log: guards and namespaces. Each change has a revision; saying the same again has none."""

from typing import TYPE_CHECKING

from replcache.statemachine.commands import GuardRemove, GuardSet, NamespaceRemove, NamespaceSet
from replcache.statemachine.results import ChangeResult, Refusal

if TYPE_CHECKING:
    from replcache.statemachine.machine import StateMachine


def apply_guard_set(machine: "StateMachine", op: GuardSet) -> ChangeResult | Refusal:
    changed = machine.guards.set(op.prefix, op.lock)
    return changed if isinstance(changed, Refusal) else _result(machine, changed)


def apply_guard_remove(machine: "StateMachine", op: GuardRemove) -> ChangeResult:
    return _result(machine, machine.guards.remove(op.prefix))


def apply_namespace_set(machine: "StateMachine", op: NamespaceSet) -> ChangeResult | Refusal:
    store = machine.store
    before = store.namespaces.freeze()
    refusal = store.namespaces.set(op.name, op.prefix, op.max_bytes, op.policy, bool(store.rows))
    return refusal if refusal is not None else _result(machine, store.namespaces.freeze() != before)


def apply_namespace_remove(machine: "StateMachine", op: NamespaceRemove) -> ChangeResult:
    return _result(machine, machine.store.namespaces.remove(op.name))


def _result(machine: "StateMachine", changed: bool) -> ChangeResult:
    return ChangeResult(changed, machine.turn.next_revision() if changed else machine.revision)
